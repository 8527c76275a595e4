"""The life of requests: their table, their queues and limits, and the core that moves them on."""
