"""The rows of trust: metadata by role and version, what waits, the charter, and which flavors are approved."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy import and_, delete, func, insert, or_, select, update
from tuf.api.metadata import Root, Snapshot, Targets, Timestamp

from edgeward.protocol.digests import Digest
from edgeward.protocol.targets import PatchOffer, SignedTarget, target_path
from edgeward_coordinator.errors import FailedPrecondition
from edgeward_coordinator.registry.store import flavor_from_row, patches_to, renew_deployments
from edgeward_coordinator.storage import insert_into, next_generation, schema
from edgeward_coordinator.trust.charter import ONLINE_ROLES, ROOT, SNAPSHOT, TIMESTAMP, charter_from_text
from edgeward_coordinator.trust.metadata import decode, encode
from edgeward_coordinator.trust.repository import Repository

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from sqlalchemy import ColumnElement, Connection, RowMapping

    from edgeward_coordinator.registry import RegisteredPatch
    from edgeward_coordinator.trust.charter import Charter
    from edgeward_coordinator.trust.metadata import AnyMetadata

_CHARTER = "trust"


@dataclass(slots=True, kw_only=True)
class Work:
    """What a transaction works on; the charter and the repository are replaced as it goes."""

    connection: Connection
    charter: Charter
    repository: Repository = field(init=False)


def lock(connection: Connection) -> None:
    """Hold the trust of this database to the transaction's end."""
    table = schema.setting
    connection.execute(insert_into(connection, table).values(name=_CHARTER, value="").on_conflict_do_nothing())
    connection.execute(select(table.c.value).where(table.c.name == _CHARTER).with_for_update())


def begin(connection: Connection) -> Work | None:
    """What is decided and in force, under the lock; None where there is no trust yet."""
    lock(connection)
    return look(connection)


def look(connection: Connection) -> Work | None:
    """The same without the lock."""
    loaded = load(connection)
    if loaded is None:
        return None
    work = Work(connection=connection, charter=loaded[0])
    work.repository = loaded[1]
    return work


def load(connection: Connection) -> tuple[Charter, Repository] | None:
    """The charter, and what is in force; None where there is no trust yet."""
    query = select(schema.setting.c.value).where(schema.setting.c.name == _CHARTER)
    text = connection.execute(query).scalar_one_or_none()
    if not text:
        return None
    newest, pending = _load_newest(connection), _load_pending(connection)
    targets = {role: decode(each, Targets) for role, each in newest.items() if role not in {ROOT, *ONLINE_ROLES}}
    repository = Repository(
        root=decode(newest[ROOT], Root),
        targets=targets,
        snapshot=decode(newest[SNAPSHOT], Snapshot),
        timestamp=decode(newest[TIMESTAMP], Timestamp),
        pending={role: decode(each, Root if role == ROOT else Targets) for role, each in pending.items()},
    )
    return charter_from_text(text), repository


def save_repository(work: Work, before: Repository | None, *, at: datetime, keep: int) -> None:
    """Bring new versions into force, and have what waits wait.

    Args:
        work: With the repository to save.
        before: As it was loaded; None at the first time.
        at: Now.
        keep: Of roles other than root, versions that are so many behind are forgotten.
    """
    for role, metadata in work.repository.documents().items():
        current = None if before is None else before.in_force(role)
        if current is None or current.signed.version != metadata.signed.version:
            _insert_metadata(work.connection, role, metadata, at=at, keep=0 if role == ROOT else keep)
    if before is None or before.pending != work.repository.pending:
        _replace_pending(work.connection, work.repository.pending, at=at)


def save_charter(connection: Connection, text: str) -> None:
    """Replace the charter, under the lock."""
    connection.execute(update(schema.setting).where(schema.setting.c.name == _CHARTER).values(value=text))


def load_content(connection: Connection, role: str, version: int | None) -> bytes | None:
    """One version's bytes, the newest where none is given; None where it is not kept."""
    table = schema.trust_metadata
    query = select(table.c.content).where(table.c.role == role).order_by(table.c.version.desc()).limit(1)
    if version is not None:
        query = query.where(table.c.version == version)
    content = connection.execute(query).scalar_one_or_none()
    return None if content is None else bytes(content)


def load_wanted(connection: Connection) -> list[SignedTarget]:
    """All approved flavors; those in use come first, then what was approved last."""
    table = schema.flavor
    in_use = _versions_in_use(connection)
    rows = connection.execute(select(table).where(table.c.approved_at.is_not(None))).mappings().all()
    rows = sorted(rows, key=lambda row: (row["model"], row["version"], row["name"]))
    rows.sort(key=lambda row: ((row["model"], row["version"]) in in_use, row["approved_at"]), reverse=True)
    patches = patches_to(connection, [Digest(row["digest"]) for row in rows])
    return [_target_from_row(row, patches.get(Digest(row["digest"]), ())) for row in rows]


def approve_flavor(
    connection: Connection, key: tuple[str, int, str], *, at: datetime, actor: str, runtimes: Mapping[str, str]
) -> None:
    """Note the approval of one flavor (model, version, name), and what it needs of a runtime."""
    values = {"approved_at": at, "approved_by": actor, "runtimes": dict(runtimes)}
    connection.execute(update(schema.flavor).where(_is_flavor(*key)).values(values))


def withdraw_version(connection: Connection, model: str, number: int) -> None:
    """Take the approval of all flavors of a version back."""
    table = schema.flavor
    of_version = (table.c.model == model) & (table.c.version == number)
    connection.execute(update(table).where(of_version).values(approved_at=None, approved_by=None))


def verify_no_rollout_needs(connection: Connection, model: str, number: int) -> None:
    """Check that no rollout leads to a version or would go back to it; none begins until the transaction ends.

    Raises:
        FailedPrecondition: One does.
    """
    next_generation(connection)  # whoever starts a rollout takes one too
    table = schema.rollout.c
    needs = (table.model == model) & or_(table.from_version == number, table.to_version == number)
    query = select(table.id, table.group_name).where(needs, table.ended_at.is_(None)).limit(1)
    row = connection.execute(query).first()
    if row is not None:
        raise FailedPrecondition(
            f"the rollout {row.id} to group {row.group_name!r} is not over and needs {model}:{number}",
            hint=f"wait for it, or end it first: edgeward rollouts abort {row.id}",
        )


def groups_of(connection: Connection, model: str, number: int) -> list[str]:
    """The groups that a version is deployed to."""
    table = schema.deployment.c
    query = select(table.group_name).where(table.model == model, table.version == number).order_by(table.group_name)
    return list(connection.execute(query).scalars())


def mark_signed(connection: Connection, digests: Mapping[str, str], *, at: datetime) -> list[str]:
    """Have `signed_at` say what is in force, and devices hear of what changed.

    Args:
        connection: In the transaction that brings it into force.
        digests: By path, what is in force.
        at: Now.

    Returns:
        The paths that are no longer signed although they are approved.
    """
    table = schema.flavor
    known = select(table.c.model, table.c.version, table.c.name, table.c.digest, table.c.signed_at, table.c.approved_at)
    relevant = or_(table.c.signed_at.is_not(None), table.c.approved_at.is_not(None))
    changed: set[tuple[str, int]] = set()
    dropped = []
    for row in connection.execute(known.where(relevant)).all():
        path = target_path(row.model, row.version, row.name)
        is_signed = digests.get(path) == row.digest
        if is_signed == (row.signed_at is not None):
            continue
        connection.execute(
            update(table)
            .where(_is_flavor(row.model, row.version, row.name))
            .values(signed_at=at if is_signed else None)
        )
        changed.add((row.model, row.version))
        if not is_signed and row.approved_at is not None:
            dropped.append(path)
    for model, number in sorted(changed):
        renew_version(connection, model, number)
    return dropped


def renew_version(connection: Connection, model: str, number: int) -> None:
    """Give everything that has devices run a version a new generation, for what they are offered has changed.

    The release stays: nobody decided that devices should try again what they refused.
    """
    renew_deployments(connection, model, number)
    table = schema.assignment
    concerned = (table.c.model == model) & or_(table.c.version == number, table.c.candidate_version == number)
    if connection.execute(select(table.c.device_id).where(concerned).limit(1)).first() is not None:
        connection.execute(update(table).where(concerned).values(generation=next_generation(connection)))


def _load_newest(connection: Connection) -> dict[str, bytes]:
    table = schema.trust_metadata
    newest = select(table.c.role, func.max(table.c.version).label("version")).group_by(table.c.role).subquery()
    is_newest = (table.c.role == newest.c.role) & (table.c.version == newest.c.version)
    rows = connection.execute(select(table.c.role, table.c.content).join(newest, is_newest))
    return {row.role: bytes(row.content) for row in rows}


def _load_pending(connection: Connection) -> dict[str, bytes]:
    rows = connection.execute(select(schema.trust_pending.c.role, schema.trust_pending.c.content))
    return {row.role: bytes(row.content) for row in rows}


def _insert_metadata(connection: Connection, role: str, metadata: AnyMetadata, *, at: datetime, keep: int) -> None:
    table, signed = schema.trust_metadata, metadata.signed
    values = {"version": signed.version, "content": encode(metadata), "expires_at": signed.expires}
    connection.execute(insert(table).values(role=role, created_at=at, **values))
    if keep:
        connection.execute(delete(table).where((table.c.role == role) & (table.c.version <= signed.version - keep)))


def _replace_pending(connection: Connection, pending: Mapping[str, AnyMetadata], *, at: datetime) -> None:
    table = schema.trust_pending
    connection.execute(delete(table))
    rows = [
        {"role": role, "version": each.signed.version, "content": encode(each), "created_at": at}
        for role, each in pending.items()
    ]
    if rows:
        connection.execute(insert(table), rows)


def _versions_in_use(connection: Connection) -> set[tuple[str, int]]:
    deployment, assignment, rollout = schema.deployment.c, schema.assignment.c, schema.rollout.c
    queries = [
        select(deployment.model, deployment.version),
        select(assignment.model, assignment.version),
        select(assignment.model, assignment.candidate_version),
        select(rollout.model, rollout.to_version).where(rollout.ended_at.is_(None)),
        select(rollout.model, rollout.from_version).where(rollout.ended_at.is_(None)),
    ]
    return {(model, number) for query in queries for model, number in connection.execute(query.distinct()) if number}


def _target_from_row(row: RowMapping, patches: Iterable[RegisteredPatch]) -> SignedTarget:
    flavor = flavor_from_row(row)
    return SignedTarget(
        model=row["model"],
        version=row["version"],
        flavor=flavor,
        runtimes=row["runtimes"] or {},
        memory_bytes=_memory_bytes(flavor.total_bytes),
        patches=tuple(
            PatchOffer(base_digest=each.base_digest, digest=each.digest, total_bytes=each.total_bytes)
            for each in patches
        ),
    )


def _memory_bytes(total_bytes: int) -> int:
    """An estimate from the file's size: its weights, a copy that the runtime packs for its kernels, and a session."""
    return 2 * total_bytes + (8 << 20)


def _is_flavor(model: str, number: int, name: str) -> ColumnElement[bool]:
    table = schema.flavor
    return and_(table.c.model == model, table.c.version == number, table.c.name == name)
