"""Tests of `edgeward.protocol.wire`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf.message import DecodeError, Message
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeward.protocol import WireError, wire
from edgeward.protocol.model import MAX_ITEMS
from edgeward.v1 import agent_pb2, model_pb2
from tests.protocol.damage import damaged
from tests.protocol.strategies import (
    DESIRED,
    FLAVORS,
    HEARTBEATS,
    HELLOS,
    INVENTORIES,
    INVITATIONS,
    REPORTED,
    SIGNATURES,
    WELCOMES,
)

if TYPE_CHECKING:
    from collections.abc import Callable

KINDS = [
    pytest.param(SIGNATURES, wire.signature_to_message, wire.signature_from_message, id="signature"),
    pytest.param(FLAVORS, wire.flavor_to_message, wire.flavor_from_message, id="flavor"),
    pytest.param(DESIRED, wire.desired_to_message, wire.desired_from_message, id="desired"),
    pytest.param(REPORTED, wire.reported_to_message, wire.reported_from_message, id="reported"),
    pytest.param(INVENTORIES, wire.inventory_to_message, wire.inventory_from_message, id="inventory"),
    pytest.param(HELLOS, wire.hello_to_message, wire.hello_from_message, id="hello"),
    pytest.param(HEARTBEATS, wire.heartbeat_to_message, wire.heartbeat_from_message, id="heartbeat"),
    pytest.param(WELCOMES, wire.welcome_to_message, wire.welcome_from_message, id="welcome"),
    pytest.param(INVITATIONS, wire.invitation_to_message, wire.invitation_from_message, id="invitation"),
]


@pytest.mark.parametrize(("values", "to_message", "from_message"), KINDS)
@given(data=st.data())
def test_round_trip(
    data: st.DataObject,
    values: st.SearchStrategy[Any],
    to_message: Callable[[Any], Message],
    from_message: Callable[[Any], Any],
) -> None:
    """A value crosses the wire, as bytes, and is itself again."""
    value = data.draw(values)
    message = to_message(value)
    assert from_message(type(message).FromString(message.SerializeToString())) == value


@pytest.mark.parametrize(("values", "to_message", "from_message"), KINDS)
@settings(max_examples=100)
@given(data=st.data())
def test_arbitrary_messages_raise_only_the_wire_error(
    data: st.DataObject,
    values: st.SearchStrategy[Any],
    to_message: Callable[[Any], Message],
    from_message: Callable[[Any], Any],
) -> None:
    """Whatever protobuf can parse becomes a value that can be sent again, or a WireError."""
    original = to_message(data.draw(values))
    content = data.draw(damaged([original.SerializeToString()]))
    try:
        message = type(original).FromString(content)
    except DecodeError:
        return  # gRPC answers this before any of our code runs
    try:
        value = from_message(message)
    except WireError:
        return
    assert from_message(to_message(value)) == value


@pytest.mark.parametrize(
    ("from_message", "message"),
    [
        (wire.signature_from_message, model_pb2.Signature(inputs=[model_pb2.Tensor()] * (MAX_ITEMS + 1))),
        (
            wire.signature_from_message,
            model_pb2.Signature(outputs=[model_pb2.Tensor(shape=[1] * (MAX_ITEMS + 1))]),
        ),
        (wire.desired_from_message, agent_pb2.DesiredState(models=[agent_pb2.DesiredModel()] * (MAX_ITEMS + 1))),
        (
            wire.desired_from_message,
            agent_pb2.DesiredState(
                models=[
                    agent_pb2.DesiredModel(
                        flavors=[model_pb2.Flavor(format="onnx", precision="fp32", sha256="ab" * 32)] * (MAX_ITEMS + 1)
                    )
                ]
            ),
        ),
        (wire.inventory_from_message, agent_pb2.Inventory(runtimes=[agent_pb2.Runtime()] * (MAX_ITEMS + 1))),
        (wire.hello_from_message, agent_pb2.Hello(labels={str(index): "" for index in range(MAX_ITEMS + 1)})),
    ],
    ids=["tensors", "axes", "models", "flavors", "runtimes", "labels"],
)
def test_counts_are_bounded(from_message: Callable[[Any], Any], message: Message) -> None:
    """A peer can't make us hold any number of things."""
    with pytest.raises(WireError, match="at most"):
        from_message(message)


@pytest.mark.parametrize("heartbeat_s", [0.0, -1.0, float("inf"), float("nan")])
def test_heartbeat_is_an_interval(heartbeat_s: float) -> None:
    """A device that was told to speak every nan seconds would spin or fall silent."""
    with pytest.raises(WireError, match="heartbeat"):
        wire.welcome_from_message(agent_pb2.Welcome(heartbeat_s=heartbeat_s))
