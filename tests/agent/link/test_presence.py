"""Online or not, and since when."""

from __future__ import annotations

from edgeward_agent.link import Presence, Traffic


class Time:
    """Seconds that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Now."""
        return self.now


def test_seconds_without_a_session_are_counted_once() -> None:
    """From the start on, across takes, and not while a session is open."""
    time = Time()
    presence = Presence(time)
    time.now = 10
    assert presence.take_offline_s() == 10
    time.now = 15
    presence.set_online()
    time.now = 100
    assert presence.take_offline_s() == 5
    assert presence.is_online
    presence.set_offline()
    presence.set_offline()
    time.now = 103
    assert presence.take_offline_s() == 3
    assert presence.take_offline_s() == 0
    assert not presence.is_online


def test_traffic_is_taken_once() -> None:
    """What was taken is in the telemetry."""
    traffic = Traffic()
    traffic.received_bytes += 3
    traffic.sent_bytes += 4
    assert traffic.take() == (3, 4)
    assert traffic.take() == (0, 0)
