"""The configuration: its dataclasses, and the files that it is read from."""
