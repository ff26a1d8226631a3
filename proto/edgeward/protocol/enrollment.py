"""The string an operator pastes on a device: where the coordinator is, who it is, the token.

`ew1.` and the base64url of JSON `[address, CA fingerprint, secret]`. The
fingerprint (SHA-256 of the CA's certificate in DER) is what lets a device that
knows nothing yet trust the first connection.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass

from edgeward.protocol.digests import parse_digest
from edgeward.protocol.errors import WireError

_PREFIX = "ew1."
_MAX_CHARACTERS = 2048
_ADDRESS = re.compile(r"[A-Za-z0-9.\-\[\]:_]{1,253}:[0-9]{1,5}")


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrollmentString:
    """`address` is host:port of the listener without client certificates."""

    address: str
    ca_fingerprint: str
    secret: str


def format_enrollment_string(parts: EnrollmentString) -> str:
    """To one string without spaces."""
    body = json.dumps([parts.address, parts.ca_fingerprint, parts.secret], separators=(",", ":")).encode()
    return _PREFIX + base64.urlsafe_b64encode(body).decode().rstrip("=")


def parse_enrollment_string(text: str) -> EnrollmentString:
    """From what was pasted.

    Raises:
        WireError: Cut off, mistyped, or something else altogether.
    """
    text = text.strip()
    if not text.startswith(_PREFIX) or len(text) > _MAX_CHARACTERS:
        raise WireError(f"an enrollment string starts with {_PREFIX!r}; this starts with {text[:8]!r}")
    body = text.removeprefix(_PREFIX)
    try:
        decoded = json.loads(base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, RecursionError) as error:
        raise WireError("the enrollment string is damaged: copy it again in full") from error
    if not (isinstance(decoded, list) and len(decoded) == 3 and all(isinstance(part, str) for part in decoded)):
        raise WireError("the enrollment string is damaged: copy it again in full")
    address, fingerprint, secret = decoded
    if _ADDRESS.fullmatch(address) is None or int(address.rpartition(":")[2]) >= 1 << 16:
        raise WireError(f"the enrollment string holds no host:port but {address[:60]!r}")
    return EnrollmentString(address=address, ca_fingerprint=parse_digest(fingerprint), secret=secret)
