"""Secrets that are shown once: a prefix that says what it is, then 32 random bytes.

With 256 random bits there is nothing to guess, so the plain SHA-256 is a good
verifier (a slow hash protects weak secrets), and looking it up in an index
leaks nothing that helps.
"""

from __future__ import annotations

import hashlib
import secrets

OPERATOR_PREFIX = "ewt_"
ENROLLMENT_PREFIX = "ewe_"

_RANDOM_BYTES = 32


def new_secret(prefix: str) -> str:
    """A fresh secret."""
    return prefix + secrets.token_urlsafe(_RANDOM_BYTES)


def new_id() -> str:
    """A fresh id: 16 hexadecimal digits that are a positive 64-bit integer above 1."""
    while True:
        drawn = secrets.token_hex(8)
        if int(drawn, 16) > 1:
            return drawn


def verifier_of(secret: str) -> str:
    """What is stored in place of the secret."""
    return hashlib.sha256(secret.encode()).hexdigest()
