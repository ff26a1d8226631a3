"""The data folder as a thing that one process holds at a time."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from edgeward_coordinator.errors import FailedPrecondition

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgeward_server.config import DataLayout


@contextmanager
def held_data_dir(layout: DataLayout) -> Iterator[None]:
    """Make the folder and hold it while the block runs; the kernel lets go of it when the process dies.

    Raises:
        FailedPrecondition: Another process holds it, or it can't be written.
    """
    descriptor = _open_lock(layout)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            raise FailedPrecondition(
                f"another coordinator (process {holder}) runs on {layout.root}",
                hint="stop it first, or give this one a data folder of its own",
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        _make_folders(layout)
        yield
    finally:
        os.close(descriptor)


def _open_lock(layout: DataLayout) -> int:
    try:
        layout.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        return os.open(layout.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise FailedPrecondition(
            f"the data folder {layout.root} can't be used: {error.strerror}", hint="give one that can be written"
        ) from error


def _make_folders(layout: DataLayout) -> None:
    for folder in (
        layout.database.parent,
        layout.objects,
        layout.ca,
        layout.trust,
        layout.runs,
        layout.jobs,
        layout.scratch,
    ):
        folder.mkdir(exist_ok=True, mode=0o700)
