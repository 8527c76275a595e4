"""The consumer's end of a session that was handed over: a connection and its streams, blocking and over asyncio."""
