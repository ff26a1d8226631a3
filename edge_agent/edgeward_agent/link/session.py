"""One session: hello and welcome, then heartbeats and reported state up, events down."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from edgeward.protocol import wire
from edgeward.protocol.state import DesiredState, Heartbeat, ReportedState, RunEnded, RunInvitation, Welcome
from edgeward.v1 import agent_pb2
from edgeward_agent.errors import Interrupted
from edgeward_agent.link.errors import translated_errors
from edgeward_agent.link.streams import write_to

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import grpc

    from edgeward.protocol.state import Hello

    SessionCall = grpc.aio.StreamStreamCall[agent_pb2.SessionUp, agent_pb2.SessionDown]


SessionEvent = Welcome | DesiredState | RunInvitation | RunEnded


class Session:
    """An open session; made by `open_session`."""

    def __init__(self, call: SessionCall, welcome: Welcome) -> None:
        self.welcome = welcome
        self._call = call
        self._writing = asyncio.Lock()
        self._ended_here = False

    async def send(self, message: Heartbeat | ReportedState) -> None:
        """Say something; safe from several tasks.

        Raises:
            Refused: The coordinator ended the session for good.
            Interrupted: It is gone.
        """
        up = agent_pb2.SessionUp()
        if isinstance(message, Heartbeat):
            up.heartbeat.CopyFrom(wire.heartbeat_to_message(message))
        else:
            up.reported.CopyFrom(wire.reported_to_message(message))
        async with self._writing:  # a stream takes one write at a time
            await write_to(self._call, up)

    async def events(self) -> AsyncIterator[SessionEvent]:
        """What the coordinator says, until the session ends in peace.

        Raises:
            Refused: The coordinator ended the session for good (the device was revoked).
            Interrupted: The connection broke.
        """
        while True:
            try:
                with translated_errors():
                    down = await self._call.read()
                    if not isinstance(down, agent_pb2.SessionDown):
                        return
                    event = _event_from_message(down)
            except Interrupted:
                if self._ended_here:
                    return
                raise
            if event is not None:
                yield event

    def end(self) -> None:
        """Hang up; `events` ends in peace."""
        self._ended_here = True
        self._call.cancel()


async def open_session(call: SessionCall, hello: Hello, *, timeout_s: float) -> Session:
    """Say hello, wait for the welcome.

    Raises:
        Refused: The coordinator does not take this device.
        Interrupted: No welcome came.
    """
    with translated_errors():
        async with asyncio.timeout(timeout_s):
            await write_to(call, agent_pb2.SessionUp(hello=wire.hello_to_message(hello)))
            first = await call.read()
        if not isinstance(first, agent_pb2.SessionDown) or first.WhichOneof("body") != "welcome":
            raise Interrupted("the coordinator did not begin the session with a welcome")
        return Session(call, wire.welcome_from_message(first.welcome))


def _event_from_message(down: agent_pb2.SessionDown) -> SessionEvent | None:
    match down.WhichOneof("body"):
        case "welcome":
            return wire.welcome_from_message(down.welcome)
        case "desired":
            return wire.desired_from_message(down.desired)
        case "invitation":
            return wire.invitation_from_message(down.invitation)
        case "run_ended":
            return RunEnded(run_id=down.run_ended.run_id)
        case _:
            return None  # a newer coordinator's word; an older agent passes over it
