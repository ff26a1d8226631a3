"""Which requests a candidate serves: a share that is stable, and grows without anybody changing sides. Pure."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgeward.protocol.tensors import Array

_PLACE_BYTES = 8
_PLACES = float(1 << 8 * _PLACE_BYTES)


def is_in_share(model: str, key: str | bytes, share: float) -> bool:
    """Whether the candidate serves the requests of a key.

    The same on every device and in every process: it depends on the model's name
    and the key alone. Who is in a share is in every larger one.

    Args:
        model: Its name, so that the same few keys are not the candidates' of all models.
        key: Who or what the request is about.
        share: Of all keys, in [0, 1].

    >>> is_in_share("digits", "device-7", 1.0), is_in_share("digits", "device-7", 0.0)
    (True, False)
    """
    text = key if isinstance(key, bytes) else key.encode("utf-8", "surrogatepass")
    digest = hashlib.blake2b(text, digest_size=_PLACE_BYTES, key=_salt(model)).digest()
    return int.from_bytes(digest) / _PLACES < share


def key_of_inputs(inputs: Mapping[str, Array]) -> bytes:
    """The key of a request that came without one: the same inputs are served by the same version."""
    digest = hashlib.blake2b(digest_size=_PLACE_BYTES)
    for name in sorted(inputs):
        array = inputs[name]
        digest.update(f"{name}\0{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.digest()


def _salt(model: str) -> bytes:
    # A key of BLAKE2 has at most 64 bytes, and a name may be longer.
    return hashlib.blake2b(model.encode("utf-8", "surrogatepass"), digest_size=32).digest()
