"""What a device's owner allows, and when."""

from __future__ import annotations

from datetime import datetime

import pytest

from edgeward_agent.config import UpdateSettings, parse_config
from edgeward_agent.reconcile.allowance import why_wait

WAIT = "wait for an unmetered one"


def at(clock: str) -> datetime:
    """A time of the day."""
    return datetime.fromisoformat(f"2026-03-04T{clock}")


def settings(text: str) -> UpdateSettings:
    """As in `[updates]` of agent.toml."""
    return parse_config(f"[updates]\n{text}").updates


@pytest.mark.parametrize(
    ("hours", "clock", "reason"),
    [
        ("[]", "12:00", ""),
        ('["08:00-18:00"]', "07:59:59", ""),
        ('["08:00-18:00"]', "08:00", "quiet hours until 18:00"),
        ('["08:00-18:00"]', "17:59:59", "quiet hours until 18:00"),
        ('["08:00-18:00"]', "18:00", ""),
        ('["22:00-06:30"]', "23:00", "quiet hours until 06:30"),
        ('["22:00-06:30"]', "00:00", "quiet hours until 06:30"),
        ('["22:00-06:30"]', "06:30", ""),
        ('["22:00-24:00"]', "23:59", "quiet hours until 00:00"),
        ('["22:00-24:00", "00:00-06:00"]', "23:00", "quiet hours until 06:00"),
        ('["06:00-12:00", "08:00-18:00"]', "07:00", "quiet hours until 18:00"),
        ('["08:00-12:00", "13:00-18:00"]', "09:00", "quiet hours until 12:00"),
        ('["08:00-12:00", "13:00-18:00"]', "12:30", ""),
        ('["00:00-24:00"]', "12:00", "quiet hours all day"),
        ('["08:00-20:00", "20:00-08:00"]', "12:00", "quiet hours all day"),
    ],
)
def test_quiet_hours(hours: str, clock: str, reason: str) -> None:
    """From their beginning until just before their end, around midnight and one after another."""
    assert why_wait(settings(f"quiet_hours = {hours}"), total_bytes=10, is_metered=False, now=at(clock)) == reason


@pytest.mark.parametrize(
    ("policy", "total_bytes", "is_metered", "reason"),
    [
        ('metered = "allow"', 1 << 30, True, ""),
        ('metered = "never"', 1, False, ""),
        ('metered = "never"', 12_900_000, True, f"metered link: 12.3 MiB {WAIT}"),
        ('metered = "never"', 0, True, "metered link: downloads wait for an unmetered one"),
        ('metered = "small"\nmetered_max_bytes = 1000', 1000, True, ""),
        ('metered = "small"\nmetered_max_bytes = 1000', 0, True, ""),
        (
            'metered = "small"\nmetered_max_bytes = 1000',
            1 << 20,
            True,
            "metered link: 1.0 MiB wait for an unmetered one",
        ),
    ],
)
def test_metered_links(policy: str, total_bytes: int, is_metered: bool, reason: str) -> None:  # noqa: FBT001
    """By what the owner allows and how large the download is; one of unknown size may be looked into."""
    found = why_wait(settings(policy), total_bytes=total_bytes, is_metered=is_metered, now=at("12:00"))
    assert found == reason


def test_quiet_hours_come_before_the_link() -> None:
    """They end at a time that can be told."""
    both = settings('quiet_hours = ["08:00-18:00"]\nmetered = "never"')
    assert why_wait(both, total_bytes=5, is_metered=True, now=at("12:00")) == "quiet hours until 18:00"
