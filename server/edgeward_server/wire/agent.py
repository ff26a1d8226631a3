"""The messages of `AgentService`; what device and coordinator agree on is converted in `edgeward.protocol.wire`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeward.protocol import wire
from edgeward.protocol.errors import WireError
from edgeward.protocol.state import DesiredState, Heartbeat, Hello, ReportedState, RunEnded, RunInvitation, Welcome
from edgeward.v1 import agent_pb2
from edgeward_coordinator.monitoring import Envelope

if TYPE_CHECKING:
    from edgeward_server.session import SessionDown

# A device seals a megabyte at most into a batch; more batches than this in one call are a mistake.
_MAX_BATCHES = 256

SessionUp = Hello | Heartbeat | ReportedState


def session_up_from_message(message: agent_pb2.SessionUp) -> SessionUp:
    """What a device says in its session."""
    match message.WhichOneof("body"):
        case "hello":
            return wire.hello_from_message(message.hello)
        case "heartbeat":
            return wire.heartbeat_from_message(message.heartbeat)
        case "reported":
            return wire.reported_from_message(message.reported)
        case _:
            raise WireError("a message of a session that says nothing")


def session_down_to_message(down: SessionDown) -> agent_pb2.SessionDown:
    """What a device is told in its session."""
    match down:
        case Welcome():
            return agent_pb2.SessionDown(welcome=wire.welcome_to_message(down))
        case DesiredState():
            return agent_pb2.SessionDown(desired=wire.desired_to_message(down))
        case RunInvitation():
            return agent_pb2.SessionDown(invitation=wire.invitation_to_message(down))
        case RunEnded(run_id=run_id):
            return agent_pb2.SessionDown(run_ended=agent_pb2.RunEnded(run_id=run_id))


def envelopes_from_message(message: agent_pb2.ReportRequest) -> list[Envelope]:
    """The sealed batches of a report; what is in them is opened by the domain."""
    if len(message.batches) > _MAX_BATCHES:
        raise WireError(f"{len(message.batches)} batches in one report; at most {_MAX_BATCHES} are taken")
    return [Envelope(epoch=batch.epoch, sequence=batch.sequence, payload=batch.payload) for batch in message.batches]
