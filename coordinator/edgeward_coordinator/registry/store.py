"""The registry's rows."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, RowMapping, func, insert, select, update

from edgeward.protocol.digests import Digest
from edgeward.protocol.model import (
    Flavor,
    parse_format,
    parse_precision,
    signature_from_json,
    signature_to_json,
)
from edgeward_coordinator.registry.version import (
    ARRAYS_FLAVOR,
    Evaluation,
    Lineage,
    ModelSummary,
    ModelVersion,
    RegisteredFlavor,
    RegisteredPatch,
)
from edgeward_coordinator.storage import insert_into, next_generation, schema

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime


def insert_artifact(connection: Connection, digest: Digest, total_bytes: int, *, at: datetime) -> None:
    """Note that the blob is there; again changes nothing."""
    values = {"digest": digest, "total_bytes": total_bytes, "created_at": at}
    connection.execute(insert_into(connection, schema.artifact).values(values).on_conflict_do_nothing())


def artifact_bytes(connection: Connection, digest: str) -> int | None:
    """The length of an artifact, None where there is none."""
    table = schema.artifact
    return connection.execute(select(table.c.total_bytes).where(table.c.digest == digest)).scalar_one_or_none()


def lock_model(connection: Connection, name: str, *, at: datetime, actor: str) -> None:
    """Make the model if it is new, and hold its row until the transaction ends: versions are counted under it."""
    values = {"name": name, "created_at": at, "created_by": actor}
    connection.execute(insert_into(connection, schema.model).values(values).on_conflict_do_nothing())
    connection.execute(select(schema.model.c.name).where(schema.model.c.name == name).with_for_update())


def insert_version(connection: Connection, model: str, lineage: Lineage, *, at: datetime, actor: str) -> int:
    """Add the next version of a model that is locked; returns its number."""
    number = (newest_number(connection, model) or 0) + 1
    values = {"model": model, "number": number, "lineage": asdict(lineage), "created_at": at, "created_by": actor}
    connection.execute(insert(schema.model_version).values(values))
    return number


def insert_flavor(connection: Connection, model: str, number: int, registered: RegisteredFlavor) -> bool:
    """Add a flavor; False where the version has one of that name, which stays as it is."""
    flavor, evaluation = registered.flavor, registered.evaluation
    values = {
        "model": model,
        "version": number,
        "name": flavor.name,
        "format": flavor.format,
        "precision": flavor.precision,
        "digest": flavor.digest,
        "total_bytes": flavor.total_bytes,
        "golden_digest": flavor.golden_digest,
        "golden_bytes": flavor.golden_bytes,
        "signature": signature_to_json(flavor.signature),
        "evaluation": asdict(evaluation) if evaluation else None,
        "created_at": registered.created_at,
        "created_by": registered.created_by,
    }
    statement = insert_into(connection, schema.flavor).values(values).on_conflict_do_nothing()
    return connection.execute(statement.returning(schema.flavor.c.name)).first() is not None


def renew_deployments(connection: Connection, model: str, number: int) -> None:
    """Give the deployments of a version a new generation, for what they offer has changed; its release stays."""
    table = schema.deployment
    of_version = (table.c.model == model) & (table.c.version == number)
    if connection.execute(select(table.c.model).where(of_version).limit(1)).first() is not None:
        generation = next_generation(connection)
        connection.execute(update(table).where(of_version).values(generation=generation))


def version_of_run(connection: Connection, model: str, run_id: str) -> int | None:
    """The version that came out of a run, None where none has yet."""
    version, flavor = schema.model_version, schema.flavor
    same = (flavor.c.model == version.c.model) & (flavor.c.version == version.c.number)
    query = (
        select(version.c.number)
        .join(flavor, same)
        .where(version.c.model == model)
        .where(version.c.lineage["run_id"].as_string() == run_id)
        .where(flavor.c.name == ARRAYS_FLAVOR)
    )
    return connection.execute(query.order_by(version.c.number).limit(1)).scalar_one_or_none()


def newest_number(connection: Connection, model: str) -> int | None:
    """The number of a model's newest version, None where it has none."""
    table = schema.model_version
    newest: int | None = connection.execute(select(func.max(table.c.number)).where(table.c.model == model)).scalar_one()
    return newest


def has_version(connection: Connection, model: str, number: int) -> bool:
    """Whether that version exists."""
    table = schema.model_version
    query = select(table.c.number).where((table.c.model == model) & (table.c.number == number))
    return connection.execute(query).first() is not None


def load_versions(connection: Connection, model: str, *, number: int | None = None) -> list[ModelVersion]:
    """All versions of a model, newest first, or the one of that number."""
    table = schema.model_version
    query = select(table).where(table.c.model == model).order_by(table.c.number.desc())
    if number is not None:
        query = query.where(table.c.number == number)
    rows = connection.execute(query).mappings().all()
    flavors = _load_flavors(connection, model, [row["number"] for row in rows])
    return [_version_from_row(row, flavors.get(row["number"], ())) for row in rows]


def load_summaries(connection: Connection) -> list[ModelSummary]:
    """All models by name."""
    model, version = schema.model, schema.model_version
    newest = func.max(version.c.number).label("newest")
    query = (
        select(model.c.name, model.c.created_at, newest)
        .join(version, version.c.model == model.c.name)
        .group_by(model.c.name, model.c.created_at)
        .order_by(model.c.name)
    )
    rows = connection.execute(query).all()
    names = _load_flavor_names(connection, {row.name: row.newest for row in rows})
    return [
        ModelSummary(
            name=row.name, newest_version=row.newest, created_at=row.created_at, flavors=tuple(names.get(row.name, ()))
        )
        for row in rows
    ]


def patches_to(connection: Connection, digests: Iterable[Digest]) -> dict[Digest, list[RegisteredPatch]]:
    """What makes these artifacts out of others, the smallest first."""
    table = schema.patch
    query = select(table).where(table.c.target_digest.in_(list(digests)))
    found: dict[Digest, list[RegisteredPatch]] = {}
    for row in connection.execute(query.order_by(table.c.total_bytes, table.c.base_digest)):
        patch = RegisteredPatch(
            base_digest=Digest(row.base_digest), digest=Digest(row.digest), total_bytes=row.total_bytes
        )
        found.setdefault(Digest(row.target_digest), []).append(patch)
    return found


def newest_numbers_with(connection: Connection, model: str, digests: Iterable[Digest]) -> dict[Digest, int]:
    """The newest version of a model that has each of these artifacts."""
    table = schema.flavor
    query = select(table.c.digest, func.max(table.c.version).label("number"))
    query = query.where((table.c.model == model) & table.c.digest.in_(list(digests))).group_by(table.c.digest)
    return {Digest(row.digest): row.number for row in connection.execute(query)}


def insert_patch(connection: Connection, target: Digest, patch: RegisteredPatch, *, at: datetime) -> None:
    """Note a patch to an artifact; where there is one from the same base already, that one stays."""
    values = {
        "base_digest": patch.base_digest,
        "target_digest": target,
        "digest": patch.digest,
        "total_bytes": patch.total_bytes,
        "created_at": at,
    }
    connection.execute(insert_into(connection, schema.patch).values(values).on_conflict_do_nothing())


def versions_in_use(connection: Connection, model: str) -> set[int]:
    """The numbers of the versions that are deployed or assigned to any device."""
    deployment, assignment = schema.deployment, schema.assignment
    columns = (deployment.c.version, assignment.c.version, assignment.c.candidate_version)
    queries = (select(column).where(column.table.c.model == model).distinct() for column in columns)
    return {number for query in queries for number in connection.execute(query).scalars() if number is not None}


def flavor_from_row(row: RowMapping) -> Flavor:
    """The flavor itself."""
    golden: str | None = row["golden_digest"]
    return Flavor(
        name=row["name"],
        format=parse_format(row["format"]),
        precision=parse_precision(row["precision"]),
        digest=Digest(row["digest"]),
        total_bytes=row["total_bytes"],
        golden_digest=Digest(golden) if golden else None,
        golden_bytes=row["golden_bytes"] or 0,
        signature=signature_from_json(row["signature"]),
    )


def _load_flavor_names(connection: Connection, newest: dict[str, int]) -> dict[str, list[str]]:
    table = schema.flavor
    names: dict[str, list[str]] = {}
    query = select(table.c.model, table.c.version, table.c.name).order_by(table.c.created_at, table.c.name)
    for row in connection.execute(query):
        if newest.get(row.model) == row.version:
            names.setdefault(row.model, []).append(row.name)
    return names


def _load_flavors(
    connection: Connection, model: str, numbers: Iterable[int]
) -> dict[int, tuple[RegisteredFlavor, ...]]:
    table = schema.flavor
    query = select(table).where((table.c.model == model) & table.c.version.in_(list(numbers)))
    flavors: dict[int, tuple[RegisteredFlavor, ...]] = {}
    for row in connection.execute(query.order_by(table.c.created_at, table.c.name)).mappings():
        flavors[row["version"]] = (*flavors.get(row["version"], ()), _registered_from_row(row))
    return flavors


def _version_from_row(row: RowMapping, flavors: tuple[RegisteredFlavor, ...]) -> ModelVersion:
    return ModelVersion(
        model=row["model"],
        number=row["number"],
        lineage=Lineage(**row["lineage"]),
        flavors=flavors,
        created_at=row["created_at"],
        created_by=row["created_by"],
    )


def _registered_from_row(row: RowMapping) -> RegisteredFlavor:
    evaluation: dict[str, Any] | None = row["evaluation"]
    return RegisteredFlavor(
        flavor=flavor_from_row(row),
        evaluation=Evaluation(**evaluation) if evaluation else None,
        created_at=row["created_at"],
        created_by=row["created_by"],
        approved_at=row["approved_at"],
        approved_by=row["approved_by"] or "",
        signed_at=row["signed_at"],
        runtimes=row["runtimes"] or {},
    )
