"""Keys and trust: loaded from files, found in the kernel's keyrings, handed to agents."""
