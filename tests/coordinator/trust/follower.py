"""A device as python-tuf sees it: the real client over a fetcher that asks `Trust` in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig

from edgeward.protocol.targets import target_from_custom
from edgeward_coordinator.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from edgeward.protocol.targets import SignedTarget
    from tests.conftest import SetClock

_URL = "edgeward://"


class Fetcher(FetcherInterface):
    """Asks a function for files by name, and notes which."""

    def __init__(self, metadata: Callable[[str], bytes]) -> None:
        self._metadata = metadata
        self.asked: list[str] = []

    def _fetch(self, url: str) -> Iterator[bytes]:
        name = url.removeprefix(_URL)
        self.asked.append(name)
        try:
            yield self._metadata(name)
        except NotFound as error:
            raise DownloadHTTPError(str(error), 404) from error


class Follower:
    """Keeps its metadata over refreshes, as a device does over restarts."""

    def __init__(self, folder: Path, root: bytes, metadata: Callable[[str], bytes], clock: SetClock) -> None:
        folder.mkdir()
        self._folder = folder
        self._clock = clock
        self._root = root
        self._metadata = metadata
        self.asked: list[str] = []

    def refresh(self) -> Updater:
        """From root to targets, at the set clock's time."""
        fetcher = Fetcher(self._metadata)
        config = UpdaterConfig(max_root_rotations=64)
        updater = Updater(str(self._folder), _URL, fetcher=fetcher, config=config, bootstrap=self._root)
        # The client takes no clock; it reads the time once, when it is made.
        updater._trusted_set.reference_time = self._clock()
        updater.refresh()
        self.asked = fetcher.asked
        return updater

    def find(self, path: str) -> SignedTarget | None:
        """Refresh, and look for a target."""
        info = self.refresh().get_targetinfo(path)
        if info is None:
            return None
        return target_from_custom(path, sha256=info.hashes["sha256"], total_bytes=info.length, custom=info.custom)
