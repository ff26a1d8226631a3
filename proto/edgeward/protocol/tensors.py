"""Named arrays as bytes: numpy's npz, bounded and without pickle.

npz because users make and read it with `numpy.savez`. A zip from elsewhere can
announce anything, so sizes are checked from the directory before anything is
inflated, and an array's header is checked against its bytes by numpy.
"""

from __future__ import annotations

import io
import struct
import tokenize
import zipfile
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeward.protocol.errors import WireError

if TYPE_CHECKING:
    from collections.abc import Mapping

Array = np.ndarray[Any, np.dtype[Any]]

DEFAULT_MAX_BYTES = 1 << 30

_FOREIGN_ERRORS = (
    ValueError,
    OSError,
    EOFError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    SyntaxError,
    OverflowError,
    MemoryError,
    RuntimeError,  # zipfile: encrypted; NotImplementedError: unknown compression
    RecursionError,
    UnicodeError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


def encode_tensors(tensors: Mapping[str, Array]) -> bytes:
    """Named arrays to npz bytes, without compression.

    Raises:
        ValueError: An array holds Python objects.
    """
    for name, array in tensors.items():
        if array.dtype.hasobject:
            raise ValueError(f"tensor {name!r} holds Python objects")
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **dict(tensors))
    return buffer.getvalue()


def decode_tensors(data: bytes, *, max_bytes: int = DEFAULT_MAX_BYTES) -> dict[str, Array]:
    """Npz bytes to named arrays.

    Args:
        data: From `encode_tensors` or `numpy.savez`.
        max_bytes: The most that all arrays together may take once inflated.

    Raises:
        WireError: Not an npz, larger than allowed, or with Python objects inside.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            announced = sum(entry.file_size for entry in archive.infolist())
            if announced > max_bytes:
                raise WireError(f"npz announces {announced} bytes, at most {max_bytes} are allowed")
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            decoded = {name: arrays[name] for name in arrays.files}
    except WireError:
        raise
    except _FOREIGN_ERRORS as error:
        raise WireError(f"not a readable npz file: {error}") from error
    for name, array in decoded.items():
        if not isinstance(array, np.ndarray):
            raise WireError(f"npz entry {name!r} is not an array")
    return decoded
