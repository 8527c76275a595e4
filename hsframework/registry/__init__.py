"""The registry of installed plugins: found, tried, checked, and called with guards."""
