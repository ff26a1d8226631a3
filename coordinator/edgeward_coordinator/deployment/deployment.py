"""A deployment, and how many devices follow it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeward.protocol.state import ModelState

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from edgeward.protocol.state import ReportedModel, ReportedState


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """A group runs a version of a model.

    Of the `devices` in the group that are not revoked, `serving` report that the
    version serves and `failed` that it can't; the others are on their way, or
    have not been heard since.

    `release` is the generation of the last decision to run the version,
    `generation` that of the last change of what devices are told: which flavors
    are signed is no decision, so what devices refused stays refused.
    """

    group: str
    model: str
    version: int
    generation: int
    release: int
    created_at: datetime
    created_by: str
    devices: int = 0
    serving: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Followers:
    """The counts of one deployment."""

    devices: int
    serving: int
    failed: int


def count_followers(
    model: str, version: int, reports: Iterable[ReportedState | None], *, release: int = 0
) -> Followers:
    """Count from what the devices of a group last reported; None for a device that never has.

    A failure under an older release than `release` does not count: the device is about to try again.
    """
    of_model = [_reported(model, report) for report in reports]
    return Followers(
        devices=len(of_model),
        serving=sum(each is not None and each.version == version for each in of_model),
        failed=sum(each is not None and _failed(each, version, release) for each in of_model),
    )


def _reported(model: str, report: ReportedState | None) -> ReportedModel | None:
    models = report.models if report else ()
    return next((each for each in models if each.model == model), None)


def _failed(reported: ReportedModel, version: int, release: int) -> bool:
    wanted_in_vain = reported.state is ModelState.FAILED and reported.wanted_version == version
    return wanted_in_vain and reported.version != version and reported.release >= release
