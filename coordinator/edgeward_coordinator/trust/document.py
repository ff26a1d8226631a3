"""What waits for signatures, as one JSON document: taken to a machine without a network, signed there, brought back.

A document that comes back is foreign: it is bounded, and all that is taken from
it are signatures that verify over what waits here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from securesystemslib.exceptions import UnverifiedSignatureError
from tuf.api.exceptions import RepositoryError
from tuf.api.serialization import DeserializationError, SerializationError
from tuf.api.serialization.json import JSONDeserializer

from edgeward_coordinator.errors import FailedPrecondition, InvalidArgument
from edgeward_coordinator.trust.keys import read_signer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from securesystemslib.signer import Key, Signature
    from tuf.api.metadata import Metadata

    from edgeward_coordinator.trust.metadata import AnyMetadata

# One message to the coordinator, with room for the signatures that come.
MAX_DOCUMENT_BYTES: Final = 3 << 20

_FORMAT: Final = "edgeward-trust-1"
_FULL_BYTES: Final = 2 << 20
_MAX_ENTRIES: Final = 128
_HINT: Final = "give a file that `edgeward trust export` wrote"
# What python-tuf and the JSON reader raise for what is no metadata.
DAMAGE = (DeserializationError, SerializationError, RepositoryError, ValueError, KeyError, TypeError, RecursionError)


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingRole:
    """One role of a document: the metadata with the signatures that it has, whose count, and what is in force."""

    role: str
    metadata: AnyMetadata
    key_ids: tuple[str, ...]
    missing: int
    former: AnyMetadata | None = None


def write_document(waiting: Iterable[WaitingRole]) -> bytes:
    """As JSON; empty where nothing waits. What makes it too long is left for the next one."""
    roles: list[dict[str, Any]] = []
    total_bytes = 0
    for each in waiting:
        entry = _write_entry(each)
        total_bytes += len(json.dumps(entry))
        if roles and total_bytes > _FULL_BYTES:
            break
        roles.append(entry)
    return json.dumps({"format": _FORMAT, "roles": roles}).encode() if roles else b""


def read_document(document: bytes) -> list[WaitingRole]:
    """What a document holds; nothing in it is verified.

    Raises:
        InvalidArgument: It is none.
    """
    if len(document) > MAX_DOCUMENT_BYTES:
        raise InvalidArgument(f"a document to sign has at most {MAX_DOCUMENT_BYTES} bytes, not {len(document)}")
    try:
        content = json.loads(document)
        if content["format"] != _FORMAT or not 1 <= len(content["roles"]) <= _MAX_ENTRIES:
            raise ValueError("another format")
        return [_read_entry(entry) for entry in content["roles"]]
    except (*DAMAGE, AttributeError) as error:
        raise InvalidArgument("this is no document to sign, or a damaged one", hint=_HINT) from error


def sign_document(document: bytes, private_pem: bytes, password: bytes | None = None) -> bytes:
    """Sign every role of a document that the key counts for; needs no coordinator.

    Args:
        document: As it was exported, with or without signatures of others.
        private_pem: The private key.
        password: Of the private key, where it has one.

    Returns:
        The document with the signatures.

    Raises:
        InvalidArgument: It is no document, or the key is none.
        FailedPrecondition: No role in it waits for this key.
    """
    signer = read_signer(private_pem, password)
    key_id = signer.public_key.keyid
    roles = read_document(document)
    mine = [each for each in roles if key_id in each.key_ids]
    if not mine:
        raise FailedPrecondition(
            f"nothing in the document waits for the key {key_id[:12]}",
            hint=f"it is about {', '.join(each.role for each in roles)}; sign with a key of these roles",
        )
    for each in mine:
        each.metadata.sign(signer, append=True)
    return write_document(roles)


def new_signatures(offered: AnyMetadata, pending: AnyMetadata, keys: Mapping[str, Key]) -> dict[str, Signature]:
    """The signatures of `offered` that verify over `pending`, are of these keys, and are not there yet."""
    payload = pending.signed_bytes
    return {
        key_id: signature
        for key_id, signature in offered.signatures.items()
        if key_id in keys and key_id not in pending.signatures and _verifies(keys[key_id], signature, payload)
    }


def _verifies(key: Key, signature: Signature, payload: bytes) -> bool:
    try:
        key.verify_signature(signature, payload)
    except (UnverifiedSignatureError, *DAMAGE):
        return False
    return True


def _write_entry(waits: WaitingRole) -> dict[str, Any]:
    entry = {
        "role": waits.role,
        "missing": waits.missing,
        "key_ids": waits.key_ids,
        "metadata": waits.metadata.to_dict(),
    }
    if waits.former is None:
        return entry
    with_former = {**entry, "former": waits.former.to_dict()}
    # It only helps who signs; without it everything is shown as new.
    return with_former if len(json.dumps(with_former)) <= _FULL_BYTES else entry


def _read_entry(entry: dict[str, Any]) -> WaitingRole:
    role, key_ids, missing = entry["role"], entry["key_ids"], entry["missing"]
    is_well_formed = isinstance(role, str) and isinstance(key_ids, list) and type(missing) is int
    if not is_well_formed or not all(isinstance(key_id, str) for key_id in key_ids):
        raise ValueError("an entry of another form")
    former = None if entry.get("former") is None else _read_metadata(entry["former"])
    metadata = _read_metadata(entry["metadata"])
    return WaitingRole(role=role[:128], metadata=metadata, key_ids=tuple(key_ids), missing=missing, former=former)


def _read_metadata(fields: object) -> AnyMetadata:
    # Through bytes: python-tuf's own reader checks every field, and takes the dictionary apart.
    metadata: Metadata[Any] = JSONDeserializer().deserialize(json.dumps(fields).encode())
    return metadata
