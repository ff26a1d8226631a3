"""An app's pyproject.toml, and its settings in a run."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward_coordinator.aggregation.app_settings import fuse_config, parse_app_settings, rounds_in
from edgeward_coordinator.errors import InvalidArgument
from tests.coordinator.aggregation.fleet import APPS

_PYPROJECT = (APPS / "mean_app" / "pyproject.toml").read_text()


def test_settings_are_flower_s_own() -> None:
    """Nested tables are flattened as Flower itself does it."""
    with warnings.catch_warnings():  # Flower's own imports warn
        warnings.simplefilter("ignore")
        from flwr.common.config import get_fused_config_from_dir
    assert parse_app_settings(_PYPROJECT).config == get_fused_config_from_dir(APPS / "mean_app", {})


def test_app_is_described() -> None:
    """Name, components and model come from where an app says them."""
    app = parse_app_settings(_PYPROJECT)
    assert (app.name, app.model) == ("mean-app", "mean")
    assert (app.serverapp, app.clientapp) == ("mean_app.server_app:app", "mean_app.client_app:app")


def test_model_is_the_app_where_none_is_named() -> None:
    """Without a table of ours the model has the project's name."""
    assert parse_app_settings((APPS / "pull_app" / "pyproject.toml").read_text()).model == "pull-app"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        pytest.param("= 1", "can't be read", id="no TOML"),
        pytest.param("[project]\nname = 'x'", "no serverapp in", id="no Flower app"),
        pytest.param(_PYPROJECT.replace('name = "mean-app"', ""), r"no name in \[project\]", id="no name"),
        pytest.param("tool = 3", r"\[tool.flwr", id="no table"),
        pytest.param(_PYPROJECT.replace("fraction = 1.0", "fraction = [1]"), "'fraction' is neither", id="a list"),
    ],
)
def test_pyproject_of_no_app_is_refused(text: str, complaint: str) -> None:
    """What is missing is said, with where it belongs."""
    with pytest.raises(InvalidArgument, match=complaint):
        parse_app_settings(text)


@given(st.text(max_size=60))
def test_arbitrary_pyproject_raises_the_one_error(text: str) -> None:
    """Whatever stands in it."""
    with pytest.raises(InvalidArgument):
        parse_app_settings(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [("3", 3), ("0.5", 0.5), ("true", True), ('"words and = signs"', "words and = signs")],
    ids=["int", "float", "bool", "text"],
)
def test_override_is_toml(text: str, value: Any) -> None:
    """An override is a TOML value."""
    fused = fuse_config({"a": 1, "b": 2}, {"a": text})
    assert fused == {"a": value, "b": 2}
    assert type(fused["a"]) is type(value)


@pytest.mark.parametrize("text", ["half", "", "[1]", "1\nb = 3", "2020-01-01", "{}"], ids=repr)
def test_override_that_is_no_value_is_refused(text: str) -> None:
    """Anything but one value of a kind that Flower knows."""
    with pytest.raises(InvalidArgument, match="no value for the setting 'a'"):
        fuse_config({"a": 1, "b": 2}, {"a": text})


def test_rounds_override_the_setting() -> None:
    """The number of rounds is a setting like another, and the app must have it."""
    assert rounds_in(fuse_config({"num-server-rounds": 3}, {}, rounds=5)) == 5
    with pytest.raises(InvalidArgument, match="no setting 'num-server-rounds'; its settings are: rounds"):
        fuse_config({"rounds": 3}, {}, rounds=5)
