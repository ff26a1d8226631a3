"""What both ends must agree on byte for byte, pure: no socket, no clock; files only where a function is given a path.

One module a format: `tensors` (npz), `golden`, `model` (signatures, flavors),
`state` (inventory, desired and reported state), `telemetry`, `latency`,
`enrollment` (the string to paste), `bundle` (training code), `digests`.
`wire` turns the dataclasses here into protobuf messages and back. Every decoder
raises `WireError` and nothing else.
"""

from edgeward.protocol.errors import WireError

__all__ = ["WireError"]
