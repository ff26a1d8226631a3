"""What an operator sees of trust: the roles, their keys, until when they are good, and what waits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeward_coordinator.trust.charter import TARGETS, TOP_ROLES
from edgeward_coordinator.trust.keys import public_pem
from edgeward_coordinator.trust.repository import keys_in_force, waiting

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from securesystemslib.signer import Key

    from edgeward_coordinator.trust.charter import Charter, Project
    from edgeward_coordinator.trust.repository import Repository


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustKey:
    """A key that signs for some role, or will; `held`: the coordinator has its private part."""

    id: str
    public_pem: bytes
    held: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustRole:
    """Who signs for a role, in force.

    Attributes:
        name: One of the four of TUF, or a project.
        key_ids: Of its keys.
        threshold: So many of them must sign.
        version: Of its metadata; 0 for a project that has never signed.
        expires_at: When that metadata is good no more; None for a project that has never signed.
        prefix: Of a project's models.
        targets: The number of flavors that it has signed.
        pending_signatures: Its next version waits for so many more.
    """

    name: str
    key_ids: tuple[str, ...]
    threshold: int
    version: int
    expires_at: datetime | None
    prefix: str = ""
    targets: int = 0
    pending_signatures: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustStatus:
    """All roles, and all keys of any."""

    roles: tuple[TrustRole, ...]
    keys: tuple[TrustKey, ...]


def status_of(repository: Repository, charter: Charter, *, held: Collection[str]) -> TrustStatus:
    """The roles in force, then projects that are not yet.

    Args:
        repository: What is in force, and what waits.
        charter: What should be.
        held: Ids of the private keys at hand.
    """
    counts = waiting(repository, charter)
    projects: dict[str, Project] = {**charter.projects, **repository.projects}
    roles = []
    keys: dict[str, Key] = {}
    for name in (*TOP_ROLES, *sorted(projects)):
        signers = projects[name].signers if name in projects else keys_in_force(repository, name)
        keys |= signers.keys
        current = repository.in_force(name)
        roles.append(
            TrustRole(
                name=name,
                key_ids=tuple(signers.keys),
                threshold=signers.threshold,
                version=current.signed.version if current else 0,
                expires_at=current.signed.expires if current else None,
                prefix=projects[name].prefix if name in projects else "",
                targets=_count_targets(repository, name),
                pending_signatures=counts.get(name, 0),
            )
        )
    for each in (*charter.roles.values(), *(project.signers for project in charter.projects.values())):
        keys |= each.keys
    return TrustStatus(
        roles=tuple(roles),
        keys=tuple(TrustKey(id=each, public_pem=public_pem(key), held=each in held) for each, key in keys.items()),
    )


def _count_targets(repository: Repository, name: str) -> int:
    signs_targets = name == TARGETS or name in repository.projects
    return len(repository.targets[name].signed.targets) if signs_targets else 0
