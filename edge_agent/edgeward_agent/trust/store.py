"""What a device trusts, on disk.

    trust/root.json      the newest root metadata that was verified; the first came with the enrollment
    trust/floors.json    see `floors`
    trust/metadata/      python-tuf's cached files: not fsynced, and nothing depends on them

The first two are durable before anything is authorized by them.
"""

from __future__ import annotations

import logging
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING

from edgeward.durable import fsync_folder, write_atomic
from edgeward_agent.errors import Refused
from edgeward_agent.trust.errors import Untrusted
from edgeward_agent.trust.floors import Floors, decode_floors, encode_floors

if TYPE_CHECKING:
    from pathlib import Path

_LOG = logging.getLogger(__name__)

_ENROLL_AGAIN = "run edgeward-agent enroll --force STRING"


class TrustStore:
    """The folder `trust/`; blocking."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._root = folder / "root.json"
        self._floors = folder / "floors.json"

    @property
    def folder(self) -> Path:
        """Where it all is."""
        return self._folder

    @property
    def cache(self) -> Path:
        """Python-tuf's folder, made where it is missing."""
        cache = self._folder / "metadata"
        cache.mkdir(parents=True, exist_ok=True)
        return cache

    def adopt_root(self, root: bytes, *, replace: bool = False) -> None:
        """Trust this root from now on, durably; one that is here already is kept, unless it is damaged.

        So whoever gets hold of a coordinator can't bring another root to its devices by having them enroll again.

        Args:
            root: Signed root metadata.
            replace: Of a device that is not enrolled yet: what an attempt before left is forgotten.

        Raises:
            Refused: It is no root metadata, or not signed by its own keys.
        """
        from edgeward_agent.trust.client import verify_root

        try:
            verify_root(root)
        except Untrusted as error:
            raise Refused(f"the coordinator's root of trust can't be used: {error.message}") from error
        if replace:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        fsync_folder(self._folder.parent)
        self._forget_damaged_floors()
        if not self._has_root():
            write_atomic(self._root, root)
        elif self._root.read_bytes() != root:
            _LOG.info("the root of trust in %s is kept; to trust another fleet's, remove the folder first", self._root)

    def root(self) -> bytes:
        """The root metadata to begin with.

        Raises:
            Untrusted: There is none.
        """
        try:
            return self._root.read_bytes()
        except FileNotFoundError as error:
            raise Untrusted(
                f"this device has no root of trust ({self._root} is missing), so nothing new can be installed",
                hint=_ENROLL_AGAIN,
            ) from error

    def advance_root(self, root: bytes) -> None:
        """Begin with this, which was verified, from now on."""
        if root != self._root.read_bytes():
            write_atomic(self._root, root)

    def floors(self) -> Floors:
        """The floors; none before the first check.

        Raises:
            Untrusted: The file is damaged. Without floors old metadata would be believed, so nothing is.
        """
        try:
            return decode_floors(self._floors.read_bytes())
        except FileNotFoundError:
            return Floors()
        except ValueError as error:
            raise Untrusted(f"{self._floors} is damaged ({error})", hint=_ENROLL_AGAIN) from error

    def persist_floors(self, floors: Floors) -> None:
        """Durable when it returns."""
        write_atomic(self._floors, encode_floors(floors))

    def _has_root(self) -> bool:
        from edgeward_agent.trust.client import verify_root

        with suppress(Untrusted):
            verify_root(self.root())
            return True
        return False

    def _forget_damaged_floors(self) -> None:
        try:
            self.floors()
        except Untrusted as error:
            _LOG.warning("%s; it begins anew", error.message)
            self._floors.unlink()
