"""Named arrays as bytes: numpy's npz, bounded and without pickle.

npz because users make and read it with `numpy.savez`. A zip from elsewhere can
announce anything, so sizes are checked from the directory before anything is
inflated, and an array's header is checked against its bytes by numpy. The zip
is written and walked here, entry by entry: `numpy.savez` takes names as keyword
arguments (a tensor can't be called `file`) and `numpy.load` confuses the
tensors `a` and `a.npy`.
"""

from __future__ import annotations

import io
import lzma
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
    Warning,  # numpy and the tokenizer warn of odd headers, which raises where warnings are errors
    UnicodeError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
)

_SUFFIX = ".npy"


def encode_tensors(tensors: Mapping[str, Array]) -> bytes:
    """Named arrays to npz bytes, without compression.

    Raises:
        ValueError: An array holds Python objects or items of no size, or its name can't stand in a zip.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, array in tensors.items():
            if array.dtype.hasobject or array.dtype.itemsize == 0:
                raise ValueError(f"tensor {name!r} holds Python objects, or items of no size")
            if "\0" in name:
                raise ValueError(f"tensor name {name!r} holds a null character")
            with archive.open(name + _SUFFIX, "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, array, allow_pickle=False)
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
            decoded: dict[str, Array] = {}
            for entry in archive.infolist():
                name = entry.filename.removesuffix(_SUFFIX)
                if name in decoded or name == entry.filename:
                    raise WireError(f"npz entry {entry.filename[:80]!r} stands twice or is not an array")
                decoded[name] = _read_array(archive, entry)
    except WireError:
        raise
    except _FOREIGN_ERRORS as error:
        raise WireError(f"not a readable npz file: {error}") from error
    return decoded


def _read_array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Array:
    with archive.open(entry) as file:
        array: Array = np.lib.format.read_array(file, allow_pickle=False)
        if file.read(1):
            raise WireError(f"npz entry {entry.filename[:80]!r} is longer than its array")
    # Items of no size let a header of a few bytes announce any number of them.
    if array.dtype.itemsize == 0:
        raise WireError(f"npz entry {entry.filename[:80]!r} holds items of no size")
    return array
