"""The one place where trust is read and changed: a transaction under its lock in the database.

Whatever is decided in it, what follows is signed before it ends: targets,
snapshot, timestamp, `signed_at` of the flavors and the generations of what is
deployed come together or not at all. The lock makes versions a line, however
many coordinators there are.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from edgeward_coordinator.errors import NotFound
from edgeward_coordinator.storage import Change
from edgeward_coordinator.trust import store
from edgeward_coordinator.trust.charter import ONLINE_ROLES, ROOT, TOP_ROLES, Charter, RoleKeys, charter_to_text
from edgeward_coordinator.trust.repository import (
    Circumstances,
    Lifetimes,
    Repository,
    first_repository,
    keys_in_force,
    missing_key,
    settle,
    waiting,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime
    from pathlib import Path

    from edgeward_coordinator.storage import Database
    from edgeward_coordinator.trust.keys import KeyFolder

logger = logging.getLogger(__name__)

ApprovalRule = Literal["any", "other"]

_COORDINATOR: Final = "coordinator"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustSettings:
    """How trust is kept.

    Attributes:
        lifetimes: For how long signed metadata is good.
        max_targets: At most so many flavors a role: a device verifies 300 in some 5 ms, 10,000 in 300.
        kept_versions: So many versions of snapshot, targets and projects stay, for devices in the middle of
            a refresh; of root all do.
        approval: Whether anybody with the role may approve a version, or only another one than who pushed it.
    """

    lifetimes: Lifetimes = field(default_factory=Lifetimes)
    max_targets: int = 300
    kept_versions: int = 8
    approval: ApprovalRule = "any"


class Ledger:
    """Trust's rows, and the keys that sign them."""

    def __init__(
        self, database: Database, keys: KeyFolder, *, clock: Callable[[], datetime], settings: TrustSettings
    ) -> None:
        self._database = database
        self._keys = keys
        self._clock = clock
        self._settings = settings

    def read(self) -> tuple[Charter, Repository]:
        """What is decided, and what is in force.

        Raises:
            NotFound: There is no trust yet.
        """
        with self._database.read() as connection:
            loaded = store.load(connection)
        if loaded is None:
            raise no_trust()
        return loaded

    @contextmanager
    def changed(self, change: Change | None) -> Iterator[store.Work]:
        """Hold the lock: the block decides; then what follows is signed and saved.

        Args:
            change: Who decides what; None for what the coordinator does by itself.

        Raises:
            FailedPrecondition: The key of snapshot or timestamp is needed and not here; nothing has changed.
        """
        opened = self._database.write() if change is None else self._database.change(change)
        with opened as connection:
            work = store.begin(connection)
            if work is None:
                raise no_trust()
            charter, before = work.charter, work.repository
            yield work
            if work.charter is not charter:
                store.save_charter(connection, charter_to_text(work.charter))
            work.repository = settle(work.repository, self._circumstances(work))
            self._save(work, before)
            _log_new_waiting(before, work)

    def renew(self) -> None:
        """Sign anew what is due, as far as the keys are here."""
        with self._database.read() as connection:
            work = store.look(connection)
            if work is None:
                raise no_trust()
            is_settled = settle(work.repository, self._circumstances(work)) is work.repository
        if not is_settled:
            with self.changed(None):
                pass

    def create(self) -> list[Path]:
        """Make keys and first metadata where the database has none; the paths of the keys."""
        with self._database.read() as connection:
            if store.load(connection) is not None:
                return []
        made: list[Path] = []
        change = Change(actor=_COORDINATOR, action="trust.create", subject=ROOT, detail={})
        try:
            with self._database.change(change) as connection:
                store.lock(connection)
                if store.load(connection) is not None:
                    raise _WasFaster
                self._create(store.Work(connection=connection, charter=self._first_charter(made)))
        except _WasFaster:
            return []
        return made

    def verify_online_keys(self, charter: Charter | None = None) -> None:
        """Check that snapshot and timestamp can be signed here, by the charter given or by the root in force.

        Raises:
            FailedPrecondition: They can't, and which files are missing.
        """
        held = self._keys.signers().keys()
        for role in ONLINE_ROLES:
            signers = charter.roles[role] if charter else keys_in_force(self.read()[1], role)
            absent = [key_id for key_id in signers.keys if key_id not in held]
            if len(signers.keys) - len(absent) < signers.threshold:
                raise missing_key(role, absent)

    def _first_charter(self, made: list[Path]) -> Charter:
        roles: dict[str, RoleKeys] = {}
        for role in TOP_ROLES:
            key, path = self._keys.make(role)
            roles[role] = RoleKeys(keys={key.keyid: key})
            made.append(path)
        return Charter(roles=roles)

    def _create(self, work: store.Work) -> None:
        store.save_charter(work.connection, charter_to_text(work.charter))
        work.repository = first_repository(self._circumstances(work))
        self._save(work, None)

    def _circumstances(self, work: store.Work) -> Circumstances:
        return Circumstances(
            charter=work.charter,
            wanted=store.load_wanted(work.connection),
            signers=self._keys.signers(),
            lifetimes=self._settings.lifetimes,
            max_targets=self._settings.max_targets,
            now=self._clock(),
        )

    def _save(self, work: store.Work, before: Repository | None) -> None:
        now = self._clock()
        store.save_repository(work, before, at=now, keep=self._settings.kept_versions)
        for path in store.mark_signed(work.connection, work.repository.signed_digests(), at=now):
            logger.warning("%s is approved and no longer signed: too many others of its role are newer", path)


class _WasFaster(Exception):
    pass


def no_trust() -> NotFound:
    """What to say before the first start is over."""
    return NotFound("there is no root of trust yet", hint="a coordinator makes it at its first start")


def _log_new_waiting(before: Repository, work: store.Work) -> None:
    for role, missing in waiting(work.repository, work.charter).items():
        if before.pending.get(role) != work.repository.pending[role]:
            logger.warning(
                "the next %s metadata waits for signatures (%d missing): edgeward trust export", role, missing
            )
