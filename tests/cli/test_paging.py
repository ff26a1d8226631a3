"""Lists of devices that come in pages."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edgeward.v1 import fleet_pb2
from edgeward_server.client import whole_lists
from edgeward_server.wire.fleet import pages_of

_lists = st.lists(st.lists(st.sampled_from([10, 700_000]), max_size=6), max_size=3)


@given(_lists)
def test_a_watch_shows_whole_lists_only(watched: list[list[int]]) -> None:
    """However many pages each of them takes."""
    lists = [
        [fleet_pb2.Device(id=f"{number:016x}", name="edge", group="x" * size) for number, size in enumerate(sizes)]
        for sizes in watched
    ]
    answers = [page for devices in lists for page in pages_of(devices, after="")]
    assert list(whole_lists(answers)) == lists


def test_a_watch_that_breaks_off_shows_no_half_list() -> None:
    """The next watch begins with the whole list again."""
    half = fleet_pb2.ListDevicesResponse(devices=[fleet_pb2.Device(id="1")], next_page="edge/1")
    assert list(whole_lists([half])) == []
