"""The agents' socket: join, accept, done, PSK-LOOKUP and restore, one link for each worker.

The dispatcher offers its agents the same service as the kernel offers the dispatcher.

* ``server``: accepts links.
* ``connection``: the link of one agent, from its first message to its end.
* ``operations``: a table of the operations that each phase allows, and those on groups: join, leave, accept.
* ``in_hand``: the operations on requests that an agent has in hand.
"""

from hsframework.dispatcher.agents.server import AgentServer

__all__ = ["AgentServer"]
