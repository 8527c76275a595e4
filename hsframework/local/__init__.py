"""What processes of one host say to each other: packets with file descriptors, sealed files, deadlines, places."""
