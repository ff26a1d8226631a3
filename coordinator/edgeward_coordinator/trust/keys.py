"""Signing keys: made, read, and held as one PEM file each in a folder (mode 0600).

A key is known by its TUF key id alone. Which keys a coordinator holds is read
anew at each use: an operator may take a file away, or bring it, at any time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from securesystemslib.signer import CryptoSigner, SSlibKey

from edgeward.durable import fsync_folder, write_atomic
from edgeward_coordinator.errors import FailedPrecondition, InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from securesystemslib.signer import Key, Signer

_DAMAGE = (ValueError, TypeError, UnsupportedAlgorithm)
_MAX_PEM_BYTES = 16 << 10


def generate_key(password: bytes | None = None) -> tuple[bytes, bytes]:
    """Make an Ed25519 key.

    Args:
        password: Encrypts the private part; None leaves it plain.

    Returns:
        The private and the public part, in PEM.
    """
    private = Ed25519PrivateKey.generate()
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    return (
        private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption),
        private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
    )


def parse_public_key(pem: bytes) -> Key:
    """Read a public key that an operator gave.

    Raises:
        InvalidArgument: It is none of the kinds that TUF signs with.
    """
    try:
        if len(pem) > _MAX_PEM_BYTES:
            raise ValueError("too long")
        return SSlibKey.from_crypto(load_pem_public_key(pem))
    except _DAMAGE as error:
        hint = "give a public key in PEM, as `edgeward trust keygen` makes one"
        raise InvalidArgument("what was given is no public key to sign with", hint=hint) from error


def read_signer(private_pem: bytes, password: bytes | None = None) -> CryptoSigner:
    """Read a private key to sign with.

    Raises:
        InvalidArgument: It is none, or the password is not its.
    """
    try:
        return CryptoSigner(load_pem_private_key(private_pem, password=password))
    except _DAMAGE as error:
        raise InvalidArgument(
            f"the private key can't be read: {error}", hint="give the PEM file, and its password where it has one"
        ) from error


def public_pem(key: Key) -> bytes:
    """The public part, in PEM."""
    if key.keytype != "ed25519":
        return str(key.keyval["public"]).encode()
    # TUF keeps the 32 raw bytes of this kind in hexadecimal.
    public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(key.keyval["public"]))
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


class KeyFolder:
    """The private keys that this coordinator holds."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def signers(self) -> Mapping[str, Signer]:
        """All keys that are here, by key id.

        Raises:
            FailedPrecondition: A file among them can't be read.
        """
        if not self.folder.is_dir():
            return {}
        read = [self._read(path) for path in sorted(self.folder.glob("*.pem"))]
        return {signer.public_key.keyid: signer for signer in read}

    def make(self, role: str) -> tuple[Key, Path]:
        """Make a key for a role; it is durable when this returns."""
        if not self.folder.is_dir():
            self.folder.mkdir(parents=True, mode=0o700)
            fsync_folder(self.folder.parent)
        private, public = generate_key()
        key = parse_public_key(public)
        path = self.path_of(role, key.keyid)
        write_atomic(path, private, mode=0o600)
        return key, path

    def path_of(self, role: str, key_id: str) -> Path:
        """Where a key of a role lies if it was made here."""
        return self.folder / f"{role}-{key_id[:12]}.pem"

    def _read(self, path: Path) -> Signer:
        try:
            return read_signer(path.read_bytes())
        except (InvalidArgument, OSError) as error:
            raise FailedPrecondition(
                f"the signing key {path} can't be read: {error}",
                hint="put it back from a backup, or take it out of the folder if it belongs elsewhere",
            ) from error
