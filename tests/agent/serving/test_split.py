"""Tests of `edgeward_agent.serving.split`."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward_agent.serving.split import is_in_share, key_of_inputs

if TYPE_CHECKING:
    from edgeward.protocol.tensors import Array

KEYS = [f"device-{number}" for number in range(4000)]
SHARES = st.floats(0, 1)


@given(st.text(), SHARES, SHARES)
def test_who_is_in_a_share_is_in_every_larger_one(key: str, one: float, other: float) -> None:
    """Nobody changes sides when it grows."""
    small, large = sorted((one, other))
    assert is_in_share("digits", key, small) <= is_in_share("digits", key, large)


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 1.0])
def test_a_share_is_about_as_large_as_it_says(share: float) -> None:
    """Within four standard deviations of a binomial."""
    count = sum(is_in_share("digits", key, share) for key in KEYS)
    assert abs(count - share * len(KEYS)) <= 4 * (len(KEYS) * share * (1 - share)) ** 0.5


def test_models_are_split_apart() -> None:
    """The same few keys are not the candidates' of all models."""
    both = sum(is_in_share("a", key, 0.5) and is_in_share("b", key, 0.5) for key in KEYS)
    assert abs(both - len(KEYS) / 4) < 200


def test_the_split_is_the_same_in_every_process() -> None:
    """It hangs on no seed of the interpreter's."""
    script = (
        "from edgeward_agent.serving.split import is_in_share\n"
        "print([is_in_share('digits', f'k{n}', 0.5) for n in range(50)])"
    )
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert output.strip() == str([is_in_share("digits", f"k{number}", 0.5) for number in range(50)])


def test_a_key_may_be_bytes_or_text() -> None:
    """The same key in UTF-8."""
    assert is_in_share("digits", "é", 0.5) == is_in_share("digits", "é".encode(), 0.5)


def test_the_inputs_are_a_key() -> None:
    """The same whatever their layout in memory; another for other names, dtypes, shapes and values."""
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    key = key_of_inputs({"x": x})
    assert key_of_inputs({"x": np.asfortranarray(x)}) == key
    others: list[dict[str, Array]] = [
        {"y": x},
        {"x": x.astype(np.float64)},
        {"x": x.reshape(3, 2)},
        {"x": x + 1},
        {"x": x, "y": x},
        {},
    ]
    assert len({key, *(key_of_inputs(other) for other in others)}) == len(others) + 1
