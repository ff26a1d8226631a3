"""What a device learns from in tests: an `ExchangeLink` and bundles in memory, which fail when a test says so."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeward.protocol.bundle import pack_bundle
from edgeward.protocol.digests import Digest, digest_of
from edgeward.protocol.state import RunInvitation
from edgeward_agent.backoff import BackoffLimits
from edgeward_agent.learning import ExchangeInterrupted, ExchangeRefused, Learning
from tests import flower_messages as flower
from tests.waiting import wait_until_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from edgeward.protocol.state import ConfigValue

RUN_ID = "00000000000000ab"
DEVICE_ID = "00000000000000cd"
CONFIG: dict[str, ConfigValue] = {
    "num-server-rounds": 3,
    "strategy": "FedAvg",
    "fraction": 1.0,
    "server-fault": "",
    "client-fault": "",
    "training.rate": 0.5,
}
_PIECE_BYTES = 300


class Post:
    """The coordinator's side. `broken_pulls` pulls break off in the middle, `broken_pushes` pushes do not arrive."""

    def __init__(self, app: Path) -> None:
        self.bundle = pack_bundle(app)
        self.messages: dict[str, bytes] = {}
        self.replies: dict[str, bytes] = {}
        self.pushes: list[str] = []
        self.offsets: list[int] = []
        self.fetched = 0
        self.broken_pulls = 0
        self.broken_pushes = 0
        self.refuses = False

    async def fetch(self, digest: Digest, offset: int) -> AsyncIterator[bytes]:
        """The bundle."""
        assert digest == digest_of(self.bundle)
        self.fetched += 1
        yield self.bundle[offset:]

    async def pull(self, run_id: str, message_id: str, offset: int) -> AsyncIterator[bytes]:  # noqa: ARG002
        """A message, in pieces."""
        data = self.messages[message_id]
        self.offsets.append(offset)
        for start in range(offset, len(data), _PIECE_BYTES):
            if self.broken_pulls and start > offset:
                self.broken_pulls -= 1
                raise ExchangeInterrupted("the connection broke")
            yield data[start : start + _PIECE_BYTES]

    async def push(
        self,
        run_id: str,  # noqa: ARG002
        message_id: str,
        path: Path,
        digest: Digest,
        total_bytes: int,
    ) -> None:
        """A reply."""
        self.pushes.append(message_id)
        if self.refuses:
            raise ExchangeRefused("the message is over")
        if self.broken_pushes:
            self.broken_pushes -= 1
            raise ExchangeInterrupted("the connection broke")
        data = await asyncio.to_thread(path.read_bytes)
        assert (digest_of(data), len(data)) == (digest, total_bytes)
        self.replies[message_id] = data

    def reply(self, message_id: str) -> Any:
        """A reply that has arrived, decoded."""
        return flower.decode(self.replies[message_id])

    def ask(self, number: int = 1, *, within: timedelta = timedelta(minutes=1), **config: Any) -> RunInvitation:
        """Have a train message wait, and invite to it."""
        message_id = f"{RUN_ID}-{number}-{DEVICE_ID}"
        records = flower.RecordDict(
            {
                "arrays": flower.arrays(weight=np.zeros(2, np.float32), bias=np.zeros(1, np.float32)),
                "config": flower.ConfigRecord({"rate": 0.5}),
            }
        )
        message = flower.Message(records, int(DEVICE_ID, 16), "train")
        message.metadata.__dict__["_message_id"] = message_id
        self.messages[message_id] = flower.encode(message)
        return self.invitation(message_id, within=within, **config)

    def invitation(self, message_id: str, *, within: timedelta = timedelta(minutes=1), **config: Any) -> RunInvitation:
        """To any bytes that wait."""
        data = self.messages[message_id]
        return RunInvitation(
            run_id=RUN_ID,
            message_id=message_id,
            message_digest=digest_of(data),
            message_bytes=len(data),
            bundle_digest=digest_of(self.bundle),
            bundle_bytes=len(self.bundle),
            deadline=datetime.now(UTC) + within,
            run_config=CONFIG | {key.replace("_", "-"): value for key, value in config.items()},
        )


@asynccontextmanager
async def learning_on(
    post: Post, state_dir: Path, *, idle: timedelta = timedelta(minutes=10)
) -> AsyncIterator[Learning]:
    """A device at work; leaving is the agent's end."""
    learning = Learning(
        state_dir,
        fetch=post.fetch,
        exchange=post,
        node_config={"partition-id": 0},
        clock=lambda: datetime.now(UTC),
        idle=idle,
        backoff=BackoffLimits(initial_s=0.01, maximum_s=0.05),
    )
    task = asyncio.create_task(learning.run(), name="learning")
    try:
        yield learning
    finally:
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()


async def answered(post: Post, invitation: RunInvitation) -> Any:
    """The reply to an invitation, once it is here."""
    await wait_until_async(lambda: invitation.message_id in post.replies)
    return post.reply(invitation.message_id)
