"""What the trust in models looks like as tables and sentences; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from edgeward_server.cli.rendering import ShowInstant, instant_in
from edgeward_server.terminal.sheets import Sheet

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from edgeward.v1 import trust_pb2
    from edgeward_coordinator.trust import DelegationChange, KeyChange, RoleDescription, TargetChange

# Of 64 hex digits; enough to tell the keys of a fleet apart, and to name one.
_SHORT_KEY_ID: Final = 12
_SHORT_DIGEST: Final = 16


def roles_sheet(roles: Iterable[trust_pb2.TrustRole], show: ShowInstant) -> Sheet:
    """Who signs what, until when."""
    rows = [
        (
            role.name,
            role.prefix,
            f"{role.threshold} of {len(role.key_ids)}",
            str(role.version),
            str(role.targets),
            show(instant_in(role, "expires_at")),
            f"{role.pending_signatures} more" if role.pending_signatures else "",
        )
        for role in roles
    ]
    return Sheet(columns=("role", "prefix", "keys", ">version", ">models", "expires", "waits for"), rows=rows)


def keys_sheet(keys: Iterable[trust_pb2.TrustKey], roles: Sequence[trust_pb2.TrustRole]) -> Sheet:
    """Which keys there are, what they sign, and which of them the coordinator holds."""
    rows = [
        (
            key.id[:_SHORT_KEY_ID],
            ", ".join(role.name for role in roles if key.id in role.key_ids),
            "yes" if key.held else "no",
        )
        for key in keys
    ]
    return Sheet(columns=("key", "roles", "held here"), rows=rows)


def waiting_in_words(roles: Sequence[str]) -> str:
    """What must happen before a change is in force."""
    way = "edgeward trust export FILE; edgeward trust sign FILE --key KEY.pem; edgeward trust import FILE"
    return f"It waits for signatures of {', '.join(roles)}, whose keys are not on the coordinator: {way}"


def description_sheets(description: RoleDescription) -> list[Sheet]:
    """What one role is asked to sign, and what changes by it."""
    sheets = [Sheet(columns=("role", ">version", ">in force", "expires", ">missing"), rows=[_role_row(description)])]
    if description.targets:
        sheets.append(
            Sheet(
                columns=("change", "model", "sha256", "golden sha256", ">bytes", "differs"),
                rows=[_target_row(each) for each in description.targets],
            )
        )
    if description.delegations:
        sheets.append(
            Sheet(
                columns=("change", "delegation", "paths", ">threshold", "keys", "others after it"),
                rows=[_delegation_row(each, description.keys) for each in description.delegations],
            )
        )
    if description.keys:
        sheets.append(
            Sheet(
                columns=("change", "role", ">threshold", "key", "fingerprint"),
                rows=[_key_row(each) for each in description.keys],
            )
        )
    if description.other:
        sheets.append(Sheet(columns=("change", "field"), rows=[("changed", name) for name in description.other]))
    return sheets


def doubts_in_words(description: RoleDescription) -> str:
    """What can't be known of what changes; empty where it is known."""
    if description.former_version is None:
        return f"{description.role}: the file has no version in force to compare with, so everything is shown as new."
    if not description.is_former_verified:
        return (
            f"{description.role}: none of these keys has signed version {description.version - 1}, so what changes"
            " is the coordinator's word: look at all of it."
        )
    return ""


def _role_row(description: RoleDescription) -> tuple[str, ...]:
    former = "" if description.former_version is None else str(description.former_version)
    return (description.role, str(description.version), former, description.expires, str(description.missing))


def _target_row(target: TargetChange) -> tuple[str, ...]:
    golden = (target.golden_sha256 or "")[:_SHORT_DIGEST]
    path = target.path.removeprefix("models/")
    return (
        target.mark,
        path,
        target.sha256[:_SHORT_DIGEST],
        golden,
        str(target.total_bytes),
        ", ".join(target.differs),
    )


def _delegation_row(delegation: DelegationChange, keys: Iterable[KeyChange]) -> tuple[str, ...]:
    mine = (each.key_id[:_SHORT_KEY_ID] for each in keys if each.role == delegation.name and each.mark != "gone")
    ending = "no" if delegation.is_terminating else "yes"
    return (
        delegation.mark,
        delegation.name,
        ", ".join(delegation.paths),
        str(delegation.threshold),
        ", ".join(mine),
        ending,
    )


def _key_row(key: KeyChange) -> tuple[str, ...]:
    mark = {"new": "added", "gone": "removed"}.get(key.mark, key.mark)
    return (mark, key.role, str(key.threshold), key.key_id[:_SHORT_KEY_ID], key.fingerprint)
