"""Sessions that were made and are still open: their peers, and their end when a peer is out."""
