"""What the server and a ServerApp's process say to each other, as JSON lines over two pipes.

Signals only: whatever must survive is in the journal before it is spoken of
here, so a lost line loses nothing. The end of the stream means that the other
side is gone.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PopulationAsked:
    """Process to server: which devices are online? Answered by `Population`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Population:
    """Server to process."""

    devices: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallOpened:
    """Process to server: `sent.json` of this call is durable; invite who has not answered yet."""

    call: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Replied:
    """Server to process: the reply of this device is durable."""

    call: int
    device: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CallClosed:
    """Process to server: `closed.json` of this call is durable. Said again on replay."""

    call: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """Process to server: what it waits for, in words."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """Server to process: end at the next occasion."""


ControlLine = PopulationAsked | Population | CallOpened | Replied | CallClosed | Activity | Stop

_KINDS: dict[str, type[ControlLine]] = {
    kind.__name__: kind for kind in (PopulationAsked, Population, CallOpened, Replied, CallClosed, Activity, Stop)
}


def encode_line(line: ControlLine) -> bytes:
    r"""With its newline.

    >>> encode_line(CallOpened(call=3))
    b'{"kind": "CallOpened", "call": 3}\n'
    """
    return json.dumps({"kind": type(line).__name__, **dataclasses.asdict(line)}).encode() + b"\n"


def decode_line(line: bytes) -> ControlLine:
    """Both ends are of one release, so a line that can't be read is a mistake of ours.

    Raises:
        ValueError: It is no line of this protocol.
    """
    try:
        fields = json.loads(line)
        return _KINDS[fields.pop("kind")](**fields)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"not a control line: {line[:80]!r}") from error
