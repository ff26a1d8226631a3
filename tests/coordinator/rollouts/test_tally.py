"""What versions answered on the devices of a rollout."""

from __future__ import annotations

from dataclasses import replace

from edgeward.protocol.latency import LatencyHistogram
from edgeward_coordinator.monitoring import ComparisonTotals, ModelTotals
from edgeward_coordinator.rollouts.evidence import ShadowEvidence, VersionEvidence
from edgeward_coordinator.rollouts.members import Baseline
from edgeward_coordinator.rollouts.tally import Answers, add_up, baseline
from tests.rollout_values import NEW, OLD, make_rollout

ROLLOUT = make_rollout()


def totals(version: int, calls: int, *, errors: int = 0, flavor: str = "onnx-int8") -> ModelTotals:
    """Calls of a millisecond each."""
    latency = LatencyHistogram()
    for _ in range(calls):
        latency.add(0.001)
    return ModelTotals(
        model="digits",
        version=version,
        flavor=flavor,
        predictions=2 * calls,
        calls=calls,
        errors=errors,
        latency=latency,
        labelled=calls,
        correct=calls - errors,
    )


def compared(rows: int, agreed: int) -> ComparisonTotals:
    """Of the new version beside the old one."""
    return ComparisonTotals(
        model="digits",
        version=OLD,
        candidate_version=NEW,
        candidate_flavor="onnx-int8",
        rows=rows,
        agreed=agreed,
        calls=rows,
    )


def test_flavors_of_a_version_add_up() -> None:
    """Other versions stay out."""
    answers = Answers(versions=[totals(NEW, 3), totals(NEW, 4, errors=1, flavor="tflite"), totals(OLD, 5)])
    new, old, shadow = add_up(answers, [], rollout=ROLLOUT)
    assert (new.calls, new.predictions, new.errors, new.labelled, new.correct, new.latency.total) == (7, 14, 1, 7, 6, 7)
    assert (old.calls, old.latency.total) == (5, 5)
    assert shadow == ShadowEvidence()


def test_what_was_before_does_not_count() -> None:
    """Of each device its own; of what is gone nothing is negative."""
    answers = Answers(versions=[totals(NEW, 10, errors=4)], comparisons=[compared(9, 5)])
    before = baseline(
        Answers(versions=[totals(NEW, 6, errors=4)], comparisons=[compared(4, 4)]), rollout=ROLLOUT, mode="shadow"
    )
    assert before is not None
    new, _, shadow = add_up(answers, [before], rollout=ROLLOUT)
    assert (new.calls, new.errors, new.latency.total) == (4, 0, 4)
    assert (shadow.rows, shadow.agreed) == (5, 1)
    twice, _, _ = add_up(answers, [before, before], rollout=ROLLOUT)
    assert (twice.calls, twice.errors, twice.latency.total) == (0, 0, 0)


def test_a_baseline_holds_what_the_mode_judges() -> None:
    """Where the new version takes the old one's place, the old one counts whole; a shadow is compared since then."""
    answers = Answers(versions=[totals(NEW, 3), totals(OLD, 5)], comparisons=[compared(4, 4)])
    by_mode = {mode: baseline(answers, rollout=ROLLOUT, mode=mode) for mode in ("serve", "ab", "shadow")}
    serve, ab, shadow = (by_mode[mode] or Baseline() for mode in ("serve", "ab", "shadow"))
    assert (serve.new.calls, serve.old, serve.shadow) == (3, VersionEvidence(), ShadowEvidence())
    assert (ab.new.calls, ab.old.calls, ab.shadow) == (3, 5, ShadowEvidence())
    assert (shadow.new.calls, shadow.old.calls, shadow.shadow.rows) == (3, 5, 4)


def test_a_device_that_has_answered_nothing_has_no_baseline() -> None:
    """Also where the group ran no version before."""
    assert baseline(Answers(), rollout=ROLLOUT, mode="serve") is None
    assert baseline(Answers(), rollout=replace(ROLLOUT, from_version=None), mode="serve") is None
