"""The configuration file and its command-line overrides."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward_agent.backoff import BackoffLimits
from edgeward_agent.config import (
    AgentConfig,
    Metered,
    QuietHours,
    UpdateSettings,
    load_config,
    parse_assignments,
    parse_config,
    parse_node_value,
)
from edgeward_agent.errors import Misuse

if TYPE_CHECKING:
    from pathlib import Path


def test_without_a_file_the_defaults_hold(tmp_path: Path) -> None:
    """A device needs no configuration."""
    assert load_config(tmp_path / "agent.toml") == AgentConfig()


def test_everything_can_be_set(tmp_path: Path) -> None:
    """Each key lands in its field, in its unit."""
    path = tmp_path / "agent.toml"
    path.write_text("""
        heartbeat_s = 5
        report_interval_s = 7.5
        resource_interval_s = 60
        outbox_max_bytes = 1000000
        worker_memory_bytes = 2000000000
        runtimes = ["tflite"]
        load_models = false
        refused_retry_s = 30
        shutdown_grace_s = 3
        [labels]
        site = "hall-3"
        [node_config]
        data-dir = "/data"
        partition-id = 3
        [backoff]
        maximum_s = 2
        [updates]
        quiet_hours = ["08:00-18:00", "22:30-24:00"]
        metered = "small"
        metered_max_bytes = 100000
        bandwidth_bytes_s = 50000
        [models]
        max_bytes = 300000000
    """)
    assert load_config(path) == AgentConfig(
        heartbeat=timedelta(seconds=5),
        report_interval=timedelta(seconds=7.5),
        resource_interval=timedelta(seconds=60),
        outbox_max_bytes=1_000_000,
        worker_memory_bytes=2_000_000_000,
        runtimes=("tflite",),
        load_models=False,
        refused_retry=timedelta(seconds=30),
        shutdown_grace=timedelta(seconds=3),
        labels={"site": "hall-3"},
        node_config={"data-dir": "/data", "partition-id": 3},
        backoff=BackoffLimits(initial_s=0.5, maximum_s=2),
        updates=UpdateSettings(
            quiet_hours=(
                QuietHours(start_minute=480, end_minute=1080),
                QuietHours(start_minute=1350, end_minute=1440),
            ),
            metered=Metered.SMALL,
            metered_max_bytes=100_000,
            bandwidth_bytes_s=50_000,
        ),
        models_max_bytes=300_000_000,
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("heartbeats_s = 5", "unknown key 'heartbeats_s'.*known are"),
        ("heartbeat_s = 0", "'heartbeat_s' takes a number of seconds above 0, not 0"),
        ("heartbeat_s = true", "not True"),
        ('heartbeat_s = "5"', "not '5'"),
        ("heartbeat_s = nan", "not nan"),
        ("outbox_max_bytes = 1.5", "a whole number of bytes"),
        ('runtimes = "tflite"', "'runtimes' takes a list of onnx"),
        ('runtimes = ["tensorrt"]', "'runtimes' takes a list of onnx"),
        ("runtimes = []", "'runtimes' takes a list of onnx"),
        ("load_models = 1", "true or false"),
        ("labels = {site = 3}", "a table of texts"),
        ("node_config = {list = [1]}", "texts, numbers and booleans"),
        ("backoff = {limit = 1}", "a table of initial_s, maximum_s"),
        ("backoff = {initial_s = 3, maximum_s = 2}", "initial_s up to maximum_s"),
        ("heartbeat_s = ", "is no TOML"),
        ("updates = 1", "'updates' takes a table of bandwidth_bytes_s, metered, metered_max_bytes, quiet_hours"),
        ("[updates]\nquiet = 1", "updates.quiet is unknown; known are bandwidth_bytes_s"),
        ('[updates]\nquiet_hours = "08:00-18:00"', "updates.quiet_hours takes a list of times such as"),
        ('[updates]\nquiet_hours = ["8-18"]', "updates.quiet_hours takes a list of times"),
        ('[updates]\nquiet_hours = ["08:00"]', "updates.quiet_hours takes a list of times"),
        ('[updates]\nquiet_hours = ["08:00-08:00"]', "updates.quiet_hours takes a list of times"),
        ('[updates]\nquiet_hours = ["08:00-24:01"]', "updates.quiet_hours takes a list of times"),
        ('[updates]\nquiet_hours = ["24:00-08:00"]', "updates.quiet_hours takes a list of times"),
        ('[updates]\nquiet_hours = ["08:60-09:00"]', "updates.quiet_hours takes a list of times"),
        ('[updates]\nquiet_hours = ["0٨:00-09:00"]', "updates.quiet_hours takes a list of times"),
        ('[updates]\nmetered = "sometimes"', "updates.metered takes one of allow, small, never, not 'sometimes'"),
        ("[updates]\nbandwidth_bytes_s = 0", "updates.bandwidth_bytes_s takes a whole number of bytes above 0"),
        ("[models]\nmax_bytes = 1.5", "models.max_bytes takes a whole number of bytes"),
        ("[models]\nmin_bytes = 1", "models.min_bytes is unknown; known are max_bytes"),
    ],
)
def test_what_can_not_be_is_named(text: str, message: str) -> None:
    """The key, what it takes and what it got."""
    with pytest.raises(Misuse, match=message):
        parse_config(text)


@given(st.text())
def test_arbitrary_text_is_a_configuration_or_misuse(text: str) -> None:
    """Nothing else comes out."""
    try:
        parse_config(text)
    except Misuse:
        return


def test_assignments_split_at_the_first_equals_sign() -> None:
    """A value may hold one."""
    assert parse_assignments(["a=1", "b=x=y", "c="], what="--label") == {"a": "1", "b": "x=y", "c": ""}


@pytest.mark.parametrize("text", ["a", "=1", " =1"])
def test_an_assignment_needs_a_name_and_an_equals_sign(text: str) -> None:
    """The option is named."""
    with pytest.raises(Misuse, match="--label takes NAME=VALUE"):
        parse_assignments([text], what="--label")


@pytest.mark.parametrize(
    ("text", "value"),
    [("3", 3), ("0.5", 0.5), ("true", True), ("/data/a b", "/data/a b"), ('"3"', "3"), ("[1]", "[1]"), ("", "")],
)
def test_node_values_are_read_as_toml_where_they_can_be(text: str, value: object) -> None:
    """So that numbers reach training code as numbers."""
    parsed = parse_node_value(text)
    assert parsed == value
    assert type(parsed) is type(value)
