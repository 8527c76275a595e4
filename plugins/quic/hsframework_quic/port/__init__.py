"""The gate of a listening UDP port, which admits clients by their first datagrams."""
