"""What is in force, what waits for signatures, and the step from one to the next: pure.

The step is level-triggered: from who should sign (`Charter`) and what should be
signed (the approved flavors) follow the next versions of root, targets and
projects. They are signed with the keys at hand; what lacks a signature waits.
What has its signatures comes into force, together with a new snapshot and
timestamp, only as a set in which every document verifies from the root down.
So neither a key change that nobody has signed yet nor a crash ever leaves
devices with metadata that they would refuse.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, cast

from tuf.api.metadata import Metadata

from edgeward_coordinator.errors import FailedPrecondition
from edgeward_coordinator.trust.charter import ONLINE_ROLES, ROOT, SNAPSHOT, TARGETS, TIMESTAMP, Project, RoleKeys
from edgeward_coordinator.trust.metadata import (
    meta_file,
    missing_signatures,
    projects_of,
    root_of,
    route,
    same_content,
    sign,
    snapshot_of,
    targets_of,
    timestamp_of,
    valid_signers,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from securesystemslib.signer import Key, Signer
    from tuf.api.metadata import Root, Signed, Snapshot, Targets, Timestamp

    from edgeward.protocol.targets import SignedTarget
    from edgeward_coordinator.trust.charter import Charter
    from edgeward_coordinator.trust.metadata import AnyMetadata

# Each pass brings something into force; a project within a project takes three.
_MOST_PASSES: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifetimes:
    """For how long metadata is good; it is renewed at half of it."""

    root: timedelta = timedelta(days=365)
    targets: timedelta = timedelta(days=90)
    snapshot: timedelta = timedelta(days=7)
    timestamp: timedelta = timedelta(days=1)

    def of(self, role: str) -> timedelta:
        """Of a role; projects live as long as targets."""
        return {ROOT: self.root, SNAPSHOT: self.snapshot, TIMESTAMP: self.timestamp}.get(role, self.targets)


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """The newest metadata in force, and next versions that wait.

    Attributes:
        root: In force.
        targets: In force: "targets", and every project that has ever been (for its version).
        snapshot: In force.
        timestamp: In force.
        pending: The next version of a role that can't come into force yet.
    """

    root: Metadata[Root]
    targets: Mapping[str, Metadata[Targets]]
    snapshot: Metadata[Snapshot]
    timestamp: Metadata[Timestamp]
    pending: Mapping[str, AnyMetadata] = field(default_factory=dict)

    @property
    def projects(self) -> dict[str, Project]:
        """The projects in force."""
        return projects_of(self.targets[TARGETS].signed)

    def in_force(self, role: str) -> AnyMetadata | None:
        """The metadata of a role, None where it has none."""
        top: dict[str, AnyMetadata] = {ROOT: self.root, SNAPSHOT: self.snapshot, TIMESTAMP: self.timestamp}
        return top[role] if role in top else self.targets.get(role)

    def documents(self) -> dict[str, AnyMetadata]:
        """All that is in force, by role."""
        return {ROOT: self.root, **self.targets, SNAPSHOT: self.snapshot, TIMESTAMP: self.timestamp}

    def signed_digests(self) -> dict[str, str]:
        """By path what a client finds: the digest of each target that the role in charge of it has signed."""
        prefixes = {name: project.prefix for name, project in self.projects.items()}
        found: dict[str, str] = {}
        for name in (*prefixes, TARGETS):
            for path, target in self.targets[name].signed.targets.items():
                # Clients look into "targets" first, whatever it delegates.
                if name == TARGETS or route(path.split("/")[1], prefixes, default=TARGETS) == name:
                    found[path] = target.hashes["sha256"]
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What the next step follows from.

    Attributes:
        charter: Who should sign.
        wanted: What should be signed, the most important first.
        signers: The private keys at hand, by key id.
        lifetimes: For how long.
        max_targets: At most so many a role.
        now: The instant.
    """

    charter: Charter
    wanted: Sequence[SignedTarget]
    signers: Mapping[str, Signer]
    lifetimes: Lifetimes
    max_targets: int
    now: datetime


def first_repository(given: Circumstances) -> Repository:
    """The first versions of all roles, without targets; all keys must be at hand."""
    root: Metadata[Root] = Metadata(root_of(given.charter, version=1, expires=_expiry(given, ROOT)))
    targets: Metadata[Targets] = Metadata(targets_of((), {}, version=1, expires=_expiry(given, TARGETS)))
    sign(root, _held(given, given.charter.roles[ROOT].keys))
    sign(targets, _held(given, given.charter.roles[TARGETS].keys))
    snapshot = _next_snapshot(root, {"targets.json": meta_file(targets)}, 1, given)
    timestamp = _next_timestamp(root, snapshot, 1, given)
    return Repository(root=root, targets={TARGETS: targets}, snapshot=snapshot, timestamp=timestamp)


def settle(repository: Repository, given: Circumstances) -> Repository:
    """Bring into force what can be, and prepare what waits for signatures.

    Returns:
        What is in force from now on; `repository` itself where nothing changes.

    Raises:
        FailedPrecondition: A new snapshot or timestamp is needed and its key is not at hand.
    """
    settled = repository
    for _ in range(_MOST_PASSES):
        prepared = replace(settled, pending=_prepare(settled, given))
        settled = _publish(prepared, given)
        if settled is prepared:
            break
    settled = _renew_online(settled, given)
    unchanged = settled.documents() == repository.documents() and settled.pending == repository.pending
    return repository if unchanged else settled


def waiting(repository: Repository, charter: Charter) -> dict[str, int]:
    """The roles whose next version waits for signatures, and for how many."""
    counts = {role: _missing(repository, charter, role, next_one) for role, next_one in repository.pending.items()}
    return {role: count for role, count in counts.items() if count}


def may_sign(repository: Repository, charter: Charter, role: str) -> dict[str, Key]:
    """The keys whose signatures count on the next version of a role: those to come, and those in force."""
    if role == ROOT:
        return {**_keys_in(repository.root.signed, ROOT).keys, **charter.roles[ROOT].keys}
    if role == TARGETS:
        return {**_keys_in(repository.root.signed, TARGETS).keys, **charter.roles[TARGETS].keys}
    in_force = repository.projects.get(role)
    to_come = charter.projects.get(role)
    return {**(in_force.signers.keys if in_force else {}), **(to_come.signers.keys if to_come else {})}


def keys_in_force(repository: Repository, role: str) -> RoleKeys:
    """Who signs for one of the four roles, by the root in force."""
    return _keys_in(repository.root.signed, role)


# Preparing -------------------------------------------------------------------


def _prepare(repository: Repository, given: Circumstances) -> dict[str, AnyMetadata]:
    """The next version of each role that needs one, signed with the keys at hand."""
    pending: dict[str, AnyMetadata] = {}
    for name in given.charter.projects:
        wanted = _targets_for(repository, given, name)
        _prepare_role(repository, given, name, wanted, pending)
    _prepare_role(repository, given, TARGETS, _top_targets(repository, given, pending), pending)
    root = root_of(given.charter, version=_next_version(repository, ROOT), expires=_expiry(given, ROOT))
    _prepare_role(repository, given, ROOT, root, pending)
    return pending


def _prepare_role(
    repository: Repository, given: Circumstances, role: str, wanted: Signed, pending: dict[str, AnyMetadata]
) -> None:
    if not _needs_next(repository, given, role, wanted):
        return
    waits = repository.pending.get(role)
    keys = may_sign(repository, given.charter, role)
    if waits is None or not _is_still_wanted(waits, wanted, given, role):
        pending[role] = Metadata(wanted)
    else:
        pending[role] = Metadata(waits.signed, dict(waits.signatures))
    sign(pending[role], _held(given, keys))


def _needs_next(repository: Repository, given: Circumstances, role: str, wanted: Signed) -> bool:
    current = repository.in_force(role)
    if current is None or not same_content(current.signed, wanted) or _is_due(current, given, role):
        return True
    return missing_signatures(current, given.charter.signers_of(role)) > 0


def _is_still_wanted(waits: AnyMetadata, wanted: Signed, given: Circumstances, role: str) -> bool:
    is_same = waits.signed.version == wanted.version and same_content(waits.signed, wanted)
    return is_same and not _is_due(waits, given, role)


def _targets_for(repository: Repository, given: Circumstances, name: str) -> Targets:
    """A project's next targets: of those that are in force with it, the models that would be its own."""
    prefixes = {each: project.prefix for each, project in repository.projects.items() if each in given.charter.projects}
    prefixes[name] = given.charter.projects[name].prefix
    return targets_of(
        _choose(given, prefixes, name),
        {},
        version=_next_version(repository, name),
        expires=_expiry(given, name),
    )


def _top_targets(repository: Repository, given: Circumstances, pending: Mapping[str, AnyMetadata]) -> Targets:
    projects = dict(_effective_projects(repository, given, pending))
    prefixes = {name: project.prefix for name, project in projects.items()}
    return targets_of(
        _choose(given, prefixes, TARGETS),
        projects,
        version=_next_version(repository, TARGETS),
        expires=_expiry(given, TARGETS),
    )


def _effective_projects(
    repository: Repository, given: Circumstances, pending: Mapping[str, AnyMetadata]
) -> Iterator[tuple[str, Project]]:
    """Whom to delegate to next: a new or changed project only once its own metadata is signed as it should be."""
    for name, project in given.charter.projects.items():
        newest = pending.get(name) or repository.targets.get(name)
        if newest is not None and not missing_signatures(newest, project.signers):
            yield name, project
        elif name in repository.projects:
            yield name, repository.projects[name]


def _choose(given: Circumstances, prefixes: Mapping[str, str], role: str) -> list[SignedTarget]:
    mine = (each for each in given.wanted if route(each.model, prefixes, default=TARGETS) == role)
    return list(itertools.islice(mine, given.max_targets))


def _next_version(repository: Repository, role: str) -> int:
    current = repository.in_force(role)
    return 1 if current is None else current.signed.version + 1


# Publishing ------------------------------------------------------------------


def _publish(repository: Repository, given: Circumstances) -> Repository:
    """Bring the newest set into force that verifies from the root down; the same object where that is what is."""
    for root, top in itertools.product(_roots(repository, given), _newest_first(repository, given, TARGETS)):
        if missing_signatures(top, _keys_in(root.signed, TARGETS)):
            continue
        chosen = _projects_under(repository, given, top)
        if chosen is not None:
            return _in_force_with(repository, root, {**repository.targets, TARGETS: top, **chosen})
    raise FailedPrecondition("the metadata in force does not verify", hint="restore the database from a backup")


def _roots(repository: Repository, given: Circumstances) -> Iterator[Metadata[Root]]:
    pending = cast("Metadata[Root] | None", repository.pending.get(ROOT))
    if pending is not None and not _root_missing(repository.root, pending) and _can_go_online(pending, given):
        yield pending
    yield repository.root


def _newest_first(repository: Repository, given: Circumstances, role: str) -> Iterator[Metadata[Targets]]:
    pending, current = repository.pending.get(role), repository.targets.get(role)
    if pending is not None and (current is None or _is_progress(pending, current, given, role)):
        yield pending
    if current is not None:
        yield current


def _is_progress(pending: AnyMetadata, current: AnyMetadata, given: Circumstances, role: str) -> bool:
    """Whether it is more than the same once more, signed with keys that are about to go."""
    if not same_content(pending.signed, current.signed) or _is_due(current, given, role):
        return True
    return not missing_signatures(pending, given.charter.signers_of(role))


def _projects_under(
    repository: Repository, given: Circumstances, top: Metadata[Targets]
) -> dict[str, Metadata[Targets]] | None:
    chosen = {}
    for name, project in projects_of(top.signed).items():
        candidates = _newest_first(repository, given, name)
        newest = next((each for each in candidates if not missing_signatures(each, project.signers)), None)
        if newest is None:
            return None
        chosen[name] = newest
    return chosen


def _in_force_with(
    repository: Repository, root: Metadata[Root], targets: Mapping[str, Metadata[Targets]]
) -> Repository:
    came = {role for role, each in targets.items() if each is not repository.targets.get(role)}
    if root is not repository.root:
        came.add(ROOT)
    if not came:
        return repository
    left = {role: each for role, each in repository.pending.items() if role not in came}
    return replace(repository, root=root, targets=targets, pending=left)


def _can_go_online(root: Metadata[Root], given: Circumstances) -> bool:
    """Whether snapshot and timestamp could be signed under it here; else another coordinator brings it into force."""
    needed = [_keys_in(root.signed, role) for role in ONLINE_ROLES]
    return all(sum(key_id in given.signers for key_id in each.keys) >= each.threshold for each in needed)


# Snapshot and timestamp ------------------------------------------------------


def _renew_online(repository: Repository, given: Circumstances) -> Repository:
    root, snapshot, timestamp = repository.root, repository.snapshot, repository.timestamp
    # Clients refuse a snapshot in which a role is missing that was in the one before.
    live = {f"{name}.json": meta_file(repository.targets[name]) for name in (TARGETS, *repository.projects)}
    meta = {**snapshot.signed.meta, **live}
    if meta != snapshot.signed.meta or _is_stale(snapshot, root, given, SNAPSHOT):
        snapshot = _next_snapshot(root, meta, snapshot.signed.version + 1, given)
    if snapshot is not repository.snapshot or _is_stale(timestamp, root, given, TIMESTAMP):
        timestamp = _next_timestamp(root, snapshot, timestamp.signed.version + 1, given)
    return replace(repository, snapshot=snapshot, timestamp=timestamp)


def _is_stale(metadata: AnyMetadata, root: Metadata[Root], given: Circumstances, role: str) -> bool:
    return _is_due(metadata, given, role) or missing_signatures(metadata, _keys_in(root.signed, role)) > 0


def _next_snapshot(
    root: Metadata[Root], meta: Mapping[str, Any], version: int, given: Circumstances
) -> Metadata[Snapshot]:
    snapshot: Metadata[Snapshot] = Metadata(snapshot_of(meta, version=version, expires=_expiry(given, SNAPSHOT)))
    _sign_online(snapshot, root, given, SNAPSHOT)
    return snapshot


def _next_timestamp(
    root: Metadata[Root], snapshot: Metadata[Snapshot], version: int, given: Circumstances
) -> Metadata[Timestamp]:
    expires = _expiry(given, TIMESTAMP)
    timestamp: Metadata[Timestamp] = Metadata(timestamp_of(snapshot, version=version, expires=expires, now=given.now))
    _sign_online(timestamp, root, given, TIMESTAMP)
    return timestamp


def _sign_online(metadata: AnyMetadata, root: Metadata[Root], given: Circumstances, role: str) -> None:
    signers = _keys_in(root.signed, role)
    sign(metadata, _held(given, signers.keys))
    if missing_signatures(metadata, signers):
        raise missing_key(role, [key_id for key_id in signers.keys if key_id not in given.signers])


def missing_key(role: str, key_ids: Sequence[str]) -> FailedPrecondition:
    """What to say where the coordinator can't sign what it must."""
    files = ", ".join(f"{role}-{key_id[:12]}.pem" for key_id in key_ids)
    return FailedPrecondition(
        f"the signing key of the role {role} is missing: {files}",
        hint="put it into trust/keys of the data folder, from a backup or from the coordinator that has it;"
        " devices trust no other",
    )


# Small questions -------------------------------------------------------------


def _missing(repository: Repository, charter: Charter, role: str, metadata: AnyMetadata) -> int:
    if role == ROOT:
        return _root_missing(repository.root, cast("Metadata[Root]", metadata))
    return missing_signatures(metadata, charter.signers_of(role))


def _root_missing(current: Metadata[Root], pending: Metadata[Root]) -> int:
    """A root needs the threshold of the root before it and its own; one key may count for both."""
    before, after = _keys_in(current.signed, ROOT), _keys_in(pending.signed, ROOT)
    missing_before, missing_after = missing_signatures(pending, before), missing_signatures(pending, after)
    unsigned = (before.keys.keys() & after.keys.keys()) - valid_signers(pending, after.keys)
    return missing_before + missing_after - min(missing_before, missing_after, len(unsigned))


def _keys_in(root: Root, role: str) -> RoleKeys:
    named = root.roles[role]
    return RoleKeys(keys={key_id: root.keys[key_id] for key_id in named.keyids}, threshold=named.threshold)


def _held(given: Circumstances, keys: Mapping[str, Key]) -> list[Signer]:
    return [given.signers[key_id] for key_id in keys if key_id in given.signers]


def _is_due(metadata: AnyMetadata, given: Circumstances, role: str) -> bool:
    expires: datetime = metadata.signed.expires
    return expires - given.lifetimes.of(role) / 2 <= given.now


def _expiry(given: Circumstances, role: str) -> datetime:
    return (given.now + given.lifetimes.of(role)).replace(microsecond=0)
