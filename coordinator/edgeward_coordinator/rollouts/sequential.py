"""Tests that may be looked at after every call and stopped at any time, without their error growing.

Each keeps an e-process: a number that starts at 1 and that, whatever the true
rates are under the null hypothesis, exceeds 1/alpha at any time at all with a
probability of at most alpha (Ville's inequality). So a gate may be judged each
second, for as long as one likes.

One rate against a limit (`excess_e_value`): likelihood ratios against rates over
the limit, mixed with fixed weights. It depends on the sums only.

Two rates (`compare`): Turner, Ly, Grünwald, "Generic E-variables for exact
sequential k-sample tests that allow for optional stopping", J. Statist. Plann.
Inference 2024; and for a margin Turner, Grünwald, "Exact anytime-valid
confidence intervals for contingency tables and beyond", Stat. Probab. Lett. 2023.
Data come in blocks of both arms; the alternative of a block is estimated from
the blocks before it; the null is the point of a half plane that is nearest to
it in Kullback-Leibler divergence. A block as large as all before it is only
learned from, and the process is mixed over the block at which it starts: so
a bad bet on little knowledge is not carried for ever.

Assumed: calls succeed or fail independently, with a rate that is a version's own.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

Verdict = Literal["", "worse", "better"]

_PRIOR: Final = 0.18  # pseudo-counts of success and failure; the first paper's choice, section 4.2
_STEPS: Final = 12  # rates over the limit, from halfway to 1 downwards by halves
_SMALLEST: Final = 1e-9  # what is less than that away from 0 or 1 is 0 or 1
_CEILING: Final = 1e12  # past any use, and far from overflow


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """Sums of one version: of `trials` so many were successes."""

    successes: int = 0
    trials: int = 0

    @property
    def rate(self) -> float:
        """Share of successes; nan where nothing was tried."""
        return self.successes / self.trials if self.trials else math.nan

    @property
    def is_possible(self) -> bool:
        """Whether these can be sums."""
        return 0 <= self.successes <= self.trials

    def since(self, former: Arm) -> Arm:
        """What came since `former`."""
        return Arm(successes=self.successes - former.successes, trials=self.trials - former.trials)

    def __add__(self, other: Arm) -> Arm:
        return Arm(successes=self.successes + other.successes, trials=self.trials + other.trials)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The state of a test of two rates.

    `old` and `new` are what was tested, `old_read` and `new_read` the totals up to
    there. `worse` and `better` are the parts of the e-processes that have begun.
    """

    old_read: Arm
    new_read: Arm
    old: Arm = Arm()
    new: Arm = Arm()
    blocks: int = 0
    worse: float = 0.0
    better: float = 0.0
    verdict: Verdict = ""

    def e_value(self, direction: Literal["worse", "better"]) -> float:
        """The evidence so far for one direction: 1 says nothing."""
        started = self.worse if direction == "worse" else self.better
        return started + 1 / (self.blocks + 1)


def compare(state: Comparison | None, *, old: Arm, new: Arm, alpha: float, margin: float = 0.0) -> Comparison:
    """Take what has come in since the last call.

    Args:
        state: What the last call gave; None to begin: what came before is not tested.
        old: All that the old version did, from any beginning.
        new: The same of the new one.
        alpha: The level of each of the two verdicts, in (0, 1).
        margin: How far the new rate may lie under the old one and still be "better", in [0, 1).

    Returns:
        The state; a verdict in it stays.

    >>> state = compare(None, old=Arm(), new=Arm(), alpha=0.05)
    >>> for n in range(1, 40):
    ...     old, new = Arm(successes=9 * n, trials=10 * n), Arm(successes=4 * n, trials=10 * n)
    ...     state = compare(state, old=old, new=new, alpha=0.05)
    >>> state.verdict
    'worse'
    """
    if state is None:
        return Comparison(old_read=old, new_read=new)
    old_block, new_block = old.since(state.old_read), new.since(state.new_read)
    if not all(arm.is_possible for arm in (old, new, old_block, new_block)):
        # Sums that shrank: devices have left. What was tested stays, what is in doubt is passed over.
        return replace(state, old_read=old, new_read=new)
    if state.verdict or not (old_block.trials and new_block.trials):
        return state
    return _decided(_with_block(replace(state, old_read=old, new_read=new), old_block, new_block, margin), alpha)


def comparison_to_json(state: Comparison) -> dict[str, Any]:
    """As JSON."""
    return asdict(state)


def comparison_from_json(document: Mapping[str, Any]) -> Comparison:
    """From what `comparison_to_json` gave."""
    arms = {name: Arm(**document[name]) for name in ("old_read", "new_read", "old", "new")}
    return Comparison(**{**document, **arms})


def excess_e_value(events: int, trials: int, limit: float) -> float:
    """Evidence that the rate of events is over `limit`: reaches 1/alpha with probability alpha at most if it is not.

    >>> excess_e_value(1, 3, 0.01) < 100 < excess_e_value(3, 3, 0.01)
    True
    >>> excess_e_value(0, 1000, 0.01) < 1
    True
    """
    if limit > 1 - _SMALLEST or not trials:
        return 1.0
    if limit < _SMALLEST:
        return math.inf if events else 1.0
    ratios = (_log_ratio(events, trials, limit + (1 - limit) / 2**step, limit) for step in range(1, _STEPS + 1))
    return sum(math.exp(min(ratio, math.log(_CEILING))) for ratio in ratios) / _STEPS


def lower_bound(arm: Arm, alpha: float) -> float:
    """The least rate that an arm is compatible with, at level `alpha` (Chernoff's bound; for one look).

    >>> 0.8 < lower_bound(Arm(successes=90, trials=100), 0.05) < 0.9
    True
    """
    if not arm.trials:
        return 0.0
    low, high = 0.0, arm.rate
    for _ in range(50):
        middle = (low + high) / 2
        far = arm.trials * _divergence(arm.rate, middle) > -math.log(alpha)
        low, high = (middle, high) if far else (low, middle)
    return low


def _with_block(state: Comparison, old: Arm, new: Arm, margin: float) -> Comparison:
    learned = replace(state, old=state.old + old, new=state.new + new)
    if old.trials > state.old.trials or new.trials > state.new.trials:
        return learned
    guess = (_estimate(state.old), _estimate(state.new))
    number = state.blocks + 1
    start = 1 / (number * (number + 1))  # these sum to 1
    return replace(
        learned,
        blocks=number,
        worse=min((state.worse + start) * _block_e_value(old, new, guess, offset=0.0, sign=-1), _CEILING),
        better=min((state.better + start) * _block_e_value(old, new, guess, offset=-margin, sign=1), _CEILING),
    )


def _decided(state: Comparison, alpha: float) -> Comparison:
    if state.e_value("worse") >= 1 / alpha:
        return replace(state, verdict="worse")
    return replace(state, verdict="better") if state.e_value("better") >= 1 / alpha else state


def _estimate(arm: Arm) -> float:
    return (arm.successes + _PRIOR) / (arm.trials + 2 * _PRIOR)


def _block_e_value(old: Arm, new: Arm, guess: tuple[float, float], *, offset: float, sign: int) -> float:
    """Likelihood ratio of a block: the guess against the null {sign * (new - old - offset) <= 0}."""
    guessed_old, guessed_new = guess
    if sign * (guessed_new - guessed_old - offset) <= 0:
        return 1.0
    null_old = _nearest_null(old.trials, new.trials, guess, offset)
    log_e = _log_ratio(old.trials - old.successes, old.trials, 1 - guessed_old, 1 - null_old)
    log_e += _log_ratio(new.successes, new.trials, guessed_new, null_old + offset)
    return math.exp(min(log_e, math.log(_CEILING)))


def _nearest_null(old_trials: int, new_trials: int, guess: tuple[float, float], offset: float) -> float:
    """The old rate of the point on the line new = old + offset that is nearest to the guess; a convex problem."""
    low, high = max(0.0, -offset), min(1.0, 1.0 - offset)
    for _ in range(60):
        middle = (low + high) / 2
        new = middle + offset
        slope = old_trials * (middle - guess[0]) * new * (1 - new) + new_trials * (new - guess[1]) * middle * (
            1 - middle
        )
        low, high = (middle, high) if slope < 0 else (low, middle)
    return (low + high) / 2


def _log_ratio(events: int, trials: int, rate: float, null: float) -> float:
    return events * math.log(rate / null) + (trials - events) * math.log((1 - rate) / (1 - null))


def _divergence(rate: float, other: float) -> float:
    """Kullback-Leibler divergence of two Bernoulli rates."""
    parts = ((rate, other), (1 - rate, 1 - other))
    return sum(a * math.log(a / b) if b > 0 else math.inf for a, b in parts if a > 0)
