"""What the gates of a phase say, from the evidence so far.

A gate fails as soon as it can't be mended: where more devices have failed than
all that were selected allow, or where an always-valid test (`sequential`) says
that a rate is over its limit. A version within its limits is stopped wrongly
with a probability of at most ALPHA a gate, however often one looks. A gate opens
on enough evidence only, so between the two it is pending. Where a rate lies over
its limit by less than chance explains, it is pending too.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from edgeward.protocol.latency import SCALE
from edgeward_coordinator.rollouts.rollout import DeviceState, GateResult, GateState
from edgeward_coordinator.rollouts.sequential import (
    Arm,
    Comparison,
    compare,
    comparison_from_json,
    comparison_to_json,
    excess_e_value,
    lower_bound,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgeward.protocol.latency import LatencyHistogram
    from edgeward_coordinator.rollouts.evidence import Evidence
    from edgeward_coordinator.rollouts.phases import Phase

ALPHA: Final = 0.01
_BUCKET: Final = 2 ** (1 / 2**SCALE)  # how far two latencies of one bucket can be apart
_P99: Final = 0.99

_UNDERWAY = (DeviceState.UPDATING, DeviceState.PROBATION)
_FAILED = (DeviceState.FAILED, DeviceState.SILENT, DeviceState.STUCK)

Memory = dict[str, object]


def judge(
    phase: Phase, evidence: Evidence, *, memory: Mapping[str, object] | None
) -> tuple[tuple[GateResult, ...], Memory]:
    """Judge every gate of a phase.

    Args:
        phase: The phase.
        evidence: All that is known.
        memory: What the last judgement of this phase gave; None at first.

    Returns:
        The gates that apply, "install" first, and what to hand in next time, as JSON.
    """
    carried = dict(memory or {})
    gates = [_install(phase, evidence), _errors(phase, evidence), _latency(phase, evidence)]
    gates += [_accuracy(phase, evidence), _agreement(phase, evidence)]
    if phase.mode == "ab":
        gate, carried["ab"] = _ab(phase, evidence, carried.get("ab"))
        gates.append(gate)
    return tuple(gate for gate in gates if gate is not None), carried


def is_settled(phase: Phase, evidence: Evidence) -> bool:
    """Whether the devices that are still on their way could not fail the phase any more, and somebody has arrived.

    So a fleet in which some device is always on its way comes to an end, and where not one may fail all are awaited.
    """
    underway, failed = evidence.count(*_UNDERWAY), evidence.count(*_FAILED)
    succeeded = evidence.count(DeviceState.SUCCEEDED)
    allowed = phase.gates.max_failed_ratio * (underway + failed + succeeded)
    return (not underway or underway + failed <= allowed) and succeeded >= min(phase.gates.min_devices, 1)


def _install(phase: Phase, evidence: Evidence) -> GateResult:
    failed, underway = evidence.count(*_FAILED), evidence.count(*_UNDERWAY)
    succeeded = evidence.count(DeviceState.SUCCEEDED)
    away = evidence.count(DeviceState.OFFLINE)
    tried = failed + underway + succeeded
    ratio, limit = _share(failed, tried), phase.gates.max_failed_ratio
    # At least one of however few there are; of no device at all nothing is known.
    needed = min(phase.gates.min_devices, max(tried + away, 1))
    may_fail = tried + away if underway else tried
    if failed > limit * may_fail:
        state = GateState.FAILED
    else:
        state = GateState.OPEN if succeeded >= needed and failed <= limit * tried else GateState.PENDING
    return GateResult(
        name="install",
        state=state,
        value=ratio,
        limit=limit,
        evidence=succeeded,
        evidence_needed=needed,
        text=_install_text(evidence, tried=tried, failed=failed, limit=limit),
    )


def _install_text(evidence: Evidence, *, tried: int, failed: int, limit: float) -> str:
    named = {DeviceState.SILENT: "fell silent", DeviceState.STUCK: "stuck"}
    kinds = [f"{evidence.count(state)} {words}" for state, words in named.items() if evidence.count(state)]
    shown = f" ({', '.join(kinds)})" if kinds else ""
    allowed = f"at most {_percent(limit)} may" if limit else "not one may"
    away = evidence.count(DeviceState.OFFLINE)
    rest = f"; {away} away or waiting" if away else ""
    return (
        f"{evidence.count(DeviceState.SUCCEEDED)} of {tried} devices have it, {failed} failed{shown}, {allowed}{rest}"
    )


def _errors(phase: Phase, evidence: Evidence) -> GateResult | None:
    limit = phase.gates.max_error_ratio
    if limit is None:
        return None
    counted = evidence.shadow if phase.mode == "shadow" else evidence.new
    return _rate_gate(
        "errors",
        events=counted.errors,
        trials=counted.calls,
        limit=limit,
        needed=phase.gates.min_predictions,
        words="calls failed",
    )


def _agreement(phase: Phase, evidence: Evidence) -> GateResult | None:
    least = phase.gates.min_agreement
    if least is None or phase.mode != "shadow":
        return None
    shadow = evidence.shadow
    gate = _rate_gate(
        "agreement",
        events=shadow.rows - shadow.agreed,
        trials=shadow.rows,
        limit=1 - least,
        needed=max(phase.gates.min_predictions, 1),
        words="answers differ",
    )
    return _turned(gate)


def _rate_gate(name: str, *, events: int, trials: int, limit: float, needed: int, words: str) -> GateResult:
    """A rate of bad events that must not exceed `limit`."""
    ratio = _share(events, trials)
    if excess_e_value(events, trials, limit) >= 1 / ALPHA:
        state = GateState.FAILED
    else:
        state = GateState.OPEN if trials >= needed and _holds(ratio, limit) else GateState.PENDING
    text = f"{events} of {trials} {words} ({_percent(ratio)}), at most {_percent(limit)} may"
    if trials < needed:
        text += f"; {needed} needed"
    elif state is GateState.PENDING:
        text += "; that may be chance"
    return GateResult(
        name=name, state=state, value=ratio, limit=limit, evidence=trials, evidence_needed=needed, text=text
    )


def _holds(ratio: float, limit: float) -> bool:
    """Whether a ratio is within its limit, where limits such as 1 - 0.9 are not quite what was written."""
    return ratio <= limit or math.isclose(ratio, limit)


def _turned(gate: GateResult) -> GateResult:
    """A gate on bad events as one on good ones."""
    return GateResult(
        name=gate.name,
        state=gate.state,
        value=1 - gate.value,
        limit=1 - gate.limit,
        evidence=gate.evidence,
        evidence_needed=gate.evidence_needed,
        text=gate.text,
    )


def _latency(phase: Phase, evidence: Evidence) -> GateResult | None:
    limit = phase.gates.max_latency_ratio
    if limit is None:
        return None
    new = evidence.shadow.latency if phase.mode == "shadow" else evidence.new.latency
    old, needed = evidence.old.latency, phase.gates.min_predictions
    old_p99, new_p99 = old.quantile(_P99), new.quantile(_P99)
    comparable = old.total >= max(needed, 1) and old_p99 > 0
    if not comparable:
        # Where the old version serves no more, its calls will not become more.
        state = GateState.OPEN if phase.mode == "serve" else GateState.PENDING
        text = f"not compared: the old version has answered {old.total} calls on these devices"
        return _latency_result(state, 0.0, limit, new.total, needed, text)
    ratio = new_p99 / old_p99 if new.total else 0.0
    # Two quantiles out of the middle of their buckets: so much of a ratio may be their width.
    over = _count_over(new, limit * old_p99 * _BUCKET)
    if excess_e_value(over, new.total, 1 - _P99) >= 1 / ALPHA:
        state = GateState.FAILED
    else:
        state = GateState.OPEN if new.total >= needed and ratio <= limit * _BUCKET else GateState.PENDING
    text = f"p99 {_ms(new_p99)} against {_ms(old_p99)} ({ratio:.2f} times), at most {limit:.4g} times"
    text = text if new.total else "no call yet"
    if new.total < needed:
        text += f"; {new.total} of {needed} calls"
    return _latency_result(state, ratio, limit, new.total, needed, text)


def _latency_result(state: GateState, ratio: float, limit: float, calls: int, needed: int, text: str) -> GateResult:
    return GateResult(
        name="latency", state=state, value=ratio, limit=limit, evidence=calls, evidence_needed=needed, text=text
    )


def _count_over(histogram: LatencyHistogram, seconds: float) -> int:
    """How many calls were slower for certain: in buckets that begin there or later."""
    first = math.ceil(math.log2(seconds) * 2**SCALE)
    return sum(count for index, count in histogram.counts.items() if index >= first)


def _accuracy(phase: Phase, evidence: Evidence) -> GateResult | None:
    gates = phase.gates
    if phase.mode == "shadow" or (gates.min_accuracy is None and gates.max_accuracy_drop is None):
        return None
    new = Arm(successes=evidence.new.correct, trials=evidence.new.labelled)
    old = Arm(successes=evidence.old.correct, trials=evidence.old.labelled)
    limits = [] if gates.min_accuracy is None else [(gates.min_accuracy, gates.min_accuracy)]
    if gates.max_accuracy_drop is not None and old.trials >= gates.min_labels:
        # The old version's accuracy is an estimate too: failing needs its lower bound.
        drop = gates.max_accuracy_drop
        limits.append((max(0.0, old.rate - drop), max(0.0, lower_bound(old, ALPHA) - drop)))
    if not limits:
        return _not_compared(phase, old, new)
    wrong = new.trials - new.successes
    limit = max(each for each, _ in limits)
    rate = new.rate if new.trials else 0.0
    if any(excess_e_value(wrong, new.trials, 1 - sure) >= 1 / ALPHA for _, sure in limits):
        state = GateState.FAILED
    else:
        state = GateState.OPEN if new.trials >= max(gates.min_labels, 1) and _holds(limit, rate) else GateState.PENDING
    against = f", old version {_percent(old.rate)}" if old.trials else ""
    text = f"{new.successes} of {new.trials} labelled answers right ({_percent(rate)}{against})"
    text += f", at least {_percent(limit)}"
    if new.trials < gates.min_labels:
        text += f"; {gates.min_labels} labels needed"
    elif state is GateState.PENDING:
        text += "; that may be chance"
    return GateResult(
        name="accuracy",
        state=state,
        value=rate,
        limit=limit,
        evidence=new.trials,
        evidence_needed=gates.min_labels,
        text=text,
    )


def _not_compared(phase: Phase, old: Arm, new: Arm) -> GateResult:
    """Only a drop is limited, and nobody knows from where."""
    return GateResult(
        name="accuracy",
        state=GateState.OPEN if phase.mode == "serve" else GateState.PENDING,
        value=new.rate if new.trials else 0.0,
        limit=0.0,
        evidence=old.trials,
        evidence_needed=phase.gates.min_labels,
        text=f"not compared: of the old version {old.trials} labels came back, {phase.gates.min_labels} needed",
    )


def _ab(phase: Phase, evidence: Evidence, carried: object) -> tuple[GateResult, Memory]:
    """The running test of both versions: on right answers where both have labels, else on calls that succeed."""
    old, new = evidence.old, evidence.new
    states = _carried_comparisons(carried)
    gates = phase.gates
    labels = compare(
        states.get("labels"),
        old=Arm(successes=old.correct, trials=old.labelled),
        new=Arm(successes=new.correct, trials=new.labelled),
        alpha=phase.alpha,
        margin=gates.max_accuracy_drop or 0.0,
    )
    calls = compare(
        states.get("calls"),
        old=Arm(successes=old.calls - old.errors, trials=old.calls),
        new=Arm(successes=new.calls - new.errors, trials=new.calls),
        alpha=phase.alpha,
        margin=gates.max_error_ratio or 0.0,
    )
    has_labels = bool(labels.old.trials and labels.new.trials)
    margin = (gates.max_accuracy_drop if has_labels else gates.max_error_ratio) or 0.0
    gate = _ab_result(labels if has_labels else calls, phase, margin, "right answers" if has_labels else "good calls")
    return gate, {"labels": comparison_to_json(labels), "calls": comparison_to_json(calls)}


def _ab_result(state: Comparison, phase: Phase, margin: float, words: str) -> GateResult:
    enough = min(state.old.trials, state.new.trials) >= phase.gates.min_predictions
    verdicts = {"worse": GateState.FAILED, "better": GateState.OPEN if enough else GateState.PENDING}
    needed = 1 / phase.alpha
    difference = state.new.rate - state.old.rate if state.new.trials and state.old.trials else 0.0
    aim = f"not worse by more than {_percent(margin)}" if margin else "better"
    return GateResult(
        name="ab",
        state=verdicts.get(state.verdict, GateState.PENDING),
        value=difference,
        limit=-margin,
        evidence=max(state.e_value("worse"), state.e_value("better")),
        evidence_needed=needed,
        text=(
            f"{words}: new {_percent(state.new.rate)} of {state.new.trials}, old {_percent(state.old.rate)} of"
            f" {state.old.trials}; e-value for {aim}: {state.e_value('better'):.3g}, for worse:"
            f" {state.e_value('worse'):.3g}; {needed:.3g} decides"
        ),
    )


def _carried_comparisons(carried: object) -> dict[str, Comparison]:
    if not isinstance(carried, dict):
        return {}
    return {name: comparison_from_json(document) for name, document in carried.items()}


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _percent(ratio: float) -> str:
    return "-" if math.isnan(ratio) else f"{100 * ratio:.4g} %"


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.3g} ms"
