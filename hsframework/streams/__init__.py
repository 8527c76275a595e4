"""For plugin authors: the streams that ``hsframework_attach_session`` gives to consumers, blocking and over asyncio.

A session that lives in user space is written once, without I/O, as a :class:`UserSpaceSession`.  Both kinds of stream
then come from it::

    channel = UserSpaceChannel(socket, MySession(...))
    return AsyncioStream(channel) if asynchronous else BlockingStream(channel)

What partial writes, timeouts, cancellation and two threads ask for is done here.  A session that the kernel keeps, or
one that has more to it, implements :class:`Channel` itself.
"""

from hsframework.streams.asynchronous import AsyncioStream
from hsframework.streams.blocking import BlockingStream
from hsframework.streams.channel import Channel, UserSpaceChannel, UserSpaceSession

__all__ = ["AsyncioStream", "BlockingStream", "Channel", "UserSpaceChannel", "UserSpaceSession"]
