"""The configuration: its dataclasses, and the readers of its files."""
