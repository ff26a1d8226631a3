"""One bad device must not end a run, nor poison what the others learned."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward.protocol.errors import WireError
from edgeward_coordinator.aggregation import RunState
from tests import flower_messages as flower
from tests.coordinator.aggregation.fleet import APPS, Fleet, Site, deliver, end_of
from tests.waiting import wait_until_async

with warnings.catch_warnings():  # Flower's own imports warn
    warnings.simplefilter("ignore")
    from edgeward_coordinator.aggregation.serverapp_replies import (
        ReplyRejected,
        decode_reply,
        find_misfits,
        weighted_metrics,
    )
    from edgeward_coordinator.aggregation.serverapp_strategies import Expectations

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edgeward.protocol.state import RunInvitation

FLOWERS = Expectations(averages=True, is_own=False)
OWN = Expectations(averages=True, is_own=True)
FREE = Expectations()
SENT = flower.RecordDict({"arrays": flower.arrays(w=np.zeros(3, np.float32))})


def _reply(values: Any = (1.0, 2.0, 3.0), *, names: tuple[str, ...] = ("w",), **metrics: Any) -> Any:
    arrays = flower.arrays(**{name: np.asarray(values, np.float32) for name in names})
    return flower.reply_with({"arrays": arrays, "metrics": flower.MetricRecord({"num-examples": 2, **metrics})})


_GOOD = {"a": _reply(loss=1.0), "b": _reply(loss=2.0)}

_MISFITS = [
    pytest.param(_reply([1, 2, np.nan], loss=1.0), "holds NaN or infinity", id="NaN"),
    pytest.param(_reply([1, 2, np.inf], loss=1.0), "holds NaN or infinity", id="infinity"),
    pytest.param(_reply([1.0], loss=1.0), r"has shape \[1\], sent was \[3\]", id="broadcasting shape"),
    pytest.param(_reply(names=("w", "x"), loss=1.0), "other names", id="extra array"),
    pytest.param(_reply(names=("x",), loss=1.0), "other names", id="missing array"),
    pytest.param(_reply(loss=1.0, extra=1.0), "another form", id="extra metric"),
    pytest.param(_reply(), "another form", id="missing metric"),
    pytest.param(_reply(loss=[1.0, 2.0]), "another form", id="list for a number"),
    pytest.param(
        flower.reply_with({"metrics": flower.MetricRecord({"num-examples": 2, "loss": 1.0})}),
        "other names",
        id="no arrays",
    ),
]


@pytest.mark.parametrize("needs", [pytest.param(FLOWERS, id="Flower's"), pytest.param(OWN, id="app's own")])
@pytest.mark.parametrize(("bad", "reason"), _MISFITS)
def test_misfit_is_dropped_with_its_reason(bad: Any, reason: str, needs: Expectations) -> None:
    """Under an averaging strategy a reply of another form than most is dropped, and no other is."""
    found = find_misfits({**_GOOD, "bad": bad}, dict.fromkeys(["a", "b", "bad"], SENT), needs)
    assert found.keys() == {"bad"}
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(found["bad"])


@pytest.mark.parametrize("weight", [-1, float("nan"), float("inf")], ids=str)
def test_weight_that_is_none_is_dropped(weight: float) -> None:
    """A weight below 0, or one that is no number, does not count."""
    bad = _reply(loss=1.0)
    bad.content["metrics"]["num-examples"] = weight
    assert find_misfits({**_GOOD, "bad": bad}, dict.fromkeys(["a", "b", "bad"], SENT), FLOWERS).keys() == {"bad"}


def test_replies_that_all_weigh_nothing_are_dropped() -> None:
    """A sum of weights of 0 would divide by zero in the strategy."""
    idle = _reply(loss=1.0)
    idle.content["metrics"]["num-examples"] = 0
    assert find_misfits({"a": idle, "b": idle}, {"a": SENT, "b": SENT}, FLOWERS).keys() == {"a", "b"}


def test_one_reply_that_weighs_nothing_stays() -> None:
    """A device without examples is harmless among others."""
    idle = _reply(loss=1.0)
    idle.content["metrics"]["num-examples"] = 0
    assert find_misfits({**_GOOD, "idle": idle}, dict.fromkeys(["a", "b", "idle"], SENT), FLOWERS) == {}


def test_lone_reply_of_another_shape_is_dropped() -> None:
    """Even a round's only reply can't change the shape of what Flower's own strategies average."""
    assert find_misfits({"bad": _reply([1.0])}, {"bad": SENT}, FLOWERS).keys() == {"bad"}


def test_app_that_aggregates_itself_may_change_shapes() -> None:
    """Where most replies differ from what was sent, an app with its own aggregation means it."""
    replies = {"a": _reply([1.0], loss=1.0), "b": _reply([1.0, 2.0], loss=1.0)}
    assert find_misfits(replies, {"a": SENT, "b": SENT}, OWN) == {}


def test_app_without_a_strategy_sees_replies_as_they_are() -> None:
    """What an app that talks to the grid itself gets differs as it likes."""
    replies = {"a": _reply([1.0]), "b": _reply(names=("x", "y"), more=1)}
    assert find_misfits(replies, {"a": SENT, "b": SENT}, FREE) == {}


def test_metrics_of_a_round_are_weighted() -> None:
    """The mean counts examples; their sum stands beside it; what is no number is left out."""
    replies = {"a": _reply(loss=1.0, bad=float("nan")), "b": _reply(loss=4.0)}
    replies["b"].content["metrics"]["num-examples"] = 4
    assert weighted_metrics(replies, "num-examples") == {"loss": 3.0, "num-examples": 6.0}


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_rejected(data: bytes) -> None:
    """Whatever a device sends raises the one error."""
    with pytest.raises(ReplyRejected):
        decode_reply(data, run=1, message_id="m", node=17)


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"run_id": 99}, id="another run's"),
        pytest.param({"reply_to_message_id": "other"}, id="to another message"),
        pytest.param({"src_node_id": 99}, id="of another node"),
    ],
)
def test_reply_to_something_else_is_rejected(fields: dict[str, Any]) -> None:
    """A reply counts only for what this device was asked."""
    about = {"run_id": 1, "reply_to_message_id": "m", "src_node_id": 17}
    good = flower.with_metadata(flower.encode(_reply()), **about)
    assert decode_reply(good, run=1, message_id="m", node=17).has_content()
    with pytest.raises(ReplyRejected, match="it answers"):
        decode_reply(flower.with_metadata(good, **fields), run=1, message_id="m", node=17)


def _change_record(record: str, change: Callable[[Any], None]) -> Callable[[bytes], bytes]:
    return lambda reply: flower.with_content(reply, lambda content: change(content[record]))


_TAMPERINGS: list[Callable[[bytes], bytes]] = [
    lambda _reply: b"garbage" * 20,
    lambda reply: reply[: len(reply) // 2],
    lambda reply: flower.with_metadata(reply, run_id=1),
    lambda reply: flower.with_metadata(reply, reply_to_message_id="another"),
    lambda reply: flower.as_error(reply, "broken"),
    _change_record("metrics", lambda metrics: metrics.update({"extra": 1.0})),
    _change_record("metrics", lambda metrics: metrics.update({"num-examples": -5})),
    _change_record("metrics", lambda metrics: metrics.pop("num-examples")),
]


async def test_run_with_hostile_devices_learns_from_the_others(site: Site, tmp_path: Path) -> None:
    """Eight hostile devices are dropped in every round; what comes out is what the nine honest ones alone make."""
    devices = tuple(f"{0x100 + number:016x}" for number in range(17))
    hostile = dict(zip(devices[9:], _TAMPERINGS, strict=True))
    fleet = Fleet(APPS / "mean_app", devices=devices)
    fleet.tamper = lambda device, _, reply: hostile[device](reply) if device in hostile else reply
    async with site.coordinator(fleet) as runs:
        record = await end_of(runs, site.start(runs, fleet, rounds=2, min_devices=17))
    assert (record.state, record.error) == (RunState.FINISHED, "")
    assert [(entry.answered, entry.failed) for entry in record.rounds_log] == [(9, 8)] * 4
    honest_site, honest = Site(tmp_path / "honest"), Fleet(APPS / "mean_app", devices=devices[:9])
    async with honest_site.coordinator(honest) as runs:
        await end_of(runs, honest_site.start(runs, honest, rounds=2, min_devices=9))
    for name, array in honest_site.learned("mean").items():
        # Not to the same bits: a sample of 17 has another order, and sums follow it.
        np.testing.assert_allclose(site.learned("mean")[name], array, rtol=1e-6)


async def test_second_reply_to_a_message_changes_nothing(site: Site) -> None:
    """The first reply that arrived is the reply; another one is taken and forgotten."""
    fleet = Fleet(APPS / "mean_app", held={Fleet.devices[2]})
    async with site.coordinator(fleet) as runs:
        site.start(runs, fleet, rounds=1)
        first = fleet.devices[0]
        await wait_until_async(lambda: any(one.endswith(first) for one in fleet.acknowledged))
        invitation: RunInvitation = next(one for one in fleet.invitations.values() if one.message_id.endswith(first))
        call = site.run_folder(invitation.run_id) / "calls" / "000001"
        kept = (call / "replies" / f"{first}.bin").read_bytes()
        deliver(runs, first, invitation, b"another reply")
        assert (call / "replies" / f"{first}.bin").read_bytes() == kept
        assert list((call / "incoming").iterdir()) == []


async def test_reply_with_other_bytes_than_announced_is_refused(site: Site) -> None:
    """Bytes that do not have the announced digest are no reply, and the message stays open."""
    fleet = Fleet(APPS / "mean_app", held=set(Fleet.devices))
    async with site.coordinator(fleet) as runs:
        site.start(runs, fleet, rounds=1)
        await wait_until_async(lambda: len(fleet.invitations) == 3)
        invitation = next(iter(fleet.invitations.values()))
        device = invitation.message_id.split("-")[2]
        partial = runs.begin_reply(device, invitation.run_id, invitation.message_id, invitation.message_digest, 4)
        partial.append(0, b"junk")
        with pytest.raises(WireError, match="SHA-256"):
            partial.commit()
        runs.finish_reply(device, invitation.run_id, invitation.message_id)
        assert [one.message_id for one in runs.pending_invitations(device)] == [invitation.message_id]
