"""The next step from what runs to what should. Pure, and the same whatever happened before.

For each desired model, the first of its flavors that this device has a runtime
for and that was not refused is the one to serve:

    serves already            nothing
    another one, or none      install it
    there is no such flavor   nothing: what serves goes on serving, the report says why
    the model rests           nothing yet; the next model has its turn

and a model that is not desired is removed. Without any desired state
(a device that was never told) nothing is touched.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Container, Mapping

    from edgeward.protocol.model import Flavor, Format
    from edgeward.protocol.state import DesiredModel, DesiredState
    from edgeward_agent.artifacts import ActiveModel
    from edgeward_agent.reconcile.failures import Failures


@dataclass(frozen=True, slots=True, kw_only=True)
class Install:
    """Fetch, verify, test and activate a flavor."""

    model: str
    version: int
    flavor: Flavor


@dataclass(frozen=True, slots=True, kw_only=True)
class Remove:
    """Stop serving a model and free its space."""

    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Nothing:
    """All is done, or nothing can be done now."""


Step = Install | Remove | Nothing


def next_step(
    desired: DesiredState | None,
    installed: Mapping[str, ActiveModel],
    failures: Failures,
    *,
    on_disk: Collection[str],
    formats: Container[Format],
    now: float,
) -> Step:
    """The one step to take now.

    Args:
        desired: What should run.
        installed: What runs, by model.
        failures: What was learned.
        on_disk: The models that take room, whether they serve or not.
        formats: The model formats that this device has a runtime for.
        now: Of the monotonic clock.
    """
    if desired is None:
        return Nothing()
    for model in desired.models:
        flavor = wanted_flavor(model, installed.get(model.model), failures, formats=formats)
        if flavor is not None and not failures.is_resting(model.model, now):
            return Install(model=model.model, version=model.version, flavor=flavor)
    wanted = {model.model for model in desired.models}
    for name in on_disk:
        if name not in wanted and not failures.is_resting(name, now):
            return Remove(model=name)
    return Nothing()


def is_settled(
    desired: DesiredState | None,
    installed: Mapping[str, ActiveModel],
    failures: Failures,
    *,
    on_disk: Collection[str],
    formats: Container[Format],
) -> bool:
    """Whether the desired state has been acted on in full: nothing is left to try, even once all rests are over."""
    step = next_step(desired, installed, failures, on_disk=on_disk, formats=formats, now=math.inf)
    return isinstance(step, Nothing)


def wanted_flavor(
    model: DesiredModel, active: ActiveModel | None, failures: Failures, *, formats: Container[Format]
) -> Flavor | None:
    """The flavor to install for a desired model; None where nothing better than what serves can be had."""
    for flavor in model.flavors:
        if flavor.format in formats and failures.refusal(model.model, model.version, flavor) is None:
            serves = active is not None and (active.version, active.digest) == (model.version, flavor.digest)
            return None if serves else flavor
    return None
