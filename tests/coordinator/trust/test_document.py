"""The document that is signed elsewhere: what comes back is believed in nothing but its signatures."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tuf.api.metadata import Metadata, Targets

from edgeward_coordinator.errors import FailedPrecondition, InvalidArgument
from edgeward_coordinator.trust import generate_key, read_document, sign_document
from edgeward_coordinator.trust.document import MAX_DOCUMENT_BYTES, WaitingRole, new_signatures, write_document
from edgeward_coordinator.trust.keys import parse_public_key, public_pem
from tests.coordinator.trust.versions import add_version

if TYPE_CHECKING:
    from pathlib import Path

    from edgeward_coordinator.registry import Registry
    from edgeward_coordinator.trust import Trust

PRIVATE, PUBLIC = generate_key()
KEY = parse_public_key(PUBLIC)


def waiting(role: str = "targets", *, key_id: str = KEY.keyid, version: int = 3) -> WaitingRole:
    """A role without targets that waits for one key."""
    metadata = Metadata(Targets(version=version, expires=datetime(2030, 1, 1, tzinfo=UTC)))
    return WaitingRole(role=role, metadata=metadata, key_ids=(key_id,), missing=1)


DOCUMENT = write_document([waiting()])


def test_signing_adds_the_keys_signature() -> None:
    """And only to the roles that it counts for."""
    other = "0" * 64
    signed = read_document(sign_document(write_document([waiting(), waiting("vision", key_id=other)]), PRIVATE))
    assert [list(each.metadata.signatures) for each in signed] == [[KEY.keyid], []]
    assert list(new_signatures(signed[0].metadata, waiting().metadata, {KEY.keyid: KEY})) == [KEY.keyid]


def test_nothing_that_waits_is_no_document() -> None:
    """An empty export."""
    assert write_document([]) == b""


def test_a_document_stays_within_a_message() -> None:
    """What would make it longer is left for the next one."""
    many = [waiting(f"role-{number}", key_id=f"{number:064}") for number in range(40_000)]
    document = write_document(many)
    assert len(document) < MAX_DOCUMENT_BYTES
    assert json.loads(document)["roles"][0]["role"] == "role-0"


def test_a_key_that_does_not_count_signs_nothing() -> None:
    """Its owner is told what the document is about."""
    with pytest.raises(FailedPrecondition, match="targets"):
        sign_document(DOCUMENT, generate_key()[0])


def test_a_key_with_a_password() -> None:
    """Is opened with it and with nothing else."""
    private, public = generate_key(b"secret")
    document = write_document([waiting(key_id=parse_public_key(public).keyid)])
    assert sign_document(document, private, b"secret") != document
    for password in (None, b"wrong"):
        with pytest.raises(InvalidArgument, match="private key can't be read"):
            sign_document(document, private, password)


def test_keys_survive_their_way_through_metadata() -> None:
    """The PEM that is shown is the PEM that was given."""
    assert public_pem(KEY) == PUBLIC


def test_signatures_over_something_else_do_not_count() -> None:
    """Nor do those of keys that are not asked for."""
    signed = read_document(sign_document(DOCUMENT, PRIVATE))[0].metadata
    assert not new_signatures(signed, waiting(version=4).metadata, {KEY.keyid: KEY})
    assert not new_signatures(signed, waiting().metadata, {})
    assert not new_signatures(signed, signed, {KEY.keyid: KEY})


@given(st.binary(max_size=200))
def test_bytes_that_are_no_document(data: bytes) -> None:
    """Are refused in words, whatever they are."""
    with pytest.raises(InvalidArgument):
        read_document(data)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def _places(value: object, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner: list[tuple[Any, object]] = []
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = list(enumerate(value))
    return [at, *(place for name, each in inner for place in _places(each, (*at, name)))]


@given(data=st.data())
def test_a_document_with_anything_in_any_place(data: st.DataObject) -> None:
    """Is read or refused in words; what is read has no signature that counts."""
    document = json.loads(sign_document(DOCUMENT, PRIVATE))
    place = data.draw(st.sampled_from(_places(document)))
    value = data.draw(ANYTHING)
    damaged: Any = {"all": document}
    inner = damaged
    way: list[Any] = ["all", *place]
    last = way.pop()
    for name in way:
        inner = inner[name]
    inner[last] = value
    with suppress(InvalidArgument):
        for each in read_document(json.dumps(damaged["all"]).encode()):
            assert set(new_signatures(each.metadata, waiting().metadata, {KEY.keyid: KEY})) <= {KEY.keyid}


@pytest.mark.parametrize(
    "document",
    [b"[" * 100_000, b'{"format": "edgeward-trust-1", "roles": []}', b"x" * (MAX_DOCUMENT_BYTES + 1), b"null"],
    ids=["deep", "empty", "long", "null"],
)
def test_hostile_documents(document: bytes) -> None:
    """Cost a message."""
    with pytest.raises(InvalidArgument):
        read_document(document)


def test_garbage_changes_nothing(trust: Trust, registry: Registry, folder: Path) -> None:
    """Documents without a signature that counts: unsigned, signed by a stranger under the key's name, of no role."""
    next((folder / "keys").glob("targets-*")).unlink()
    add_version(registry, "digits")
    trust.approve("digits", 1, actor="eve")
    unsigned = trust.export_pending()
    stranger, _ = generate_key()
    content = json.loads(unsigned)
    (entry,) = content["roles"]
    (key_id,) = entry["key_ids"]
    forged = json.loads(unsigned)
    signed = read_document(unsigned)[0].metadata
    from edgeward_coordinator.trust.keys import read_signer

    signature = signed.sign(read_signer(stranger)).to_dict()
    forged["roles"][0]["metadata"]["signatures"] = [{**signature, "keyid": key_id}]
    nowhere = {**content, "roles": [{**entry, "role": "nowhere"}]}
    before = trust.roles()
    for document in (unsigned, json.dumps(forged).encode(), json.dumps(nowhere).encode()):
        with pytest.raises((InvalidArgument, FailedPrecondition)):
            trust.import_signed(document, actor="eve")
    assert trust.roles() == before
