"""Which devices a phase takes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edgeward_coordinator.rollouts.selection import FleetDevice, place_of, select
from tests.rollout_values import make_phase

IDS = [f"device-{number:03}" for number in range(200)]
BY_PLACE = sorted(IDS, key=lambda device_id: place_of("r", device_id))


def make_fleet(*device_ids: str, online: set[str] | None = None, site: str = "hall-1") -> list[FleetDevice]:
    """Devices, all of them online where it is not said who is."""
    return [
        FleetDevice(device_id=each, labels={"site": site}, is_online=online is None or each in online)
        for each in device_ids
    ]


@given(st.text(), st.text())
def test_place_is_in_the_unit_interval(rollout_id: str, device_id: str) -> None:
    """Any ids have a place below 1, so that a share of 1 takes everyone."""
    assert 0 <= place_of(rollout_id, device_id) < 1


def test_places_are_uniform() -> None:
    """A share takes about so many: 1,000 devices within four standard deviations."""
    taken = sum(place_of("r", str(number)) < 0.25 for number in range(1000))
    assert abs(taken - 250) < 4 * (1000 * 0.25 * 0.75) ** 0.5


def test_rollouts_draw_their_own_places() -> None:
    """Not the same devices are the first of every rollout."""
    assert sorted(IDS, key=lambda each: place_of("other", each))[:20] != BY_PLACE[:20]


@given(st.sets(st.sampled_from(IDS)), st.floats(0, 1), st.floats(0, 1), st.integers(0, 5))
def test_larger_share_holds_the_smaller(fleet_ids: set[str], one: float, other: float, devices: int) -> None:
    """Who is in 5 % is in 25 %."""
    fleet = make_fleet(*fleet_ids)
    small = select(make_phase(share=min(one, other), devices=devices), fleet, members=(), rollout_id="r")
    large = select(make_phase(share=max(one, other), devices=devices), fleet, members=(), rollout_id="r")
    assert set(small) <= set(large)


@given(st.sets(st.sampled_from(IDS)), st.sets(st.sampled_from(IDS)), st.floats(0, 1))
def test_members_stay(fleet_ids: set[str], members: set[str], share: float) -> None:
    """Who was admitted is never dropped, and asking again with the answer changes nothing."""
    phase, fleet = make_phase(share=share, devices=2), make_fleet(*fleet_ids)
    chosen = select(phase, fleet, members=members, rollout_id="r")
    assert members <= set(chosen)
    assert select(phase, fleet, members=chosen, rollout_id="r") == chosen == sorted(chosen)


def test_share_of_one_takes_everyone() -> None:
    """Also those who are away."""
    assert select(make_phase(share=1.0), make_fleet(*IDS, online=set()), members=(), rollout_id="r") == IDS


def test_count_takes_the_lowest_places_that_are_online() -> None:
    """A canary of two is two devices that are there."""
    online = set(BY_PLACE[3:])
    chosen = select(make_phase(share=0, devices=2), make_fleet(*IDS, online=online), members=(), rollout_id="r")
    assert set(chosen) == set(BY_PLACE[3:5])


def test_count_is_not_added_to_a_larger_share() -> None:
    """At least so many, or the share, whichever is more."""
    fleet = make_fleet(*IDS)
    by_share = select(make_phase(share=0.5), fleet, members=(), rollout_id="r")
    assert select(make_phase(share=0.5, devices=3), fleet, members=(), rollout_id="r") == by_share


def test_absent_device_of_the_share_does_not_fill_the_count() -> None:
    """A canary whose only device is switched off takes another one too."""
    fleet = make_fleet(*IDS, online=set(BY_PLACE[1:]))
    share = (place_of("r", BY_PLACE[0]) + place_of("r", BY_PLACE[1])) / 2
    chosen = select(make_phase(share=share, devices=1), fleet, members=(), rollout_id="r")
    assert set(chosen) == set(BY_PLACE[:2])


def test_canary_that_went_dark_draws_no_other() -> None:
    """A version that kills devices is not given to the next, and the next, to keep up a count."""
    phase = make_phase(share=0, devices=1)
    (canary,) = select(phase, make_fleet(*IDS), members=(), rollout_id="r")
    fleet = make_fleet(*IDS, online=set(IDS) - {canary})
    assert select(phase, fleet, members={canary}, rollout_id="r") == [canary]


def test_labels_take_those_that_have_all_of_them() -> None:
    """Labels choose in place of the share."""
    fleet = make_fleet("a", site="hall-3") + make_fleet("b", site="hall-1")
    phase = make_phase(share=0, labels={"site": "hall-3"})
    assert select(phase, fleet, members=(), rollout_id="r") == ["a"]


def test_late_joiner_falls_in_by_its_place() -> None:
    """A device that joins while a phase runs is in it exactly if its place is."""
    phase, late = make_phase(share=0.5), "late"
    former = select(phase, make_fleet(*IDS), members=(), rollout_id="r")
    chosen = select(phase, make_fleet(*IDS, late), members=former, rollout_id="r")
    assert (late in chosen) == (place_of("r", late) < 0.5)
