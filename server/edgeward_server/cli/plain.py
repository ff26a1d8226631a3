"""Messages as JSON for machines: the wire's field names, numbers as numbers, instants in ISO 8601.

protobuf's own JSON turns 64-bit integers into strings and leaves defaults out,
which makes `jq '.predictions > 0'` wrong; hence this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.protobuf.timestamp_pb2 import Timestamp

from edgeward.protocol.instants import instant_from_timestamp

if TYPE_CHECKING:
    from google.protobuf.message import Message


def as_plain(message: Message) -> dict[str, Any]:
    """Every field, set or not; a message that is absent is None."""
    return {field.name: _field(message, field) for field in message.DESCRIPTOR.fields}


def _field(message: Message, field: Any) -> object:  # noqa: ANN401 - a descriptor, of either implementation
    value = getattr(message, field.name)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return {str(key): _single(item) for key, item in sorted(value.items())}
    if field.is_repeated:
        return [_single(item) for item in value]
    if field.message_type is not None and not message.HasField(field.name):
        return None
    return _single(value)


def _single(value: Any) -> object:  # noqa: ANN401 - whatever a field may hold
    if isinstance(value, Timestamp):
        return instant_from_timestamp(value).isoformat()
    if isinstance(value, bytes):
        return value.decode("ascii", errors="backslashreplace")
    return as_plain(value) if hasattr(value, "DESCRIPTOR") else value
