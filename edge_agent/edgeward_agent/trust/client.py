"""Signed metadata through python-tuf: the only module of the agent that imports it, and itself imported late.

python-tuf walks the roles and verifies; this adds three things. Time is the
caller's `now`. The two comparisons with python-tuf's cached files (an older
version, a role that went) never have the last word, as those files survive no
power cut and outlive a rotation of keys: where one fails, they are forgotten and
the floors decide. And bytes come from a callable, each file bounded.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from datetime import UTC
from typing import TYPE_CHECKING, Any

from tuf.api.exceptions import (
    BadVersionNumberError,
    DownloadError,
    DownloadHTTPError,
    ExpiredMetadataError,
    RepositoryError,
    UnsignedMetadataError,
)
from tuf.api.metadata import Metadata, Root
from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig

from edgeward.protocol.errors import WireError
from edgeward.protocol.targets import SIGNED_AT_FIELD, target_from_custom
from edgeward_agent.trust.errors import Expired, Untrusted
from edgeward_agent.trust.floors import ROOT, SNAPSHOT, TARGETS, TIMESTAMP, Floor, aware_instant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime
    from pathlib import Path

    from edgeward.protocol.targets import SignedTarget

    FetchFile = Callable[[str, int], bytes | None]

# As many roots as one a week for twenty years: a device may sleep through them all.
_CONFIG = UpdaterConfig(
    max_root_rotations=1024,
    root_max_length=512 << 10,
    timestamp_max_length=16 << 10,
    snapshot_max_length=2 << 20,
    targets_max_length=5 << 20,
    max_delegations=64,
)

_BASE = "metadata/"
_NOT_FOUND = 404

# What matters of its lines is in our errors.
logging.getLogger("tuf").setLevel(logging.WARNING)


def verify_root(root: bytes) -> None:
    """Check root metadata that was handed over as the beginning of trust.

    Raises:
        Untrusted: It is none, or too few of its own keys have signed it.
    """
    with _told():
        metadata = Metadata[Root].from_bytes(root)
        if metadata.signed.type != ROOT:
            raise Untrusted(f"it is {metadata.signed.type} metadata, no root")
        metadata.signed.verify_delegate(ROOT, metadata.signed_bytes, metadata.signatures)


def refresh(folder: Path, root: bytes, *, fetch: FetchFile, now: datetime) -> Verified:
    """Fetch and verify the top-level metadata that is in force.

    Args:
        folder: Python-tuf's.
        root: A root that is trusted.
        fetch: Takes a file's name and its most bytes, returns its content, None where there is none.
        now: By which things expire.

    Raises:
        Untrusted: It does not verify.
        Interrupted: `fetch` was.
    """
    with _told(now):
        try:
            return Verified(_refreshed(folder, root, fetch, now))
        except RepositoryError as error:
            # Exactly these types, not their subclasses, are what the comparisons with cached files raise.
            if type(error) not in (BadVersionNumberError, RepositoryError) or not _forget_cached(folder):
                raise
        return Verified(_refreshed(folder, root, fetch, now))


class Verified:
    """Top-level metadata that was verified, and what it leads to."""

    def __init__(self, updater: Updater) -> None:
        self._updater = updater
        # python-tuf shows versions and takes a time nowhere else; its version is pinned.
        self._trusted = updater._trusted_set  # noqa: SLF001

    def versions(self) -> dict[str, Floor]:
        """Of each role, those of delegated ones as the snapshot has them, with the keys that the role has now."""
        root = self._trusted.root
        seen = {ROOT: Floor(version=root.version)}
        for name in (TIMESTAMP, SNAPSHOT, TARGETS):
            seen[name] = Floor(version=self._trusted[name].version, keys=frozenset(root.roles[name].keyids))
        delegations = self._trusted.targets.delegations
        for name, role in ((delegations and delegations.roles) or {}).items():
            meta = self._trusted.snapshot.meta.get(f"{name}.json")
            if meta is not None:
                seen[name] = Floor(version=meta.version, keys=frozenset(role.keyids))
        return seen

    def signed_at(self) -> datetime | None:
        """When the timestamp was signed, where it says so.

        Raises:
            Untrusted: It says nonsense.
        """
        value = self._trusted.timestamp.unrecognized_fields.get(SIGNED_AT_FIELD)
        if value is None:
            return None
        try:
            signed_at = aware_instant(str(value)).astimezone(UTC)
        except ValueError as error:
            raise Untrusted(f"the timestamp's {SIGNED_AT_FIELD} is no instant: {error}") from error
        if signed_at > self._trusted.timestamp.expires:
            raise Untrusted(f"the timestamp was signed at {signed_at.isoformat()}, after it expired")
        return signed_at

    def root(self, folder: Path) -> bytes:
        """The newest root, as it was signed."""
        return (folder / "root_history" / f"{self._trusted.root.version}.root.json").read_bytes()

    def verify_fresh(self, now: datetime) -> None:
        """Judge by a later instant than `refresh` could know of, from now on.

        Raises:
            Untrusted: Something has expired.
        """
        self._trusted.reference_time = now
        with _told(now):
            for name in (ROOT, TIMESTAMP, SNAPSHOT, TARGETS):
                if self._trusted[name].is_expired(now):
                    raise ExpiredMetadataError(f"{name}.json is expired")

    def target(self, path: str) -> SignedTarget | None:
        """What was signed under a path; None: nothing.

        Raises:
            Untrusted: The role that may sign it has metadata that does not verify, or signed nonsense.
            Interrupted: The role's metadata did not come.
        """
        with _told(self._trusted.reference_time):
            file = self._updater.get_targetinfo(path)
        if file is None:
            return None
        try:
            return target_from_custom(
                path, sha256=str(file.hashes.get("sha256")), total_bytes=file.length, custom=file.custom
            )
        except WireError as error:
            raise Untrusted(f"{path} was signed with a description that can't be read: {error}") from error


class _Fetcher(FetcherInterface):
    def __init__(self, fetch: FetchFile) -> None:
        self._fetch_file = fetch

    def download_bytes(self, url: str, max_length: int) -> bytes:
        # The base class would write each file to /tmp first.
        name = url.removeprefix(_BASE)
        data = self._fetch_file(name, max_length)
        if data is None:
            raise DownloadHTTPError(f"the coordinator has no {name}", _NOT_FOUND)
        if len(data) > max_length:
            raise Untrusted(f"the coordinator's {name} is longer than the {max_length} bytes that it may have")
        return data

    def _fetch(self, url: str) -> Iterator[bytes]:
        raise NotImplementedError(f"{url}: targets are downloaded elsewhere")


def _refreshed(folder: Path, root: bytes, fetch: FetchFile, now: datetime) -> Updater:
    updater = Updater(str(folder), _BASE, fetcher=_Fetcher(fetch), config=_CONFIG, bootstrap=root)
    updater._trusted_set.reference_time = now  # noqa: SLF001 - see `Verified`
    updater.refresh()
    return updater


def _forget_cached(folder: Path) -> bool:
    """Whether there was something to forget."""
    cached = [path for path in (folder / "timestamp.json", folder / "snapshot.json") if path.exists()]
    for path in cached:
        path.unlink()
    return bool(cached)


@contextmanager
def _told(now: datetime | None = None) -> Iterator[None]:
    """Turn python-tuf's errors into ours."""
    try:
        yield
    except ExpiredMetadataError as error:
        clock: Any = f"{now:%Y-%m-%d %H:%M} UTC" if now else "unknown"
        raise Expired(
            f"{error} by this device's clock ({clock})",
            hint="if the clock is wrong, set it; if it is right, the coordinator has to renew its signed metadata",
        ) from error
    except UnsignedMetadataError as error:
        raise Untrusted(
            f"the coordinator's metadata is not signed by whom this device trusts: {error}",
            hint="a fault or a break-in at the coordinator: look there, leave the device as it is. Only one that was "
            "moved to another fleet on purpose is enrolled again, its folder trust/ removed before",
        ) from error
    except (RepositoryError, DownloadError, ValueError) as error:
        raise Untrusted(f"the coordinator's signed metadata does not verify: {error}") from error
