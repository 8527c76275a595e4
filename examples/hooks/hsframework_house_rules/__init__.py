"""Plugins that serve no protocol."""
