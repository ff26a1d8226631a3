"""Who should sign for what: the operator's decisions, from which all signed metadata follows.

What is in force may lag behind it, for a decision takes effect only when the
keys that it needs have signed. Projects sign the models of one name prefix
each; of two prefixes that fit, the longer one counts.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from securesystemslib.signer import Key

from edgeward_coordinator.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

ROOT: Final = "root"
TARGETS: Final = "targets"
SNAPSHOT: Final = "snapshot"
TIMESTAMP: Final = "timestamp"
TOP_ROLES: Final = (ROOT, TARGETS, SNAPSHOT, TIMESTAMP)
# The coordinator signs these itself, every day.
ONLINE_ROLES: Final = (SNAPSHOT, TIMESTAMP)

MAX_KEYS: Final = 16
MAX_PROJECTS: Final = 100

# Without a dot: a role's name is part of the names of its files.
_PROJECT = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
# Of names of models; nothing in it may be a wildcard.
_PREFIX = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleKeys:
    """So many of these keys must sign."""

    keys: Mapping[str, Key]
    threshold: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A role that signs the models whose names begin with `prefix`."""

    prefix: str
    signers: RoleKeys


@dataclass(frozen=True, slots=True, kw_only=True)
class Charter:
    """Who should sign for the four roles of TUF and for each project."""

    roles: Mapping[str, RoleKeys]
    projects: Mapping[str, Project] = field(default_factory=dict)

    def signers_of(self, role: str) -> RoleKeys:
        """Who should sign for a role.

        Raises:
            NotFound: There is no such role.
        """
        if role in self.roles:
            return self.roles[role]
        return self._project(role).signers

    def with_keys(
        self, role: str, *, add: Iterable[Key] = (), remove: Collection[str] = (), threshold: int = 0
    ) -> Charter:
        """With other keys for a role.

        Args:
            role: One of the four, or a project.
            add: Keys that may sign from then on.
            remove: Ids of keys that may no more, or their first digits.
            threshold: How many must sign; 0 leaves it.

        Raises:
            NotFound: No such role, or it has no such key.
            InvalidArgument: The threshold can't be met, or there are too many keys.
        """
        before = self.signers_of(role)
        gone = {_key_id(prefix, before.keys, role) for prefix in remove}
        keys = {key_id: key for key_id, key in before.keys.items() if key_id not in gone}
        keys |= {key.keyid: key for key in add}
        after = RoleKeys(keys=keys, threshold=threshold or before.threshold)
        _verify_signers(after, role)
        if role in self.roles:
            return replace(self, roles={**self.roles, role: after})
        return self._with_project(role, replace(self.projects[role], signers=after))

    def with_project(self, name: str, *, prefix: str, signers: RoleKeys) -> Charter:
        """With a project, new or changed.

        Raises:
            InvalidArgument: Name, prefix, keys or threshold can't be those of one.
            AlreadyExists: Another project has that prefix.
            FailedPrecondition: There are too many projects.
        """
        if _PROJECT.fullmatch(name) is None or name in TOP_ROLES:
            hint = f"use 1 to 63 of a-z 0-9 _ - and none of {', '.join(TOP_ROLES)}"
            raise InvalidArgument(f"{name[:80]!r} can't name a project", hint=hint)
        if _PREFIX.fullmatch(prefix) is None:
            hint = "give the first 1 to 63 characters of its models' names: a-z 0-9 . _ -"
            raise InvalidArgument(f"{prefix[:80]!r} can't be a project's prefix", hint=hint)
        _verify_signers(signers, name)
        other = next((each for each, project in self.projects.items() if project.prefix == prefix), name)
        if other != name:
            raise AlreadyExists(f"the prefix {prefix!r} is that of the project {other!r}")
        if name not in self.projects and len(self.projects) >= MAX_PROJECTS:
            raise FailedPrecondition(f"there are {MAX_PROJECTS} projects already", hint="remove one first")
        return self._with_project(name, Project(prefix=prefix, signers=signers))

    def without_project(self, name: str) -> Charter:
        """Without that project; its models belong to the role "targets" again.

        Raises:
            NotFound: There is none.
        """
        self._project(name)
        return replace(self, projects={each: project for each, project in self.projects.items() if each != name})

    def _project(self, name: str) -> Project:
        if name not in self.projects:
            known = ", ".join((*TOP_ROLES, *self.projects))
            raise NotFound(f"no role {name[:80]!r}", hint=f"the roles are {known}")
        return self.projects[name]

    def _with_project(self, name: str, project: Project) -> Charter:
        return replace(self, projects={**self.projects, name: project})


def charter_to_text(charter: Charter) -> str:
    """As JSON."""
    return json.dumps(
        {
            "roles": {name: _signers_to_json(signers) for name, signers in charter.roles.items()},
            "projects": {
                name: {"prefix": project.prefix, **_signers_to_json(project.signers)}
                for name, project in charter.projects.items()
            },
        }
    )


def charter_from_text(text: str) -> Charter:
    """From what `charter_to_text` made."""
    document = json.loads(text)
    return Charter(
        roles={name: _signers_from_json(each) for name, each in document["roles"].items()},
        projects={
            name: Project(prefix=each["prefix"], signers=_signers_from_json(each))
            for name, each in document["projects"].items()
        },
    )


def _signers_to_json(signers: RoleKeys) -> dict[str, Any]:
    return {"threshold": signers.threshold, "keys": {key_id: key.to_dict() for key_id, key in signers.keys.items()}}


def _signers_from_json(document: dict[str, Any]) -> RoleKeys:
    keys = {key_id: Key.from_dict(key_id, fields) for key_id, fields in document["keys"].items()}
    return RoleKeys(keys=keys, threshold=document["threshold"])


def _verify_signers(signers: RoleKeys, role: str) -> None:
    count = len(signers.keys)
    if not 1 <= count <= MAX_KEYS:
        raise InvalidArgument(f"the role {role} with {count} keys", hint=f"a role has 1 to {MAX_KEYS} keys")
    if not 1 <= signers.threshold <= count:
        raise InvalidArgument(
            f"the role {role} can't ask for {signers.threshold} signatures of its {count} keys",
            hint=f"give a threshold from 1 to {count}, or add keys",
        )


def _key_id(prefix: str, keys: Mapping[str, Key], role: str) -> str:
    matching = [key_id for key_id in keys if prefix and key_id.startswith(prefix)]
    if len(matching) != 1:
        shown = ", ".join(key_id[:12] for key_id in keys)
        raise NotFound(f"{len(matching)} keys of the role {role} begin with {prefix[:80]!r}", hint=f"it has {shown}")
    return matching[0]
