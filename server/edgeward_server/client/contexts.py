"""Contexts: which fleets this operator works with, and as whom.

One file, `contexts.toml`, mode 0600 since it holds tokens. A client
certificate's key stays where it is; only its path is kept here.
"""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from edgeward.durable import write_atomic
from edgeward_server.client.errors import ClientError, NotLoggedIn

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_NAME = re.compile(r"[A-Za-z0-9\[][A-Za-z0-9._:\-\[\]]{0,99}")
_FILE = "contexts.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetContext:
    """How to reach one fleet: by a token, or by a client certificate and its key."""

    address: str
    ca_pem: str
    token: str = ""
    certificate_file: str = ""
    key_file: str = ""

    @property
    def uses_certificate(self) -> bool:
        """Whether the operator is known by a certificate, on the listener that asks for one."""
        return bool(self.certificate_file)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contexts:
    """All of them; `current` names the one in use, empty where there is none."""

    current: str = ""
    by_name: Mapping[str, FleetContext] = field(default_factory=dict)

    def pick(self, name: str = "") -> FleetContext:
        """The named context, or the one in use.

        Raises:
            NotLoggedIn: There is none.
        """
        if not self.by_name:
            raise NotLoggedIn("not logged in to any fleet", hint="run: edgeward login ADDRESS --token TOKEN")
        wanted = name or self.current
        if wanted not in self.by_name:
            known = ", ".join(sorted(self.by_name))
            problem = f"there is no context {wanted!r}" if wanted else "no context is in use"
            raise NotLoggedIn(problem, hint=f"known are {known}; run: edgeward contexts use NAME")
        return self.by_name[wanted]

    def with_context(self, name: str, context: FleetContext) -> Contexts:
        """These and one more, which is then in use.

        Raises:
            ValueError: The name can't be one.
        """
        if _NAME.fullmatch(name) is None:
            raise ValueError(f"{name[:80]!r} is no name for a context; letters, digits and . _ - : are")
        return replace(self, current=name, by_name={**self.by_name, name: context})

    def using(self, name: str) -> Contexts:
        """The same, with another one in use."""
        self.pick(name)
        return replace(self, current=name)

    def without(self, name: str) -> Contexts:
        """The same, less one."""
        self.pick(name)
        rest = {known: context for known, context in self.by_name.items() if known != name}
        return Contexts(current="" if self.current == name else self.current, by_name=rest)


def load_contexts(folder: Path) -> Contexts:
    """Read the file; none there means no contexts.

    Raises:
        ClientError: The file is there and can't be read.
    """
    path = folder / _FILE
    try:
        return _from_toml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Contexts()
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ClientError(f"{path} can't be read: {error}", hint="mend or remove it, and log in again") from error


def exposed_file(folder: Path) -> Path | None:
    """The file, where others than its owner may read the tokens in it."""
    path = folder / _FILE
    try:
        return path if path.stat().st_mode & 0o077 else None
    except OSError:
        return None


def persist_contexts(folder: Path, contexts: Contexts) -> None:
    """Write the file, readable by this user alone."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_atomic(folder / _FILE, _to_toml(contexts).encode(), mode=0o600)


def _from_toml(text: str) -> Contexts:
    document = tomllib.loads(text)
    by_name = {name: FleetContext(**fields) for name, fields in document.get("contexts", {}).items()}
    if not all(isinstance(value, str) for fields in document.get("contexts", {}).values() for value in fields.values()):
        raise ValueError("a value is no text")
    return Contexts(current=document.get("current", ""), by_name=by_name)


def _to_toml(contexts: Contexts) -> str:
    lines = [f"current = {_toml_string(contexts.current)}"]
    for name, context in contexts.by_name.items():
        lines += ["", f"[contexts.{_toml_string(name)}]"]
        values = {
            "address": context.address,
            "ca_pem": context.ca_pem,
            "token": context.token,
            "certificate_file": context.certificate_file,
            "key_file": context.key_file,
        }
        lines += [f"{key} = {_toml_string(value)}" for key, value in values.items()]
    return "\n".join(lines) + "\n"


def _toml_string(text: str) -> str:
    # A JSON string is a TOML basic string, but for DEL, which TOML wants escaped.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
