"""Replace a file so that a reader, or a restart, sees the old bytes or the new and nothing between.

The order is the whole point (temporary file in the same folder, fsync, rename,
fsync of the folder): Pillai et al., "All File Systems Are Not Created Equal",
OSDI 2014.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def fsync_folder(folder: Path) -> None:
    """Make renames and unlinks inside `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomic(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write `data` to `path` durably and atomically.

    Args:
        path: Where; the folder must exist.
        data: The whole content.
        mode: Permission bits, in force from the first byte on.

    Raises:
        OSError: The disk is full or the folder can't be written; `path` is as it was.
    """
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    fsync_folder(path.parent)
