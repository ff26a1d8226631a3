"""One channel with mutual TLS: made, connected, closed. A new one for each attempt.

A channel that outlives its connection reconnects by gRPC's own backoff, beside
ours; and it keeps the certificate that it was made with. So each attempt makes a
channel, waits until it is ready or has failed once, and closes it afterwards:
then nothing connects between two attempts. (600 attempts against a dead port
leave the resident size as it was.)
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import grpc

from edgeward_agent.errors import Interrupted
from edgeward_agent.link.errors import translated_errors

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from datetime import timedelta

_MAX_MESSAGE_BYTES = 4 << 20  # what is larger travels in chunks


def channel_options(keepalive: timedelta) -> Sequence[tuple[str, int]]:
    """The options of a channel whose idle stream must live.

    The server tolerates pings without data from 20 s on; ours come much later
    (a default server answers too frequent ones with too_many_pings).
    """
    return (
        ("grpc.keepalive_time_ms", int(keepalive.total_seconds() * 1000)),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 0),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
        # Else a new channel inherits the backoff of the one before.
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.enable_retries", 0),
    )


@asynccontextmanager
async def open_channel(
    address: str,
    credentials: grpc.ChannelCredentials,
    *,
    options: Sequence[tuple[str, int]],
    connect_timeout: timedelta,
) -> AsyncIterator[grpc.aio.Channel]:
    """A connected channel.

    Raises:
        Interrupted: It could not be connected; `diagnose_connection` knows why.
    """
    channel = grpc.aio.secure_channel(address, credentials, options=options)
    try:
        with translated_errors():
            async with asyncio.timeout(connect_timeout.total_seconds()):
                await _connect(channel, address)
        yield channel
    finally:
        await channel.close(grace=None)


async def _connect(channel: grpc.aio.Channel, address: str) -> None:
    state = channel.get_state(try_to_connect=True)
    while state is not grpc.ChannelConnectivity.READY:
        if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
            raise Interrupted(f"no connection to {address}")
        await channel.wait_for_state_change(state)
        state = channel.get_state(try_to_connect=True)
