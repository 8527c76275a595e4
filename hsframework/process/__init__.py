"""Settings of a process itself: capabilities, limits, locked memory, keyrings, forks, signals."""
