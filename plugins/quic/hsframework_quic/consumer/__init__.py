"""The consumer's end of a session: a connection and its streams, blocking and over asyncio."""
