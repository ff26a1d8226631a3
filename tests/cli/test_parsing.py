"""What an operator types for values."""

from __future__ import annotations

import tomllib
from contextlib import suppress
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward_server.cli.parsing import (
    as_toml_value,
    parse_duration,
    parse_model_reference,
    parse_pair,
    parse_positive_duration,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("15m", 900), ("1h", 3600), ("30d", 2_592_000), ("1h30m", 5400), ("1d1h1m1s", 90_061), ("0.5s", 0.5)],
)
def test_a_duration_is_read(text: str, seconds: float) -> None:
    """Days, hours, minutes and seconds add up."""
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "5", "5y", "m", "1m1h", "-5s", "1 h", "٣s", "40000d", "9" * 400 + "d"])
def test_what_is_no_duration_is_refused_with_the_forms_that_are(text: str) -> None:
    """Nothing else is guessed at."""
    with pytest.raises(ValueError, match=r"duration|century"):
        parse_duration(text)


@given(st.text(max_size=30))
def test_any_text_is_a_duration_or_a_value_error(text: str) -> None:
    """Nothing else leaves the parser."""
    with suppress(ValueError):
        assert parse_duration(text) >= timedelta()


def test_nothing_is_no_lifetime() -> None:
    """A token of zero seconds is a typing error."""
    with pytest.raises(ValueError, match="nothing"):
        parse_positive_duration("0s")


@given(st.text(min_size=1).filter(lambda key: "=" not in key), st.text())
def test_a_pair_is_split_at_its_first_equals_sign(key: str, value: str) -> None:
    """Values may hold more of them, and be empty."""
    assert parse_pair(f"{key}={value}") == (key, value)


@pytest.mark.parametrize("text", ["", "key", "=value"])
def test_what_is_no_pair_is_refused(text: str) -> None:
    """A pair needs a key and an equals sign."""
    with pytest.raises(ValueError, match="KEY=VALUE"):
        parse_pair(text)


@pytest.mark.parametrize(("text", "name", "version"), [("digits", "digits", 0), ("digits:3", "digits", 3)])
def test_a_model_reference_is_read(text: str, name: str, version: int) -> None:
    """Without a version the newest is meant."""
    reference = parse_model_reference(text)
    assert (reference.name, reference.version) == (name, version)


@pytest.mark.parametrize("text", ["", ":3", "digits:", "digits:0", "digits:-1", "digits:x", "digits:" + "9" * 5000])
def test_what_names_no_model_is_refused(text: str) -> None:
    """Versions are numbers from 1 on."""
    with pytest.raises(ValueError, match="names no model"):
        parse_model_reference(text)


@pytest.mark.parametrize("text", ["0.1", "3", "true", '"text"', "[1, 2]"])
def test_a_toml_value_stays_as_it_is(text: str) -> None:
    """Who writes TOML gets TOML."""
    assert as_toml_value(text) == text


@given(st.text().filter(lambda text: not any("\ud800" <= character <= "\udfff" for character in text)))
def test_whatever_is_typed_becomes_one_toml_value(text: str) -> None:
    """A value can't bring a second setting along."""
    assert list(tomllib.loads(f"value = {as_toml_value(text)}")) == ["value"]
