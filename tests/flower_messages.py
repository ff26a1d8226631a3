"""Flower messages for tests: made, taken apart and spoilt."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

with warnings.catch_warnings():  # Flower's own imports warn
    warnings.simplefilter("ignore")
    from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
    from flwr.common.serde import message_from_proto, message_to_proto
    from flwr.proto.message_pb2 import Message as MessageProto
    from flwr.supercore.task_identity import TaskIdentity

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np

__all__ = ["Array", "ArrayRecord", "ConfigRecord", "Error", "Message", "MetricRecord", "RecordDict"]

TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1


def decode(data: bytes) -> Message:
    """From bytes."""
    return message_from_proto(MessageProto.FromString(data))


def encode(message: Message) -> bytes:
    """To bytes."""
    return bytes(message_to_proto(message).SerializeToString())


def arrays(**named: np.ndarray[Any, Any]) -> ArrayRecord:
    """An ArrayRecord."""
    return ArrayRecord({name: Array(array) for name, array in named.items()})


def as_error(reply: bytes, reason: str) -> bytes:
    """The reply as one that carries an error."""
    proto = MessageProto.FromString(reply)
    proto.ClearField("content")
    proto.error.code, proto.error.reason = 2, reason
    return bytes(proto.SerializeToString())


def with_metadata(reply: bytes, **fields: Any) -> bytes:
    """The reply with other metadata."""
    proto = MessageProto.FromString(reply)
    for name, value in fields.items():
        setattr(proto.metadata, name, value)
    return bytes(proto.SerializeToString())


def with_content(reply: bytes, change: Callable[[RecordDict], None]) -> bytes:
    """The reply with its records changed."""
    message = decode(reply)
    change(message.content)
    return encode(message)


def reply_with(records: Mapping[str, Any]) -> Message:
    """A reply that carries these records."""
    asked = Message(RecordDict(), 17, "train")
    return Message(RecordDict(dict(records)), reply_to=asked)
