"""What a document asks to be signed, and what would change by it: for the eyes of who holds the key.

A coordinator that was taken over may ask for anything, so nothing of what is
signed is left out: other bytes under a known path, a key of its own in the
root, a delegation, a key that changed under the same id. The metadata in force
comes from the same coordinator and is believed only where one of the keys that
are about to sign has signed it, as the version right before.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from securesystemslib.exceptions import UnverifiedSignatureError
from tuf.api.metadata import Root, Signed, TargetFile, Targets

from edgeward_coordinator.errors import InvalidArgument
from edgeward_coordinator.trust.charter import ONLINE_ROLES, ROOT
from edgeward_coordinator.trust.document import DAMAGE, WaitingRole, read_document
from edgeward_coordinator.trust.keys import public_pem, read_signer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from securesystemslib.signer import Key

    from edgeward_coordinator.trust.metadata import AnyMetadata

Mark = Literal["new", "changed", "gone", "as before"]

# What is described part by part, or checked by TUF's own reader; anything else is described by its name.
_PARTS: Final = {"_type", "spec_version", "version", "expires", "targets", "delegations", "keys", "roles"}
# Of which only another value is worth a word.
_USUAL: Final = {"consistent_snapshot": True}


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetChange:
    """One file, as it is to be signed or, where it is gone, as it was; `differs` names the fields that changed."""

    mark: Mark
    path: str
    sha256: str
    total_bytes: int
    golden_sha256: str | None
    differs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyChange:
    """One key of a role; the fingerprint is the SHA-256 of the public key in DER, for an id is only a name."""

    mark: Mark
    role: str
    threshold: int
    key_id: str
    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DelegationChange:
    """Who else may sign which paths; its keys are described as keys of its name."""

    mark: Mark
    name: str
    paths: tuple[str, ...]
    threshold: int
    is_terminating: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleDescription:
    """The next version of a role beside the one in force.

    Attributes:
        role: Its name.
        version: To be signed.
        expires: In ISO 8601.
        missing: How many signatures it waits for.
        former_version: In force, as the document has it; None where it has none, and all is described as new.
        is_former_verified: Whether a key that is about to sign has signed that, as the version right before.
        targets: The files, those that change first.
        keys: Of a root those of its roles, else those of the delegations.
        delegations: Which paths others sign.
        other: Names of other fields that change.
    """

    role: str
    version: int
    expires: str
    missing: int
    former_version: int | None
    is_former_verified: bool
    targets: tuple[TargetChange, ...]
    keys: tuple[KeyChange, ...]
    delegations: tuple[DelegationChange, ...]
    other: tuple[str, ...]


def describe_document(
    document: bytes, private_keys: Sequence[tuple[bytes, bytes | None]] = ()
) -> tuple[RoleDescription, ...]:
    """What signing a document means.

    Args:
        document: As it was exported, with or without signatures.
        private_keys: PEM and password of the keys that are about to sign.

    Raises:
        InvalidArgument: It is no document, it holds what no coordinator asks for, or a key is none.
    """
    keys = [read_signer(pem, password).public_key for pem, password in private_keys]
    roles = read_document(document)
    try:
        return tuple(_describe(each, keys) for each in roles)
    except (*DAMAGE, AttributeError) as error:
        raise InvalidArgument(
            f"the document asks for a signature over what can't be shown: {error}",
            hint="do not sign it; export again, and if that is no better, look at the coordinator",
        ) from error


def _describe(waits: WaitingRole, keys: Iterable[Key]) -> RoleDescription:
    new, former = waits.metadata.signed, waits.former
    old = None if former is None else former.signed
    _verify_kind(waits.role, new)
    if old is not None:
        _verify_kind(waits.role, old)
    key_rows, old_key_rows = _key_rows(new), _key_rows(old)
    return RoleDescription(
        role=_shown(waits.role),
        version=new.version,
        expires=new.expires.isoformat(),
        missing=waits.missing,
        former_version=None if old is None else old.version,
        is_former_verified=_is_verified(former, keys, version=new.version - 1),
        targets=_target_changes(_files(new), _files(old)),
        keys=tuple(
            KeyChange(mark=mark, role=at[0], key_id=at[1], threshold=row[0], fingerprint=row[1])
            for mark, at, row in _compare(key_rows, old_key_rows)
        ),
        delegations=tuple(
            DelegationChange(mark=mark, name=name, paths=row[0], threshold=row[1], is_terminating=row[2])
            for mark, name, row in _compare(_delegation_rows(new), _delegation_rows(old))
        ),
        other=_other_changes(new, old),
    )


def _verify_kind(role: str, signed: Signed) -> None:
    expected = Root if role == ROOT else Targets
    if role in ONLINE_ROLES or not isinstance(signed, expected):
        raise ValueError(f"{signed.type} metadata for the role {role[:128]!r}")


def _is_verified(metadata: AnyMetadata | None, keys: Iterable[Key], *, version: int) -> bool:
    if metadata is None or metadata.signed.version != version:
        return False
    for key in keys:
        signature = metadata.signatures.get(key.keyid)
        if signature is not None:
            try:
                key.verify_signature(signature, metadata.signed_bytes)
            except UnverifiedSignatureError:
                continue
            return True
    return False


def _compare(new: Mapping[Any, Any], old: Mapping[Any, Any]) -> list[tuple[Mark, Any, Any]]:
    """All of both, what changes first."""
    rows: list[tuple[Mark, Any, Any]] = []
    for at in sorted(new.keys() | old.keys()):
        mark: Mark = "changed"
        if at not in old:
            mark = "new"
        elif at not in new:
            mark = "gone"
        elif new[at] == old[at]:
            mark = "as before"
        rows.append((mark, at, new.get(at, old.get(at))))
    return sorted(rows, key=lambda row: row[0] == "as before")


# Targets ---------------------------------------------------------------------


def _files(signed: Signed | None) -> dict[str, TargetFile]:
    return dict(signed.targets) if isinstance(signed, Targets) else {}


def _target_changes(new: Mapping[str, TargetFile], old: Mapping[str, TargetFile]) -> tuple[TargetChange, ...]:
    changes = []
    rows, old_rows = ({path: _fields(file) for path, file in files.items()} for files in (new, old))
    for mark, path, fields in _compare(rows, old_rows):
        before = old_rows.get(path, {}) if mark == "changed" else fields
        golden = fields.get("golden_sha256")
        changes.append(
            TargetChange(
                mark=mark,
                path=_shown(path),
                sha256=_shown(fields["sha256"]),
                total_bytes=fields["bytes"],
                golden_sha256=None if golden is None else _shown(golden),
                differs=tuple(
                    _shown(name)
                    for name in sorted(fields.keys() | before.keys())
                    if fields.get(name) != before.get(name)
                ),
            )
        )
    return tuple(changes)


def _fields(file: TargetFile) -> dict[str, Any]:
    """All that is signed of a file, flat; what is unexpected as one field, so that a change of it is seen."""
    custom = file.unrecognized_fields.get("custom", {})
    others = {name: value for name, value in file.unrecognized_fields.items() if name != "custom"}
    others |= {f"custom.{name}": value for name, value in custom.items() if name != "edgeward"}
    others |= {f"hashes.{name}": value for name, value in file.hashes.items() if name != "sha256"}
    return {**others, **custom.get("edgeward", {}), "sha256": file.hashes["sha256"], "bytes": file.length}


# Keys and delegations --------------------------------------------------------


def _key_rows(signed: Signed | None) -> dict[tuple[str, str], tuple[int, str]]:
    roles, keys = _named_roles(signed)
    return {
        (_shown(name), _shown(key_id)): (role.threshold, _fingerprint(keys[key_id]))
        for name, role in roles.items()
        for key_id in role.keyids
    }


def _delegation_rows(signed: Signed | None) -> dict[str, tuple[tuple[str, ...], int, bool]]:
    if not isinstance(signed, Targets):
        return {}
    rows = {}
    for name, role in _named_roles(signed)[0].items():
        if not role.paths or role.unrecognized_fields:
            raise ValueError(f"the delegation {name[:128]!r} is not by paths alone")
        rows[_shown(name)] = (tuple(map(_shown, role.paths)), role.threshold, role.terminating)
    return rows


def _named_roles(signed: Signed | None) -> tuple[Mapping[str, Any], Mapping[str, Key]]:
    if isinstance(signed, Root):
        return signed.roles, signed.keys
    delegations = signed.delegations if isinstance(signed, Targets) else None
    if delegations is None:
        return {}, {}
    if delegations.roles is None:
        raise ValueError("delegations to bins, which no coordinator makes")
    return delegations.roles, delegations.keys


def _fingerprint(key: Key) -> str:
    der = load_pem_public_key(public_pem(key)).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()


# The rest --------------------------------------------------------------------


def _other_changes(new: Signed, old: Signed | None) -> tuple[str, ...]:
    fields = new.to_dict()
    before = {name: _USUAL[name] for name in _USUAL if name in fields} if old is None else old.to_dict()
    names = sorted((fields.keys() | before.keys()) - _PARTS)
    changed = [_shown(name) for name in names if json.dumps(fields.get(name)) != json.dumps(before.get(name))]
    # The first delegation that fits counts.
    if old is not None and _order(new, old) != _order(old, new):
        changed.append("order of delegations")
    return tuple(changed)


def _order(signed: Signed, other: Signed) -> list[str]:
    common = _named_roles(other)[0]
    return [name for name in _named_roles(signed)[0] if name in common] if isinstance(signed, Targets) else []


def _shown(text: str) -> str:
    """As it is; what could steer a terminal, or look like something else on it, is not shown at all.

    Raises:
        ValueError: It could.
    """
    if not isinstance(text, str) or not text.isprintable():
        raise ValueError(f"{ascii(text)[:80]} is no plain text")
    return text
