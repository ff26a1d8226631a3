"""The identity on disk: one pointer file that makes a key and a certificate valid together.

    identity/identity.json          who the device is, and the number of the credential in force
    identity/1/key.pem              mode 0600
    identity/1/certificate.pem
    identity/1/fleet-ca.pem

Each enrollment and renewal fills a folder of the next number and replaces
`identity.json` last, so that a key and a certificate that don't belong together
are never in force, whenever the power fails. The key is durable before its
request leaves: an answer that was lost on the way is asked for again with the
same key. `identity.json` holds the digests of the three files and the days of the
certificate, so that a boot needs no X.509 library (14 MiB of a running agent).
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from edgeward.durable import fsync_folder, write_atomic
from edgeward.protocol.digests import digest_of
from edgeward_agent.errors import Misuse, Refused

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from cryptography import x509

_POINTER, _KEY, _CERTIFICATE, _FLEET_CA = "identity.json", "key.pem", "certificate.pem", "fleet-ca.pem"


class NotEnrolled(Misuse):
    """There is no identity yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """`address` is host:port of the listener for devices; `labels` were given at enrollment.

    The paths are for what reads PEM files only (Python's `ssl`).
    """

    device_id: str
    name: str
    group: str
    address: str
    labels: Mapping[str, str]
    key_pem: bytes = field(repr=False)
    certificate_pem: bytes = field(repr=False)
    fleet_ca_pem: bytes = field(repr=False)
    key_path: Path
    certificate_path: Path
    not_before: datetime
    not_after: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """A key that is durable and waits for its certificate."""

    number: int
    key_pem: bytes = field(repr=False)
    csr_pem: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedCredential:
    """What the fleet's CA gave for a request."""

    certificate_pem: bytes
    fleet_ca_pem: bytes


class IdentityStore:
    """The folder `identity/`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def is_enrolled(self) -> bool:
        """Whether an identity is in force."""
        return (self._folder / _POINTER).exists()

    def load(self) -> Identity:
        """The identity in force.

        Raises:
            NotEnrolled: There is none.
            Misuse: It is damaged.
        """
        try:
            pointer = json.loads((self._folder / _POINTER).read_bytes())
            folder = self._folder / str(int(pointer["credential"]))
            files = {name: (folder / name).read_bytes() for name in (_KEY, _CERTIFICATE, _FLEET_CA)}
            if {name: digest_of(data) for name, data in files.items()} != pointer["sha256"]:
                raise ValueError(f"the files in {folder} are not those that were put in force")
            return Identity(
                device_id=str(pointer["device_id"]),
                name=str(pointer["name"]),
                group=str(pointer["group"]),
                address=str(pointer["address"]),
                labels={str(key): str(value) for key, value in pointer["labels"].items()},
                key_pem=files[_KEY],
                certificate_pem=files[_CERTIFICATE],
                fleet_ca_pem=files[_FLEET_CA],
                key_path=folder / _KEY,
                certificate_path=folder / _CERTIFICATE,
                not_before=datetime.fromisoformat(pointer["not_before"]),
                not_after=datetime.fromisoformat(pointer["not_after"]),
            )
        except PermissionError as error:
            raise Misuse(
                f"the identity in {self._folder} can't be read by this user", hint="run as the agent's user"
            ) from error
        except FileNotFoundError as error:
            if self.is_enrolled:
                raise self._damaged(error) from error
            raise NotEnrolled(
                f"no device is enrolled in {self._folder.parent}", hint="run edgeward-agent enroll STRING"
            ) from error
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._damaged(error) from error

    def begin(self, *, name: str) -> Credential:
        """A durable key for the next certificate, and the request for it.

        Called again before `complete`, it gives the same key.
        """
        from edgeward_agent.identity.keys import make_csr, make_key

        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        number = self._current_number() + 1
        folder = self._folder / str(number)
        folder.mkdir(mode=0o700, exist_ok=True)
        fsync_folder(self._folder)
        try:
            key_pem = (folder / _KEY).read_bytes()
            csr_pem = make_csr(key_pem, name=name)
        except (FileNotFoundError, ValueError):
            key_pem = make_key()
            write_atomic(folder / _KEY, key_pem, mode=0o600)
            csr_pem = make_csr(key_pem, name=name)
        return Credential(number=number, key_pem=key_pem, csr_pem=csr_pem)

    def complete_enrollment(
        self,
        credential: Credential,
        issued: IssuedCredential,
        *,
        device_id: str,
        name: str,
        group: str,
        address: str,
        labels: Mapping[str, str],
    ) -> Identity:
        """Put a first, or another, identity in force.

        Raises:
            Refused: The certificate is none, or not for this key.
        """
        pointer = {"device_id": device_id, "name": name, "group": group, "address": address, "labels": dict(labels)}
        return self._put_in_force(credential, issued, pointer)

    def complete_renewal(self, credential: Credential, issued: IssuedCredential) -> Identity:
        """Put a new certificate of the same device in force.

        Raises:
            Refused: The certificate is none, or not for this key.
        """
        pointer = json.loads((self._folder / _POINTER).read_bytes())
        return self._put_in_force(credential, issued, pointer)

    def _put_in_force(
        self, credential: Credential, issued: IssuedCredential, pointer: Mapping[str, object]
    ) -> Identity:
        certificate = _verify_issued(credential, issued)
        folder = self._folder / str(credential.number)
        write_atomic(folder / _FLEET_CA, issued.fleet_ca_pem)
        write_atomic(folder / _CERTIFICATE, issued.certificate_pem)
        files = {_KEY: credential.key_pem, _CERTIFICATE: issued.certificate_pem, _FLEET_CA: issued.fleet_ca_pem}
        content = {
            **pointer,
            "credential": credential.number,
            "not_before": certificate.not_valid_before_utc.isoformat(),
            "not_after": certificate.not_valid_after_utc.isoformat(),
            "sha256": {name: digest_of(data) for name, data in files.items()},
        }
        write_atomic(self._folder / _POINTER, json.dumps(content, indent=2).encode())
        self._remove_others(credential.number)
        return self.load()

    def _current_number(self) -> int:
        try:
            return int(json.loads((self._folder / _POINTER).read_bytes())["credential"])
        except FileNotFoundError:
            return 0
        except (ValueError, KeyError, TypeError):
            # A damaged pointer names no folder; the next number must be past all that are there.
            return max((int(path.name) for path in self._folder.iterdir() if path.name.isdigit()), default=0)

    def _remove_others(self, number: int) -> None:
        for path in self._folder.iterdir():
            if path.name.isdigit() and path.name != str(number):
                shutil.rmtree(path)

    def _damaged(self, error: Exception) -> Misuse:
        return Misuse(
            f"the identity in {self._folder} is damaged ({error})", hint="run edgeward-agent enroll --force STRING"
        )


def _verify_issued(credential: Credential, issued: IssuedCredential) -> x509.Certificate:
    from cryptography import x509

    from edgeward_agent.identity.keys import is_certificate_of

    try:
        certificate = x509.load_pem_x509_certificate(issued.certificate_pem)
        x509.load_pem_x509_certificates(issued.fleet_ca_pem)
    except ValueError as error:
        raise Refused(f"the coordinator's answer holds no certificate: {error}") from error
    if not is_certificate_of(certificate, credential.key_pem):
        raise Refused("the coordinator's certificate is not for this device's key")
    return certificate
