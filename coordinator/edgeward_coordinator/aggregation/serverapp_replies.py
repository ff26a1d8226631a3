"""What devices sent back: decoded, checked, and the misfits set aside before a strategy sees them.

A strategy takes replies as they are: one with another shape, a missing array or
an extra metric raises out of it and ends the run, NaN makes the model NaN. So a
reply that would do that is dropped here, with the reason, and the run goes on.

How much can be asked of a reply depends on who aggregates. Flower's averaging
family needs the same names and shapes from everyone. An app that aggregates
itself may want replies to differ, so there only a reply that differs from what
most do is dropped.
"""

from __future__ import annotations

import math
import struct
import tokenize
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
from flwr.app import ArrayRecord, Message, MetricRecord
from flwr.common.constant import SType
from flwr.common.serde import message_from_proto
from flwr.proto.message_pb2 import Message as MessageProto
from google.protobuf.message import DecodeError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

    from flwr.app import RecordDict

    from edgeward_coordinator.aggregation.serverapp_strategies import Expectations

_MAX_METRICS = 64

_FOREIGN_ERRORS = (
    ArithmeticError,
    AttributeError,
    DecodeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    tokenize.TokenError,
)


class ReplyRejected(Exception):
    """This reply can't be used; the text says why."""


def decode_reply(data: bytes, *, run: int, message_id: str, node: int) -> Message:
    """Bytes from a device to a message that answers what it was asked.

    Raises:
        ReplyRejected: They are no message, or not the answer to this one.
    """
    try:
        reply = message_from_proto(MessageProto.FromString(data))
        if reply.has_content():
            for record in reply.content.array_records.values():
                _shapes(record)
    except _FOREIGN_ERRORS as error:
        raise ReplyRejected(f"it is no readable message: {error}") from error
    about = reply.metadata
    if about.run_id != run or about.reply_to_message_id != message_id or about.src_node_id != node:
        raise ReplyRejected(f"it answers {about.reply_to_message_id[:80]!r} of run {about.run_id:x}")
    if reply.has_content() == reply.has_error():
        raise ReplyRejected("it carries neither content nor an error")
    return reply


def find_misfits(replies: Mapping[str, Message], sent: Mapping[str, RecordDict], needs: Expectations) -> dict[str, str]:
    """Which of the replies of one call the strategy must not see, and why.

    Args:
        replies: Decoded, by device, in the order of the messages.
        sent: What each device was asked with; one object for all, as a rule.
        needs: Of the strategy that waits for them.
    """
    contents = {device: reply.content for device, reply in replies.items() if reply.has_content()}
    misfits: dict[str, str] = {}

    def drop(find: Callable[[dict[str, RecordDict]], dict[str, str]]) -> None:
        found = find(contents)
        misfits.update(found)
        for device in found:
            del contents[device]

    drop(lambda left: _not_finite(left, sent))
    if needs.averages:
        drop(lambda left: _other_shapes(left, sent, is_own=needs.is_own))
        drop(lambda left: _unlike_most(left, _array_names, sent, "its arrays have other names than most replies'"))
        drop(lambda left: _unlike_most(left, _metric_form, sent, "its metrics have another form than most replies'"))
        drop(lambda left: _weightless(left, needs.weight_key))
    return misfits


def weighted_metrics(replies: Mapping[str, Message], weight_key: str) -> dict[str, float]:
    """The scalar metrics of a call as one: weighted means, and the weights' sum under their own name.

    Where a reply has no weight, all count the same.
    """
    metrics = [_first_metrics(reply.content) for reply in replies.values() if reply.has_content()]
    weights = [_scalar(entry.get(weight_key)) for entry in metrics]
    if any(weight is None for weight in weights) or not sum(weight or 0.0 for weight in weights):
        weights = [1.0] * len(metrics)
    names = set[str]().union(*metrics) - {weight_key}
    means: dict[str, float] = {}
    for name in sorted(names)[:_MAX_METRICS]:
        pairs = [(_scalar(entry.get(name)), weight or 0.0) for entry, weight in zip(metrics, weights, strict=True)]
        known = [(value, weight) for value, weight in pairs if value is not None]
        total = sum(weight for _, weight in known)
        if total:
            means[name] = sum(value * weight for value, weight in known) / total
    if metrics and all(weight_key in entry for entry in metrics):
        means[weight_key] = float(sum(_scalar(entry[weight_key]) or 0.0 for entry in metrics))
    return {name: mean for name, mean in means.items() if math.isfinite(mean)}


def _not_finite(contents: Mapping[str, RecordDict], sent: Mapping[str, RecordDict]) -> dict[str, str]:
    found = {}
    for device, content in contents.items():
        if not sent[device].array_records:
            continue
        for record in content.array_records.values():
            bad = [name for name, array in _numpy_arrays(record).items() if not _is_finite(array)]
            if bad:
                found[device] = f"its array {bad[0]!r} holds NaN or infinity"
    return found


def _is_finite(array: np.ndarray[Any, Any]) -> bool:
    return array.dtype.kind not in "fc" or bool(np.isfinite(array).all())


def _other_shapes(
    contents: Mapping[str, RecordDict], sent: Mapping[str, RecordDict], *, is_own: bool
) -> dict[str, str]:
    shapes_sent = {id(content): _all_shapes(content) for content in {id(one): one for one in sent.values()}.values()}
    found = {}
    for device, content in contents.items():
        shapes, expected = _all_shapes(content), shapes_sent[id(sent[device])]
        other = [name for name, shape in shapes.items() if shape != expected.get(name, shape)]
        if other:
            have, want = list(shapes[other[0]]), list(expected[other[0]])
            found[device] = f"its array {other[0]!r} has shape {have}, sent was {want}"
    if is_own and 2 * len(found) >= len(contents):
        return {}
    return found


def _unlike_most(
    contents: Mapping[str, RecordDict],
    form_of: Callable[[RecordDict], Hashable],
    sent: Mapping[str, RecordDict],
    reason: str,
) -> dict[str, str]:
    forms = {device: form_of(content) for device, content in contents.items()}
    counts = Counter(forms.values())
    if len(counts) < 2:
        return {}
    wanted = form_of(next(iter(sent.values())))
    # Of the forms that are equally frequent, the one that was sent; else the first.
    usual = max(counts, key=lambda form: (counts[form], form == wanted))
    return {device: reason for device, form in forms.items() if form != usual}


def _weightless(contents: Mapping[str, RecordDict], weight_key: str) -> dict[str, str]:
    found, total = {}, 0.0
    for device, content in contents.items():
        metrics = _first_metrics(content)
        if weight_key not in metrics:
            continue  # of all replies, or their forms would differ: then the strategy says so itself
        weight = _scalar(metrics[weight_key])
        if weight is None or weight < 0:
            found[device] = f"its weight {weight_key!r} is {metrics[weight_key]!r}"
        else:
            total += weight
    if not total and any(weight_key in _first_metrics(content) for content in contents.values()):
        return {device: found.get(device, f"no reply has a weight {weight_key!r} above 0") for device in contents}
    return found


def _first_metrics(content: RecordDict) -> MetricRecord:
    return next(iter(content.metric_records.values()), MetricRecord())


def _scalar(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _array_names(content: RecordDict) -> Hashable:
    return frozenset((key, frozenset(record)) for key, record in content.array_records.items())


def _metric_form(content: RecordDict) -> Hashable:
    return frozenset(
        (key, frozenset((name, len(value) if isinstance(value, list) else None) for name, value in record.items()))
        for key, record in content.metric_records.items()
    )


def _all_shapes(content: RecordDict) -> dict[str, tuple[int, ...]]:
    return {name: shape for record in content.array_records.values() for name, shape in _shapes(record).items()}


def _shapes(record: ArrayRecord) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in _numpy_arrays(record).items()}


def _numpy_arrays(record: ArrayRecord) -> dict[str, np.ndarray[Any, Any]]:
    """What the bytes say, not what the record claims of them; arrays of an app's own encoding are its own affair."""
    return {name: array.numpy() for name, array in record.items() if array.stype == SType.NUMPY}
