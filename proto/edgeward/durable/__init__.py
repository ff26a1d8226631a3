"""Files that survive a power cut: atomic replacement and resumable, verified reception.

Both ends receive large bytes the same way, so the one shell that touches the
disk for it lives here, below both.
"""

from edgeward.durable.atomic import fsync_folder, write_atomic
from edgeward.durable.partial import PartialFile

__all__ = ["PartialFile", "fsync_folder", "write_atomic"]
