"""The registry of installed plugins: discovery, trial imports, checks, and guarded calls of their hooks."""
