"""Streams over sessions, blocking and over asyncio, for plugins to return from ``hsframework_attach_session``.

A session that lives in user space is written once, without I/O, as a :class:`UserSpaceSession`.  Both kinds of stream
are built on it::

    channel = UserSpaceChannel(socket, MySession(...))
    return AsyncioStream(channel) if asynchronous else BlockingStream(channel)

Partial writes, timeouts, cancellation and use from two threads are handled here.  A session in the kernel, or one with
needs of its own, implements :class:`Channel` itself.
"""

from hsframework.streams.asynchronous import AsyncioStream
from hsframework.streams.blocking import BlockingStream
from hsframework.streams.channel import Channel, UserSpaceChannel, UserSpaceSession

__all__ = ["AsyncioStream", "BlockingStream", "Channel", "UserSpaceChannel", "UserSpaceSession"]
