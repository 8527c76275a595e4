"""What several commands share: options, and how they are carried out."""
