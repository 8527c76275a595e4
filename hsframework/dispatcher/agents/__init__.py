"""The agents' socket."""

from hsframework.dispatcher.agents.connection import AgentServer

__all__ = ["AgentServer"]
