"""What a process asks of the kernel for itself: capabilities, limits, locked memory, keyrings, forks."""
