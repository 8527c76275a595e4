"""Requests: their life cycle as a table, their queues and limits, and the core that takes the steps."""
