"""Contexts on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward_server.client import (
    ClientError,
    Contexts,
    FleetContext,
    NotLoggedIn,
    exposed_file,
    load_contexts,
    persist_contexts,
)

if TYPE_CHECKING:
    from pathlib import Path

FLEET = FleetContext(address="edge.example.org:7443", ca_pem="-----BEGIN\nabc\n-----END\n", token="ewt_secret")

encodable = st.text().filter(lambda text: not any("\ud800" <= character <= "\udfff" for character in text))


def test_a_login_is_in_use_at_once(tmp_path: Path) -> None:
    """What was written is read, and is the current one."""
    persist_contexts(tmp_path / "new", Contexts().with_context("site", FLEET))
    assert load_contexts(tmp_path / "new").pick() == FLEET


def test_the_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    """It holds tokens."""
    persist_contexts(tmp_path, Contexts().with_context("site", FLEET))
    assert (tmp_path / "contexts.toml").stat().st_mode & 0o777 == 0o600


@given(text=encodable, path=encodable)
def test_any_text_survives_the_file(text: str, path: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Quotes, line breaks and control characters in a value are kept."""
    folder = tmp_path_factory.mktemp("contexts")
    contexts = Contexts().with_context("a", FleetContext(address="h:1", ca_pem=text, certificate_file=path))
    persist_contexts(folder, contexts)
    assert load_contexts(folder) == contexts


def test_without_a_login_the_error_says_how_to_log_in(tmp_path: Path) -> None:
    """The hint is the command."""
    with pytest.raises(NotLoggedIn, match="edgeward login"):
        load_contexts(tmp_path).pick()


def test_an_unknown_context_is_refused_with_the_known_ones() -> None:
    """A typing error is easy to mend."""
    with pytest.raises(NotLoggedIn, match="known are site"):
        Contexts().with_context("site", FLEET).pick("sight")


def test_removing_the_context_in_use_leaves_none_in_use() -> None:
    """No other fleet is operated by accident."""
    contexts = Contexts().with_context("b", FLEET).with_context("a", FLEET).without("a")
    with pytest.raises(NotLoggedIn, match="no context is in use"):
        contexts.pick()


@pytest.mark.parametrize(
    "content", ["not toml [", "contexts = 5", "[contexts.a]\naddress = 1\nca_pem = 2", "[contexts.a]\nunknown = 1"]
)
def test_a_damaged_file_is_one_clear_error(content: str, tmp_path: Path) -> None:
    """It names the file."""
    (tmp_path / "contexts.toml").write_text(content)
    with pytest.raises(ClientError, match=r"contexts\.toml can't be read"):
        load_contexts(tmp_path)


def test_a_file_that_others_may_read_is_found(tmp_path: Path) -> None:
    """One for its owner alone, or none, is fine."""
    assert exposed_file(tmp_path) is None
    persist_contexts(tmp_path, Contexts())
    assert exposed_file(tmp_path) is None
    (tmp_path / "contexts.toml").chmod(0o644)
    assert exposed_file(tmp_path) == tmp_path / "contexts.toml"
