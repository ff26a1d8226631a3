"""Values for the tests of the pure rules: models without bytes, what serves, what was refused, who rests."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from edgeward.protocol.digests import digest_of
from edgeward.protocol.model import Flavor, Signature
from edgeward.protocol.state import CandidateMode, DesiredCandidate, DesiredModel, ProbationRules
from edgeward_agent.artifacts import ActiveModel, Candidate, Probation, Refusal
from edgeward_agent.reconcile import Cause, Install, Observed, Rest, Rests, Stage

if TYPE_CHECKING:
    from edgeward.protocol.model import Format

NOW = 100.0
RULES = ProbationRules(duration=timedelta(seconds=60), min_predictions=0, max_error_ratio=0.05)


def flavor(model: str, version: int, name: str) -> Flavor:
    """Named by its digest, without bytes."""
    model_format: Format = "onnx" if name.startswith("onnx") else "tflite"
    return Flavor(
        name=name,
        format=model_format,
        precision="int8",
        digest=digest_of(f"{model} {version} {name}".encode()),
        total_bytes=10,
        golden_digest=None,
        golden_bytes=0,
        signature=Signature(inputs=(), outputs=()),
    )


def wanted(model: str, version: int, *names: str, candidate: DesiredCandidate | None = None) -> DesiredModel:
    """Desired under release 7."""
    flavors = tuple(flavor(model, version, name) for name in names)
    return DesiredModel(model=model, version=version, flavors=flavors, candidate=candidate, release=7, probation=RULES)


def beside(
    model: str, version: int, *names: str, mode: CandidateMode = CandidateMode.SHADOW, share: float = 0.0
) -> DesiredCandidate:
    """A desired candidate."""
    flavors = tuple(flavor(model, version, name) for name in names)
    return DesiredCandidate(version=version, flavors=flavors, mode=mode, share=share)


def serving(model: str, version: int, name: str) -> ActiveModel:
    """What serves."""
    artifact = flavor(model, version, name)
    return ActiveModel(
        model=model,
        version=version,
        flavor=name,
        format=artifact.format,
        precision=artifact.precision,
        digest=artifact.digest,
        path=Path("model"),
        golden_path=None,
        signature=artifact.signature,
        slot="a",
        generation=1,
    )


def on_probation(active: ActiveModel) -> ActiveModel:
    """The same, not proven yet."""
    probation = Probation(
        version=active.version, digest=active.digest, since=datetime(2026, 1, 1, tzinfo=UTC), release=7, rules=RULES
    )
    return replace(active, probation=probation)


def staged(
    model: str, version: int, name: str, *, mode: CandidateMode = CandidateMode.SHADOW, share: float = 0.0
) -> Candidate:
    """What runs beside."""
    return Candidate(active=serving(model, version, name), mode=mode, share=share)


def refusal(model: str, version: int, name: str, *, release: int = 7, reason: str = "wrong numbers") -> Refusal:
    """What was refused."""
    return Refusal(
        version=version,
        digest=flavor(model, version, name).digest,
        release=release,
        reason=reason,
        at=datetime(2026, 1, 1, tzinfo=UTC),
    )


def observed(
    *installed: ActiveModel,
    candidates: tuple[Candidate, ...] = (),
    refusals: dict[str, tuple[Refusal, ...]] | None = None,
    on_disk: tuple[str, ...] = (),
) -> Observed:
    """What is on the device."""
    return Observed(
        installed={active.model: active for active in installed},
        candidates={candidate.active.model: candidate for candidate in candidates},
        refusals=refusals or {},
        on_disk=[*on_disk, *(active.model for active in installed)],
    )


def resting(model: str, *, version: int = 1, cause: Cause = Cause.NETWORK, reason: str = "no network") -> Rests:
    """One model that rests until a second after `NOW`."""
    rests = Rests()
    rests.add(model, Rest(until=NOW + 1, reason=reason, cause=cause, version=version))
    return rests


def install(model: str, version: int, name: str) -> Install:
    """The step."""
    return Install(model=model, version=version, flavor=flavor(model, version, name), release=7, probation=RULES)


def stage(
    model: str, version: int, name: str, *, mode: CandidateMode = CandidateMode.SHADOW, share: float = 0.0
) -> Stage:
    """The step."""
    return Stage(model=model, version=version, flavor=flavor(model, version, name), release=7, mode=mode, share=share)
