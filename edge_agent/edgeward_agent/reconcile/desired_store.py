"""The last desired state on disk, so that a boot without network knows what should run and how far it got."""

from __future__ import annotations

import base64
import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError

from edgeward.durable import write_atomic
from edgeward.protocol import wire
from edgeward.v1 import agent_pb2

if TYPE_CHECKING:
    from pathlib import Path

    from edgeward.protocol.state import DesiredState

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDesired:
    """`reached` is the newest generation that was acted on in full."""

    desired: DesiredState | None
    reached: int


class DesiredStore:
    """One file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> StoredDesired:
        """What was persisted; a damaged file counts as none, since the coordinator says it again."""
        try:
            content = json.loads(self._path.read_bytes())
            message = agent_pb2.DesiredState.FromString(base64.b64decode(content["desired"], validate=True))
            return StoredDesired(desired=wire.desired_from_message(message), reached=int(content["reached"]))
        except FileNotFoundError:
            return StoredDesired(desired=None, reached=0)
        except (ValueError, KeyError, TypeError, DecodeError):
            _LOG.warning("the desired state in %s is damaged; waiting for the coordinator's", self._path)
            return StoredDesired(desired=None, reached=0)

    def persist(self, stored: StoredDesired) -> None:
        """Replace it.

        Raises:
            OSError: The disk is full; the file is as it was.
        """
        if stored.desired is None:
            return
        message = wire.desired_to_message(stored.desired).SerializeToString(deterministic=True)
        content = {"reached": stored.reached, "desired": base64.b64encode(message).decode()}
        write_atomic(self._path, json.dumps(content).encode())
