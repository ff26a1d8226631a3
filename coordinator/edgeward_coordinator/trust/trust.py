"""Trust: approvals, keys, and the signed metadata in force, on a database that several coordinators share.

No root is ever made where the database has one: a lost key folder is an error.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tuf.api.metadata import Metadata

from edgeward_coordinator.errors import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied
from edgeward_coordinator.registry.patching import make_patches
from edgeward_coordinator.storage import Change
from edgeward_coordinator.trust import store
from edgeward_coordinator.trust.charter import ONLINE_ROLES, ROOT, TARGETS, TIMESTAMP, Charter, RoleKeys
from edgeward_coordinator.trust.document import WaitingRole, new_signatures, read_document, write_document
from edgeward_coordinator.trust.keys import KeyFolder, parse_public_key
from edgeward_coordinator.trust.ledger import Ledger, TrustSettings, no_trust
from edgeward_coordinator.trust.metadata import route
from edgeward_coordinator.trust.needs import least_runtimes
from edgeward_coordinator.trust.repository import Repository, may_sign, waiting
from edgeward_coordinator.trust.status import TrustStatus, status_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from edgeward_coordinator.registry import ModelVersion, RegisteredFlavor, Registry
    from edgeward_coordinator.storage import Database
    from edgeward_coordinator.trust.metadata import AnyMetadata

_METADATA_NAME = re.compile(r"(?:([1-9][0-9]{0,8})\.)?([a-z0-9][a-z0-9_-]{0,62})\.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """A version after it was approved or withdrawn, and the roles whose offline keys must sign that first."""

    version: ModelVersion
    waiting_for_roles: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What came of signatures that were brought."""

    published_roles: tuple[str, ...]
    waiting_for_roles: tuple[str, ...]


class Trust:
    """What may run in the fleet, and the proof of it. Thread-safe; several coordinators share one database.

    Args:
        database: Where metadata and approvals lie.
        registry: Knows the versions.
        folder: Of the private keys that this coordinator holds, in `keys/`.
        clock: The instant now, aware UTC.
        settings: See there.
    """

    def __init__(
        self,
        database: Database,
        registry: Registry,
        folder: Path,
        *,
        clock: Callable[[], datetime],
        settings: TrustSettings | None = None,
    ) -> None:
        self._database = database
        self._registry = registry
        self._keys = KeyFolder(folder / "keys")
        self._clock = clock
        self._settings = settings or TrustSettings()
        self._ledger = Ledger(database, self._keys, clock=clock, settings=self._settings)

    def ensure(self) -> list[Path]:
        """Make keys and first metadata where the database has none yet; call it at each start.

        Returns:
            The new private keys, of which an operator should hear: those of root and targets can be taken away.

        Raises:
            FailedPrecondition: The database has trust and a key that this coordinator needs daily is not here.
        """
        made = self._ledger.create()
        self._ledger.verify_online_keys()
        self.renew()
        return made

    def root(self) -> bytes:
        """The newest root metadata, for a device that enrolls."""
        with self._database.read() as connection:
            content = store.load_content(connection, ROOT, None)
        if content is None:
            raise no_trust()
        return content

    def metadata(self, name: str) -> bytes:
        """A file of metadata as devices ask for it: "timestamp.json", "3.root.json".

        Raises:
            NotFound: There is none of that name, or it is not kept any more.
        """
        match = _METADATA_NAME.fullmatch(name)
        version, role = match.groups() if match else (None, "")
        # Only the timestamp is asked for without a version.
        if role and (version is None) == (role == TIMESTAMP):
            with self._database.read() as connection:
                content = store.load_content(connection, role, int(version) if version else None)
            if content is not None:
                return content
        raise NotFound(f"no metadata {name[:80]!r}")

    def approve(self, model: str, number: int, *, actor: str, reason: str = "") -> Approval:
        """Approve what a version has now, and sign it if the keys are here; again changes nothing.

        Args:
            model: The model.
            number: Its version; all flavors that it has now and that a device could run.
            actor: Who approves.
            reason: For the audit log.

        Raises:
            NotFound: No such version.
            FailedPrecondition: It is only trained arrays.
            PermissionDenied: Somebody else than who made the version or a flavor must approve, and that is who asks.
        """
        version = self._registry.get_version(model, number)
        version.verify_runnable()
        todo = [each for each in version.flavors if each.flavor.format != "arrays" and not each.is_signed]
        self._verify_may_approve(version, todo, actor)
        if all(each.is_approved for each in todo):
            approval = self._approval(model, number)
            # What is approved, unsigned and waits for nobody had dropped out of a full role, and comes back.
            if not todo or approval.waiting_for_roles:
                return approval
        needs = {each.flavor.name: least_runtimes(self._registry, each.flavor) for each in todo}
        make_patches(self._registry, self._database, model=model, number=number)
        change = _decision("model.version.approve", version, todo, actor=actor, reason=reason)
        with self._ledger.changed(change) as work:
            for each in todo:
                key = (model, number, each.flavor.name)
                store.approve_flavor(
                    work.connection, key, at=self._clock(), actor=actor, runtimes=needs[each.flavor.name]
                )
        return self._approval(model, number)

    def withdraw(self, model: str, number: int, *, actor: str, reason: str = "") -> Approval:
        """Take the approval back: it is offered to no device any more, and leaves the signed metadata.

        Devices that serve it serve on; the audit log says which groups it is deployed to.

        Raises:
            NotFound: No such version.
            FailedPrecondition: A rollout that is not over needs it.
        """
        version = self._registry.get_version(model, number)
        approved = [each for each in version.flavors if each.is_approved]
        if approved:
            decision = _decision("model.version.withdraw", version, approved, actor=actor, reason=reason)
            detail = dict(decision.detail)
            change = replace(decision, detail=detail)
            with self._ledger.changed(change) as work:
                store.verify_no_rollout_needs(work.connection, model, number)
                detail["deployed_to"] = store.groups_of(work.connection, model, number)
                store.withdraw_version(work.connection, model, number)
                store.renew_version(work.connection, model, number)
        return self._approval(model, number)

    def renew(self) -> None:
        """Sign anew what has lived half of its life, as far as its keys are here; call it every few seconds.

        Raises:
            FailedPrecondition: The key of snapshot or timestamp is needed and not here.
        """
        self._ledger.renew()

    def roles(self) -> TrustStatus:
        """Who signs for what, until when, and what waits."""
        charter, repository = self._ledger.read()
        return status_of(repository, charter, held=self._keys.signers().keys())

    def change_role(
        self,
        role: str,
        *,
        add: Sequence[bytes] = (),
        remove: Sequence[str] = (),
        threshold: int = 0,
        actor: str,
    ) -> tuple[str, ...]:
        """Change who signs for a role. With nothing to add, remove or set, its keys that are here are replaced.

        Args:
            role: "root", "targets", "snapshot", "timestamp" or a project.
            add: Public keys, in PEM.
            remove: Ids of keys, or their first digits.
            threshold: How many must sign; 0 leaves it.
            actor: Who asks.

        Returns:
            The roles that must sign before it takes effect; empty where it has.

        Raises:
            NotFound: No such role, or no such key of it.
            InvalidArgument: A key or the threshold can't be used.
            FailedPrecondition: The role is signed daily and the keys for that are not here.
        """
        keys = [parse_public_key(pem) for pem in add]
        detail: dict[str, Any] = {"add": [key.keyid for key in keys], "remove": list(remove), "threshold": threshold}
        change = Change(actor=actor, action="trust.role.change", subject=role[:128], detail=detail)
        is_rotation = not keys and not remove and not threshold
        with self._ledger.changed(change) as work:
            if is_rotation:
                remove = self._held_of(role, work.charter)
                keys = [self._keys.make(role)[0]]
                detail |= {"add": [key.keyid for key in keys], "remove": remove}
            work.charter = work.charter.with_keys(role, add=keys, remove=remove, threshold=threshold)
            if role in ONLINE_ROLES:
                self._ledger.verify_online_keys(work.charter)
        return self._waiting()

    def put_project(
        self, name: str, *, prefix: str, public_pems: Sequence[bytes] = (), threshold: int = 0, actor: str
    ) -> tuple[str, ...]:
        """Have a project sign the models whose names begin with `prefix`; one of that name is changed.

        Args:
            name: Of the project.
            prefix: Of its models.
            public_pems: Its public keys. None: those that it has, or for a new one a key that the coordinator holds.
            threshold: How many must sign; 0 for what it is, or 1 for a new one.
            actor: Who asks.

        Returns:
            The roles that must sign before it takes effect; empty where it has.

        Raises:
            InvalidArgument: Name, prefix, a key or the threshold can't be used.
            AlreadyExists: Another project has that prefix.
        """
        keys = [parse_public_key(pem) for pem in public_pems]
        detail: dict[str, Any] = {"prefix": prefix[:128], "keys": [key.keyid for key in keys], "threshold": threshold}
        change = Change(actor=actor, action="trust.project.put", subject=name[:128], detail=detail)
        with self._ledger.changed(change) as work:
            if keys:
                known = work.charter.projects.get(name)
                least = threshold or (known.signers.threshold if known else 1)
                signers = RoleKeys(keys={key.keyid: key for key in keys}, threshold=least)
                work.charter = work.charter.with_project(name, prefix=prefix, signers=signers)
            else:
                work.charter = self._with_held_project(work.charter, name, prefix, threshold)
                detail["keys"] = list(work.charter.signers_of(name).keys)
        return self._waiting()

    def remove_project(self, name: str, *, actor: str) -> tuple[str, ...]:
        """Remove a project; its models belong to the role "targets" again.

        Returns:
            The roles that must sign before it takes effect; empty where it has.

        Raises:
            NotFound: There is none.
        """
        with self._ledger.changed(
            Change(actor=actor, action="trust.project.remove", subject=name[:128], detail={})
        ) as work:
            work.charter = work.charter.without_project(name)
        return self._waiting()

    def export_pending(self) -> bytes:
        """What waits for signatures of keys that are not here, as a document for `sign_document`; empty: nothing."""
        charter, repository = self._ledger.read()
        return write_document(
            [
                WaitingRole(
                    role=role,
                    metadata=repository.pending[role],
                    key_ids=tuple(sorted(may_sign(repository, charter, role))),
                    missing=missing,
                    former=repository.in_force(role),
                )
                for role, missing in waiting(repository, charter).items()
            ]
        )

    def import_signed(self, document: bytes, *, actor: str) -> Imported:
        """Take the signatures of a document, and publish what has all it needs.

        Raises:
            InvalidArgument: It is no such document, or has no signature that counts and is new.
            FailedPrecondition: What it signs is not what waits: it was exported before a later change.
        """
        offered = {each.role: each.metadata for each in read_document(document)}
        detail: dict[str, Any] = {}
        change = Change(actor=actor, action="trust.import", subject=", ".join(offered)[:128], detail=detail)
        with self._ledger.changed(change) as work:
            before = work.repository
            work.repository = _with_signatures(before, work.charter, offered)
            detail["signatures"] = {
                role: sorted(work.repository.pending[role].signatures.keys() - before.pending[role].signatures.keys())
                for role in before.pending
                if work.repository.pending[role] is not before.pending[role]
            }
        published = tuple(role for role in offered if _came(before, work.repository, role))
        return Imported(published_roles=published, waiting_for_roles=self._waiting())

    # Keys ---------------------------------------------------------------------

    def _held_of(self, role: str, charter: Charter) -> list[str]:
        held = [key_id for key_id in charter.signers_of(role).keys if key_id in self._keys.signers()]
        if not held:
            raise FailedPrecondition(
                f"no key of the role {role} is on the coordinator, so there is none to replace",
                hint="make one where the old one lies (edgeward trust keygen), then add the new and remove the old",
            )
        return held

    def _with_held_project(self, charter: Charter, name: str, prefix: str, threshold: int) -> Charter:
        known = charter.projects.get(name)
        if known is not None:
            signers = replace(known.signers, threshold=threshold or known.signers.threshold)
            return charter.with_project(name, prefix=prefix, signers=signers)
        # Checked with a key that it has not got yet: no file is made for what can't be.
        checked = charter.with_project(name, prefix=prefix, signers=charter.roles[TARGETS])
        key, _ = self._keys.make(name)
        return checked.with_project(
            name, prefix=prefix, signers=RoleKeys(keys={key.keyid: key}, threshold=threshold or 1)
        )

    # Small questions ----------------------------------------------------------

    def _waiting(self) -> tuple[str, ...]:
        charter, repository = self._ledger.read()
        return tuple(waiting(repository, charter))

    def _approval(self, model: str, number: int) -> Approval:
        version = self._registry.get_version(model, number)
        if all(each.is_approved == (each.signed_at is not None) for each in version.flavors):
            return Approval(version=version, waiting_for_roles=())
        charter, repository = self._ledger.read()
        mine = route(model, {name: each.prefix for name, each in charter.projects.items()}, default=TARGETS)
        concerned = [role for role in waiting(repository, charter) if role in {mine, TARGETS, ROOT}]
        return Approval(version=version, waiting_for_roles=tuple(concerned))

    def _verify_may_approve(self, version: ModelVersion, todo: Sequence[RegisteredFlavor], actor: str) -> None:
        if self._settings.approval != "other":
            return
        mine = [each.flavor.name for each in todo if each.created_by == actor]
        name = f"{version.model}:{version.number}"
        if version.created_by == actor:
            said = f"{name} was pushed by {actor!r}"
        elif mine:
            said = f"{', '.join(mine)} of {name} was made by {actor!r}"
        else:
            return
        raise PermissionDenied(
            f"{said}, and somebody else must approve it", hint="ask another person with the role approver"
        )


def _with_signatures(repository: Repository, charter: Charter, offered: Mapping[str, AnyMetadata]) -> Repository:
    pending, stale = dict(repository.pending), []
    for role, metadata in offered.items():
        waits = pending.get(role)
        if waits is None or waits.signed != metadata.signed:
            stale.append(role)
            continue
        found = new_signatures(metadata, waits, may_sign(repository, charter, role))
        if found:
            pending[role] = Metadata(waits.signed, {**waits.signatures, **found})
    if all(pending[role] is repository.pending[role] for role in pending):
        raise _nothing_new(stale)
    return replace(repository, pending=pending)


def _nothing_new(stale: Sequence[str]) -> FailedPrecondition | InvalidArgument:
    if stale:
        return FailedPrecondition(
            f"what this document signs for {', '.join(stale)[:200]} is not what waits now",
            hint="export again (edgeward trust export), sign that, and import it",
        )
    return InvalidArgument(
        "the document has no new signature of a key that counts", hint="sign it first: edgeward trust sign"
    )


def _came(before: Repository, after: Repository, role: str) -> bool:
    old, new = before.in_force(role), after.in_force(role)
    return new is not None and (old is None or old.signed.version != new.signed.version)


def _decision(
    action: str, version: ModelVersion, flavors: Sequence[RegisteredFlavor], *, actor: str, reason: str
) -> Change:
    digests = {each.flavor.name: each.flavor.digest for each in flavors}
    detail = {"flavors": digests, "reason": reason[:2000]}
    return Change(actor=actor, action=action, subject=f"{version.model}:{version.number}", detail=detail)
