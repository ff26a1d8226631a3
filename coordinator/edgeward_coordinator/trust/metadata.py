"""TUF's documents, built and looked at: pure, and the only place that knows their form.

Source: the TUF specification 1.0.31. Versions grow by one; snapshots list every
role that was ever delegated to (a role that leaves a snapshot is an error to
clients, section 5.5.5 of the specification), with length and hash.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, TypeVar

from securesystemslib.exceptions import UnverifiedSignatureError
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Role,
    Root,
    Signed,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.api.serialization import DeserializationError
from tuf.api.serialization.json import JSONSerializer

from edgeward.protocol.targets import SIGNED_AT_FIELD, custom_of_target, target_path
from edgeward_coordinator.errors import FailedPrecondition
from edgeward_coordinator.trust.charter import TOP_ROLES, Project, RoleKeys

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from securesystemslib.signer import Key, Signer

    from edgeward.protocol.targets import SignedTarget
    from edgeward_coordinator.trust.charter import Charter

_SERIALIZER = JSONSerializer(compact=True)

AnyMetadata = Metadata[Any]
_S = TypeVar("_S", Root, Targets, Snapshot, Timestamp)


def encode(metadata: AnyMetadata) -> bytes:
    """As it is stored, hashed and sent."""
    return metadata.to_bytes(_SERIALIZER)


def decode(content: bytes, kind: type[_S]) -> Metadata[_S]:
    """From stored bytes.

    Raises:
        FailedPrecondition: They are no metadata of that kind.
    """
    try:
        metadata = Metadata[Any].from_bytes(content)
    except (DeserializationError, RepositoryError) as error:
        raise FailedPrecondition(
            f"the stored {kind.type} metadata is damaged: {error}", hint="restore the database from a backup"
        ) from error
    if not isinstance(metadata.signed, kind):
        raise FailedPrecondition(f"the stored {kind.type} metadata is {metadata.signed.type} metadata")
    return metadata


def root_of(charter: Charter, *, version: int, expires: datetime) -> Root:
    """The root that names the keys of the charter."""
    keys: dict[str, Key] = {}
    roles: dict[str, Role] = {}
    for name in TOP_ROLES:
        signers = charter.roles[name]
        keys |= signers.keys
        roles[name] = Role(sorted(signers.keys), signers.threshold)
    ordered = {key_id: keys[key_id] for key_id in sorted(keys)}
    return Root(version=version, expires=expires, keys=ordered, roles=roles, consistent_snapshot=True)


def targets_of(
    targets: Iterable[SignedTarget], projects: Mapping[str, Project], *, version: int, expires: datetime
) -> Targets:
    """Targets, and whom they delegate to."""
    files = {file.path: file for file in map(_target_file, targets)}
    return Targets(
        version=version,
        expires=expires,
        targets={path: files[path] for path in sorted(files)},
        delegations=delegations_to(projects) if projects else None,
    )


def delegations_to(projects: Mapping[str, Project]) -> Delegations:
    """The projects as delegated roles, the longest prefix first: each is terminating, so the first that fits counts."""
    keys: dict[str, Key] = {}
    roles: dict[str, DelegatedRole] = {}
    for name in sorted(projects, key=lambda name: (-len(projects[name].prefix), name)):
        project = projects[name]
        keys |= project.signers.keys
        roles[name] = DelegatedRole(
            name,
            sorted(project.signers.keys),
            project.signers.threshold,
            terminating=True,
            paths=[f"models/{project.prefix}*/*/*"],
        )
    return Delegations(keys={key_id: keys[key_id] for key_id in sorted(keys)}, roles=roles)


def projects_of(targets: Targets) -> dict[str, Project]:
    """Whom they delegate to, in their order."""
    if targets.delegations is None or not targets.delegations.roles:
        return {}
    found = {}
    for name, role in targets.delegations.roles.items():
        keys = {key_id: targets.delegations.keys[key_id] for key_id in role.keyids}
        (pattern,) = role.paths or [""]
        prefix = pattern.removeprefix("models/").removesuffix("*/*/*")
        found[name] = Project(prefix=prefix, signers=RoleKeys(keys=keys, threshold=role.threshold))
    return found


def snapshot_of(meta: Mapping[str, MetaFile], *, version: int, expires: datetime) -> Snapshot:
    """A snapshot of these files."""
    return Snapshot(version=version, expires=expires, meta={name: meta[name] for name in sorted(meta)})


def timestamp_of(snapshot: Metadata[Snapshot], *, version: int, expires: datetime, now: datetime) -> Timestamp:
    """The timestamp of a snapshot."""
    return Timestamp(
        version=version,
        expires=expires,
        snapshot_meta=meta_file(snapshot),
        unrecognized_fields={SIGNED_AT_FIELD: now.replace(microsecond=0).isoformat()},
    )


def meta_file(metadata: AnyMetadata) -> MetaFile:
    """Version, length and hash of a document, as another one names it."""
    content = encode(metadata)
    return MetaFile(metadata.signed.version, len(content), {"sha256": hashlib.sha256(content).hexdigest()})


def route(model: str, prefixes: Mapping[str, str], *, default: str) -> str:
    """The name under the longest prefix that fits, else `default`.

    >>> route("vision-east", {"a": "vision", "b": "vision-e"}, default="targets")
    'b'
    """
    fitting = [name for name, prefix in prefixes.items() if model.startswith(prefix)]
    return max(fitting, key=lambda name: len(prefixes[name]), default=default)


def same_content(one: Signed, other: Signed) -> bool:
    """Whether they differ in nothing but version and expiry."""
    return _content(one) == _content(other)


def sign(metadata: AnyMetadata, signers: Iterable[Signer]) -> None:
    """Add the signatures of keys that have not signed yet."""
    for signer in signers:
        if signer.public_key.keyid not in metadata.signatures:
            metadata.sign(signer, append=True)


def valid_signers(metadata: AnyMetadata, keys: Mapping[str, Key]) -> set[str]:
    """The ids of those keys that have signed it."""
    payload = metadata.signed_bytes
    return {key_id for key_id, key in keys.items() if _has_signed(metadata, key, payload)}


def missing_signatures(metadata: AnyMetadata, signers: RoleKeys) -> int:
    """How many more of these keys must sign it."""
    return max(signers.threshold - len(valid_signers(metadata, signers.keys)), 0)


def _has_signed(metadata: AnyMetadata, key: Key, payload: bytes) -> bool:
    signature = metadata.signatures.get(key.keyid)
    if signature is None:
        return False
    try:
        key.verify_signature(signature, payload)
    except UnverifiedSignatureError:
        return False
    return True


def _target_file(target: SignedTarget) -> TargetFile:
    flavor = target.flavor
    return TargetFile(
        flavor.total_bytes,
        {"sha256": flavor.digest},
        target_path(target.model, target.version, flavor.name),
        {"custom": custom_of_target(target)},
    )


def _content(signed: Signed) -> dict[str, Any]:
    return {name: value for name, value in signed.to_dict().items() if name not in {"version", "expires"}}
