"""Sources of requests: consumers in user space, and the kernel."""
