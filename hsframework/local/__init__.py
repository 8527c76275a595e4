"""Communication between the processes of one host: packets with file descriptors, sealed files, deadlines, places."""
