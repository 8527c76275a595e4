"""A program for test_messages.py: the local family has an attribute :data:`NAME` that no code knows."""

from __future__ import annotations

import asyncio
import logging
from functools import cache
from importlib import resources
from typing import Any

import structlog
import yaml

from hsframework.netlink import spec

NAME = "an-attribute-that-is-new"
"""A name that no attribute will have."""

VALUE = "blue"


def _with_one_more() -> spec.Specification:
    specs = resources.files("hsframework.netlink") / "specs"
    tree = yaml.safe_load((specs / "local.yaml").read_text("utf-8"))
    sensitive = (specs / "local.sensitive.yaml").read_text("utf-8")
    (attributes,) = (item["attributes"] for item in tree["attribute-sets"] if item["name"] == "request")
    attributes.append({"name": NAME, "type": "string"})
    forms = {operation["name"]: operation.get("do", {}) for operation in tree["operations"]["list"]}
    forms["submit"]["request"]["attributes"].append(NAME)
    forms["accept"]["reply"]["attributes"].append(NAME)
    return spec.parse_specification(yaml.safe_dump(tree), sensitive=sensitive)


def _change_the_specification() -> None:
    """Change it before anything is imported that is made from it."""
    builtin, local = spec.builtin_specification, _with_one_more()
    changed = cache(lambda name: local if name == "local" else builtin(name))
    spec.builtin_specification = changed


async def _through_a_dispatcher() -> str:
    from tests.support.house import REQUEST, connected_pair, house

    with connected_pair() as (ours, _):
        async with house() as home:
            agent, consumer = await home.agent("toy"), await home.consumer()
            consumer.send("submit", {**REQUEST, NAME: VALUE}, ours.fileno())
            value: str = (await agent.take_message()).values[NAME]
            return value


async def _in_memory() -> str:
    from hsframework.client import HandshakeOptions
    from hsframework.local.channel import PacketChannel
    from hsframework.testing.dispatcher import serving
    from tests.support.house import codec, connected_pair
    from tests.unit.testing.toy_plugin import KEY, ToyPlugin

    class WithOneMore(HandshakeOptions):
        def submit_values(self, attributes: bytes | None = None) -> dict[str, Any]:
            return {**super().submit_values(attributes), NAME: VALUE}

    sent: list[bytes] = []
    send = PacketChannel.send

    def kept(self: PacketChannel, data: bytes, fd: int | None = None) -> None:
        if fd is not None:
            sent.append(data)
        send(self, data, fd)

    PacketChannel.send = kept  # type: ignore[method-assign]
    with connected_pair() as (ours, theirs):
        theirs.close()
        async with serving(ToyPlugin()) as service:
            await service.handshake(ours, WithOneMore(group="toy", attributes={"key": KEY}))
    (reply,) = sent
    value: str = codec.decode(reply).values[NAME]
    return value


def main() -> None:
    """Print the value that an agent gets, by each dispatcher."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    _change_the_specification()
    for name, value in (("dispatcher", _through_a_dispatcher()), ("in-memory", _in_memory())):
        print(f"{name}: {asyncio.run(value)}")


if __name__ == "__main__":
    main()
