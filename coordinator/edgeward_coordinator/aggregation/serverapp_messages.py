"""Flower messages as bytes, and what a run's log says of them.

All messages of a broadcast share one RecordDict, and serialising it is what
costs (0.4 CPU-s for 10 M parameters), so it is done once: protobuf lets the
fields of a message be written one after the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flwr.common.serde import message_to_proto, recorddict_to_proto
from flwr.common.serde_utils import metadata_to_proto
from flwr.proto.message_pb2 import Message as MessageProto

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flwr.app import Message, RecordDict

_MAX_NUMBER = 10**9
_CONTENT_TAG = bytes([MessageProto.DESCRIPTOR.fields_by_name["content"].number << 3 | 2])


class BroadcastEncoder:
    """Encodes the messages of one call."""

    def __init__(self) -> None:
        self._content: RecordDict | None = None
        self._encoded = b""

    def encode(self, message: Message) -> bytes:
        """One message; its id must be set before."""
        if not message.has_content():
            return bytes(message_to_proto(message).SerializeToString())
        if message.content is not self._content:
            content = recorddict_to_proto(message.content).SerializeToString()
            self._content, self._encoded = message.content, _CONTENT_TAG + _varint(len(content)) + content
        head = MessageProto(metadata=metadata_to_proto(message.metadata)).SerializeToString()
        return bytes(head) + self._encoded


def round_number(messages: Sequence[Message], *, calls_of_phase: int) -> int:
    """Which round these messages belong to.

    Flower's strategies say it in a config record; an app of its own may say it
    in the group id; else calls of one message type are counted.
    """
    first = messages[0]
    if first.has_content():
        for config in first.content.config_records.values():
            stated = config.get("server-round")
            if isinstance(stated, int) and 0 < stated < _MAX_NUMBER:
                return stated
    group = first.metadata.group_id
    return int(group) if group.isdecimal() and int(group[:20]) < _MAX_NUMBER else calls_of_phase + 1


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
