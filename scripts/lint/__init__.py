"""Checks of what the project writes for its readers, run by ``make lint``: :mod:`.references` and :mod:`.prose`."""
