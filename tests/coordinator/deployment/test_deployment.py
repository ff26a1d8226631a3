"""Counting who follows a deployment."""

from __future__ import annotations

from edgeward.protocol.state import ModelState, ReportedModel, ReportedState
from edgeward_coordinator.deployment.deployment import count_followers


def report(version: int, state: ModelState, *, wanted: int, model: str = "digits", release: int = 0) -> ReportedState:
    """Of one model."""
    reported = ReportedModel(
        model=model, version=version, flavor="onnx-int8", state=state, wanted_version=wanted, release=release
    )
    return ReportedState(generation=1, models=(reported,))


def test_devices_are_counted_once_by_what_they_say() -> None:
    """Serving is what serves, failed is what was tried in vain, the rest is on its way."""
    counted = count_followers(
        "digits",
        3,
        [
            report(3, ModelState.SERVING, wanted=3),
            report(3, ModelState.FETCHING, wanted=4),  # still serves what is asked about
            report(2, ModelState.FAILED, wanted=3),
            report(0, ModelState.FAILED, wanted=3),
            report(2, ModelState.FAILED, wanted=4),  # failed at something else
            report(2, ModelState.CHECKING, wanted=3),
            report(3, ModelState.SERVING, wanted=3, model="other"),
            ReportedState(generation=0, models=()),
            None,
        ],
    )
    assert (counted.devices, counted.serving, counted.failed) == (9, 2, 2)


def test_a_failure_under_an_older_release_does_not_count() -> None:
    """The device is about to try again, so whoever waits goes on waiting."""
    reports = [report(2, ModelState.FAILED, wanted=3, release=release) for release in (4, 5, 6)]
    assert count_followers("digits", 3, reports, release=5).failed == 2


def test_empty_group_has_no_followers() -> None:
    """Nothing is counted where nobody is."""
    counted = count_followers("digits", 1, [])
    assert (counted.devices, counted.serving, counted.failed) == (0, 0, 0)
