"""Hypothesis strategies for what a netlink spec allows."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from hsframework.interface import Secret
from hsframework.netlink.spec import Attribute, Specification

SIZES = {"u8": 8, "u16": 16, "u32": 32, "u64": 64, "s8": 8, "s16": 16, "s32": 32, "s64": 64}
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)


def attribute_values(specification: Specification, set_name: str) -> SearchStrategy[dict[str, Any]]:
    """Draw values of an attribute set, as the codec takes and gives them."""
    attributes = specification.sets[set_name].attributes
    return st.fixed_dictionaries(
        {}, optional={name: _values(specification, attribute) for name, attribute in attributes.items()}
    )


def messages(specification: Specification) -> SearchStrategy[tuple[str, dict[str, Any]]]:
    """Draw an operation's name and values of its attribute set."""
    return st.sampled_from(sorted(specification.operations)).flatmap(
        lambda name: st.tuples(
            st.just(name), attribute_values(specification, specification.operations[name].attribute_set)
        )
    )


def _values(specification: Specification, attribute: Attribute) -> SearchStrategy[Any]:
    one = _value(specification, attribute)
    return st.lists(one, min_size=1, max_size=3) if attribute.multi else one


def _value(specification: Specification, attribute: Attribute) -> SearchStrategy[Any]:
    if attribute.nested is not None:
        return attribute_values(specification, attribute.nested)
    if attribute.type == "string":
        return TEXT
    if attribute.type == "flag":
        return st.just(True)
    if attribute.type == "binary":
        data = st.binary(max_size=40)
        return data.map(Secret) if attribute.sensitive else data
    bits = SIZES[attribute.type]
    if attribute.type.startswith("s"):
        return st.integers(-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
    return st.integers(0, (1 << bits) - 1)
