"""The agents' socket: join, accept, done, PSK-LOOKUP and restore, one connection for each agent process.

The dispatcher offers here what the kernel offers to it.

* ``server``: accepts connections.
* ``connection``: one agent's, from its first message to its end.
* ``operations``: what an agent may ask for in which phase, as a table, and how it is done.
"""

from hsframework.dispatcher.agents.server import AgentServer

__all__ = ["AgentServer"]
