"""What versions answered on the devices of a rollout, added up; pure.

The new version counts since each device was admitted. So does the old one where
both answer at the same time (shadow, ab); where the new one has taken its place,
the old one counts with all that it ever answered on these devices.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeward.protocol.latency import LatencyHistogram, merge_histograms
from edgeward_coordinator.rollouts.evidence import ShadowEvidence, VersionEvidence
from edgeward_coordinator.rollouts.members import Baseline

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from edgeward_coordinator.monitoring import ComparisonTotals, ModelTotals
    from edgeward_coordinator.rollouts.phases import Mode
    from edgeward_coordinator.rollouts.rollout import Rollout


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """Totals of the old and the new version, and of the new one as a candidate: of one device, or of several."""

    versions: Sequence[ModelTotals] = ()
    comparisons: Sequence[ComparisonTotals] = ()


def add_up(
    answers: Answers, bases: Sequence[Baseline], *, rollout: Rollout
) -> tuple[VersionEvidence, VersionEvidence, ShadowEvidence]:
    """What the new version answered, what the old one did, and the new one as a shadow, less what was before."""
    return (
        _less(_of_version(answers.versions, rollout.to_version), [base.new for base in bases]),
        _less(_of_version(answers.versions, rollout.from_version), [base.old for base in bases]),
        _shadow_less(_of_shadow(answers.comparisons), [base.shadow for base in bases]),
    )


def baseline(answers: Answers, *, rollout: Rollout, mode: Mode) -> Baseline | None:
    """What one device has answered up to now that must not count for what it does from now on; None for nothing."""
    found = Baseline(
        new=_of_version(answers.versions, rollout.to_version),
        old=VersionEvidence() if mode == "serve" else _of_version(answers.versions, rollout.from_version),
        shadow=_of_shadow(answers.comparisons) if mode == "shadow" else ShadowEvidence(),
    )
    return None if found == Baseline() else found


def _of_version(totals: Iterable[ModelTotals], version: int | None) -> VersionEvidence:
    found = [each for each in totals if each.version == version]
    return VersionEvidence(
        calls=sum(each.calls for each in found),
        predictions=sum(each.predictions for each in found),
        errors=sum(each.errors for each in found),
        labelled=sum(each.labelled for each in found),
        correct=sum(each.correct for each in found),
        latency=merge_histograms(each.latency for each in found),
    )


def _of_shadow(totals: Sequence[ComparisonTotals]) -> ShadowEvidence:
    return ShadowEvidence(
        rows=sum(each.rows for each in totals),
        agreed=sum(each.agreed for each in totals),
        calls=sum(each.calls for each in totals),
        errors=sum(each.errors for each in totals),
        skipped=sum(each.skipped for each in totals),
        latency=merge_histograms(each.latency for each in totals),
    )


def _less(total: VersionEvidence, bases: Sequence[VersionEvidence]) -> VersionEvidence:
    if not bases:
        return total
    return VersionEvidence(
        calls=_rest(total.calls, (base.calls for base in bases)),
        predictions=_rest(total.predictions, (base.predictions for base in bases)),
        errors=_rest(total.errors, (base.errors for base in bases)),
        labelled=_rest(total.labelled, (base.labelled for base in bases)),
        correct=_rest(total.correct, (base.correct for base in bases)),
        latency=_latency_rest(total.latency, (base.latency for base in bases)),
    )


def _shadow_less(total: ShadowEvidence, bases: Sequence[ShadowEvidence]) -> ShadowEvidence:
    if not bases:
        return total
    return ShadowEvidence(
        rows=_rest(total.rows, (base.rows for base in bases)),
        agreed=_rest(total.agreed, (base.agreed for base in bases)),
        calls=_rest(total.calls, (base.calls for base in bases)),
        errors=_rest(total.errors, (base.errors for base in bases)),
        skipped=_rest(total.skipped, (base.skipped for base in bases)),
        latency=_latency_rest(total.latency, (base.latency for base in bases)),
    )


def _rest(total: int, bases: Iterable[int]) -> int:
    # Totals only grow, but for those that reached the bound of their column.
    return max(0, total - sum(bases))


def _latency_rest(total: LatencyHistogram, bases: Iterable[LatencyHistogram]) -> LatencyHistogram:
    base = merge_histograms(bases)
    return LatencyHistogram(
        counts=total.counts - base.counts,
        zeros=max(0, total.zeros - base.zeros),
        sum_s=max(0.0, total.sum_s - base.sum_s),
    )
