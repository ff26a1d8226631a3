"""Where one device is in a rollout."""

from __future__ import annotations

from typing import Any

import pytest

from edgeward.protocol.state import CandidateMode, ModelState, ReportedCandidate
from edgeward_coordinator.rollouts.progress import device_state, returning_state
from edgeward_coordinator.rollouts.rollout import DeviceState
from tests.rollout_values import NEW, OLD, RELEASE, START, after, make_phase, make_report

PHASE = make_phase()  # silence 10 minutes, device_timeout 30
UNDERWAY = make_report(ModelState.FETCHING, version=OLD)
BACK = make_report(ModelState.FAILED, version=OLD, error="golden set: 3 of 8 differ")


def state_of(former: DeviceState = DeviceState.UPDATING, **values: Any) -> tuple[DeviceState, str]:
    """Of a device that is online a minute after it was admitted, and has said nothing."""
    given: dict[str, Any] = {
        "reported": None,
        "to_version": NEW,
        "mode": "serve",
        "release": RELEASE,
        "is_online": True,
        "last_seen": after(minutes=1),
        "admitted_at": START,
        "changed_at": START,
        "phase": PHASE,
        "now": after(minutes=1),
    }
    return device_state(former=former, **(given | values))


def away(former: DeviceState, **values: Any) -> DeviceState:
    """Of a device that has no session, an hour after it was admitted."""
    return state_of(former, **({"is_online": False, "now": after(hours=1)} | values))[0]


@pytest.mark.parametrize("former", list(DeviceState))
@pytest.mark.parametrize(
    ("report", "state"),
    [
        (make_report(), DeviceState.SUCCEEDED),
        (make_report(ModelState.PROBATION), DeviceState.PROBATION),
        (UNDERWAY, DeviceState.UPDATING),
        (make_report(ModelState.CHECKING, version=OLD), DeviceState.UPDATING),
        (BACK, DeviceState.FAILED),
        (make_report(ModelState.WAITING, version=OLD), DeviceState.OFFLINE),
        (make_report(wanted_version=OLD, version=OLD), DeviceState.UPDATING),
    ],
    ids=["serves", "probation", "fetches", "checks", "went-back", "waits", "not-yet-asked"],
)
def test_device_is_believed(former: DeviceState, report: Any, state: DeviceState) -> None:
    """What it says counts, whatever it was before; only who was stuck has to arrive."""
    if former is DeviceState.STUCK and state in {DeviceState.UPDATING, DeviceState.PROBATION}:
        state = DeviceState.STUCK
    assert state_of(former, reported=report)[0] is state


def test_local_rollback_after_success_is_a_failure_with_its_reason() -> None:
    """The server is not wrong about a device that went back by itself."""
    assert state_of(DeviceState.SUCCEEDED, reported=BACK) == (DeviceState.FAILED, "golden set: 3 of 8 differ")


def test_failure_without_a_reason_says_so() -> None:
    """People see that there was none, rather than nothing."""
    _, error = state_of(reported=make_report(ModelState.FAILED, version=OLD))
    assert "no reason" in error


@pytest.mark.parametrize("report", [make_report(release=RELEASE - 1), make_report(ModelState.FAILED, release=3)])
def test_report_of_a_former_attempt_does_not_count(report: Any) -> None:
    """A version that is rolled out again is judged by this attempt."""
    assert state_of(reported=report)[0] is DeviceState.UPDATING
    assert away(DeviceState.OFFLINE, reported=report, last_seen=None) is DeviceState.OFFLINE


@pytest.mark.parametrize("last_seen", [None, after(minutes=-1), START])
def test_device_that_was_away_before_does_not_block(last_seen: Any) -> None:
    """However long it stays away."""
    assert away(DeviceState.OFFLINE, last_seen=last_seen, now=after(days=9)) is DeviceState.OFFLINE


def test_device_that_comes_back_follows() -> None:
    """It is on its way from then on."""
    assert state_of(DeviceState.OFFLINE)[0] is DeviceState.UPDATING


@pytest.mark.parametrize("former", [DeviceState.PROBATION, DeviceState.SUCCEEDED])
def test_device_that_took_it_and_falls_silent_has_failed(former: DeviceState) -> None:
    """After the phase's time, also where it had succeeded; before it, it is where it was."""
    seen = after(minutes=5)
    assert away(former, last_seen=seen, now=after(minutes=14)) is former
    assert away(former, last_seen=seen, now=after(minutes=15)) is DeviceState.SILENT
    assert away(former, last_seen=None, now=after(minutes=10)) is DeviceState.SILENT


def test_device_that_began_and_falls_silent_has_failed() -> None:
    """It said that it was fetching; what came of that nobody knows."""
    seen = after(minutes=5)
    assert away(DeviceState.UPDATING, reported=UNDERWAY, last_seen=seen, now=after(minutes=15)) is DeviceState.SILENT


def test_device_that_left_before_it_said_anything_holds_nobody_up() -> None:
    """Its link broke as it was asked: it may never have heard of the version."""
    assert away(DeviceState.UPDATING) is DeviceState.OFFLINE
    assert away(DeviceState.UPDATING, reported=make_report(release=1)) is DeviceState.OFFLINE


def test_device_that_came_and_went_between_two_looks_took_it() -> None:
    """Its report counts, also where nobody looked while it was there."""
    assert away(DeviceState.OFFLINE, reported=make_report(), now=after(minutes=2)) is DeviceState.SUCCEEDED
    assert away(DeviceState.OFFLINE, reported=make_report()) is DeviceState.SILENT


def test_failed_device_that_goes_away_stays_failed() -> None:
    """Its own reason says more than its silence."""
    assert away(DeviceState.FAILED, reported=BACK) is DeviceState.FAILED


def test_silent_device_that_is_back_follows() -> None:
    """It is where it says that it is."""
    assert state_of(DeviceState.SILENT, reported=make_report())[0] is DeviceState.SUCCEEDED
    assert state_of(DeviceState.SILENT)[0] is DeviceState.UPDATING


@pytest.mark.parametrize("report", [None, UNDERWAY, make_report(release=1)])
def test_device_that_is_heard_of_and_does_not_get_there_is_stuck(report: Any) -> None:
    """From `device_timeout` on after it was first there."""
    assert state_of(reported=report, now=after(minutes=29))[0] is DeviceState.UPDATING
    state, error = state_of(reported=report, now=after(minutes=30))
    assert state is DeviceState.STUCK
    assert "0:30:00" in error


def test_time_counts_from_when_the_device_was_first_there() -> None:
    """Hours away are not held against it."""
    changed = after(hours=5)
    assert state_of(DeviceState.OFFLINE, now=changed)[0] is DeviceState.UPDATING
    assert state_of(changed_at=changed, now=after(hours=5, minutes=29))[0] is DeviceState.UPDATING


def test_waiting_device_is_not_stuck() -> None:
    """Its owner's quiet hours hold nobody up, and it says what it waits for."""
    report = make_report(ModelState.WAITING, version=OLD, error="quiet hours until 06:00")
    assert state_of(reported=report, now=after(days=2)) == (DeviceState.OFFLINE, "waiting: quiet hours until 06:00")


def test_stuck_device_that_arrives_has_succeeded() -> None:
    """Late is better than never."""
    assert state_of(DeviceState.STUCK, reported=make_report())[0] is DeviceState.SUCCEEDED
    assert state_of(DeviceState.STUCK, reported=UNDERWAY)[0] is DeviceState.STUCK


@pytest.mark.parametrize("mode", list(CandidateMode))
@pytest.mark.parametrize(
    ("said", "state"),
    [
        (ModelState.SERVING, DeviceState.SUCCEEDED),
        (ModelState.FETCHING, DeviceState.UPDATING),
        (ModelState.FAILED, DeviceState.FAILED),
        (ModelState.WAITING, DeviceState.OFFLINE),
    ],
)
def test_of_a_candidate_its_own_state_counts(mode: CandidateMode, said: ModelState, state: DeviceState) -> None:
    """Beside the old version, which serves on."""
    candidate = ReportedCandidate(version=NEW, flavor="onnx", mode=mode, state=said)
    report = make_report(version=OLD, wanted_version=OLD, candidate=candidate)
    assert state_of(reported=report, mode=mode.value)[0] is state


def test_another_candidate_is_not_this_one() -> None:
    """A device that still runs a former candidate is on its way."""
    candidate = ReportedCandidate(version=3, flavor="onnx", mode=CandidateMode.SHADOW, state=ModelState.SERVING)
    report = make_report(version=OLD, wanted_version=OLD, candidate=candidate)
    assert state_of(reported=report, mode="shadow")[0] is DeviceState.UPDATING


@pytest.mark.parametrize(
    ("report", "state"),
    [
        (make_report(), DeviceState.UPDATING),
        (make_report(version=OLD, wanted_version=NEW), DeviceState.UPDATING),
        (make_report(version=OLD, wanted_version=OLD), DeviceState.RETURNED),
        (make_report(ModelState.REMOVED, version=0, wanted_version=0), DeviceState.RETURNED),
        (None, DeviceState.RETURNED),
        (
            make_report(
                version=OLD,
                wanted_version=OLD,
                candidate=ReportedCandidate(
                    version=NEW, flavor="onnx", mode=CandidateMode.AB, state=ModelState.SERVING
                ),
            ),
            DeviceState.UPDATING,
        ),
    ],
    ids=["serves-it", "on-its-way-to-it", "runs-the-old", "runs-none", "never-had-any", "runs-it-beside"],
)
def test_device_has_returned_when_nothing_of_the_version_is_left(report: Any, state: DeviceState) -> None:
    """Neither served nor beside nor wanted; why it had failed stays with it."""
    found = returning_state(reported=report, to_version=NEW, is_online=True, error="slow")
    assert found == (state, "slow")


def test_device_that_is_away_returns_when_it_is_back() -> None:
    """It is not awaited."""
    state, _ = returning_state(reported=make_report(), to_version=NEW, is_online=False, error="")
    assert state is DeviceState.OFFLINE
