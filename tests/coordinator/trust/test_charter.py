"""Who should sign: what an operator may decide, and how it is kept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward_coordinator.errors import FailedPrecondition, InvalidArgument, NotFound
from edgeward_coordinator.trust.charter import (
    MAX_KEYS,
    MAX_PROJECTS,
    TOP_ROLES,
    Charter,
    Project,
    RoleKeys,
    charter_from_text,
    charter_to_text,
)
from edgeward_coordinator.trust.keys import generate_key, parse_public_key
from edgeward_coordinator.trust.metadata import delegations_to, projects_of, route, targets_of
from tests.coordinator.trust.instants import NOW

KEYS = [parse_public_key(generate_key()[1]) for _ in range(MAX_KEYS + 1)]


def signers(*numbers: int, threshold: int = 1) -> RoleKeys:
    """Of some of the keys."""
    return RoleKeys(keys={KEYS[number].keyid: KEYS[number] for number in numbers}, threshold=threshold)


CHARTER = Charter(roles={role: signers(number) for number, role in enumerate(TOP_ROLES)})

some_signers = st.lists(st.integers(0, MAX_KEYS - 1), min_size=1, max_size=4, unique=True).flatmap(
    lambda numbers: st.integers(1, len(numbers)).map(lambda threshold: signers(*numbers, threshold=threshold))
)
names = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,10}", fullmatch=True).filter(lambda name: name not in TOP_ROLES)
prefixes = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,10}", fullmatch=True)
projects = st.dictionaries(names, st.builds(Project, prefix=prefixes, signers=some_signers), max_size=5)


@given(st.fixed_dictionaries(dict.fromkeys(TOP_ROLES, some_signers)), projects)
def test_a_charter_is_kept_as_text(roles: dict[str, RoleKeys], teams: dict[str, Project]) -> None:
    """And read back the same."""
    charter = Charter(roles=roles, projects=teams)
    assert charter_from_text(charter_to_text(charter)) == charter


@given(projects)
def test_projects_go_through_metadata(teams: dict[str, Project]) -> None:
    """Prefix, keys and threshold are what the delegation says."""
    assert projects_of(targets_of((), teams, version=1, expires=NOW)) == teams


@given(projects.filter(lambda teams: len({each.prefix for each in teams.values()}) == len(teams)), prefixes)
def test_we_and_clients_ask_the_same_role(teams: dict[str, Project], model: str) -> None:
    """The first terminating delegation whose pattern fits is the one with the longest prefix."""
    roles = delegations_to(teams).roles or {}
    path = f"models/{model}/3/onnx-int8"
    first = next((name for name, role in roles.items() if role.is_delegated_path(path)), "targets")
    assert route(model, {name: each.prefix for name, each in teams.items()}, default="targets") == first


def test_keys_come_and_go() -> None:
    """By the first digits of their ids."""
    charter = CHARTER.with_keys("root", add=[KEYS[8], KEYS[9]], remove=[KEYS[0].keyid[:12]], threshold=2)
    assert charter.signers_of("root") == signers(8, 9, threshold=2)
    assert charter.signers_of("targets") == CHARTER.signers_of("targets")


def test_there_is_a_bound_to_keys_and_projects() -> None:
    """Metadata is read by small devices."""
    with pytest.raises(InvalidArgument, match="1 to 16 keys"):
        CHARTER.with_keys("root", add=KEYS)
    charter = CHARTER
    for number in range(MAX_PROJECTS):
        charter = charter.with_project(f"p{number}", prefix=f"p{number}", signers=signers(1))
    with pytest.raises(FailedPrecondition, match="100 projects"):
        charter.with_project("more", prefix="more", signers=signers(1))
    charter.with_project("p7", prefix="other", signers=signers(2))


def test_an_unknown_project_is_not_found() -> None:
    """With the names of those that are."""
    with pytest.raises(NotFound, match="root, targets, snapshot, timestamp"):
        CHARTER.without_project("vision")
