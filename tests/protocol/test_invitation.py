"""Invitations to a run, over the wire."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward.protocol.digests import digest_of
from edgeward.protocol.errors import WireError
from edgeward.protocol.state import RunInvitation
from edgeward.protocol.wire import invitation_from_message, invitation_to_message

_VALUES = st.one_of(st.text(), st.integers(), st.floats(allow_nan=False), st.booleans())


@given(st.dictionaries(st.text(), _VALUES, max_size=8))
def test_invitation_comes_back(run_config: dict[str, str | int | float | bool]) -> None:
    """The app's settings keep their values and their types."""
    invitation = RunInvitation(
        run_id="a" * 16,
        message_id="m",
        message_digest=digest_of(b"message"),
        message_bytes=7,
        bundle_digest=digest_of(b"bundle"),
        bundle_bytes=6,
        deadline=datetime(2026, 1, 1, 12, tzinfo=UTC),
        run_config=run_config,
    )
    returned = invitation_from_message(invitation_to_message(invitation))
    assert returned == invitation
    assert {key: type(value) for key, value in returned.run_config.items()} == {
        key: type(value) for key, value in run_config.items()
    }


@pytest.mark.parametrize("text", ["{", "[]", "3", '{"a": [1]}', '{"a": null}', '{"a": {"b": 1}}', "[" * 100_000])
def test_settings_that_are_none_are_refused(text: str) -> None:
    """Whatever is no flat object of text, numbers and booleans raises the one error."""
    message = invitation_to_message(
        RunInvitation(
            run_id="a" * 16,
            message_id="m",
            message_digest=digest_of(b"message"),
            message_bytes=7,
            bundle_digest=digest_of(b"bundle"),
            bundle_bytes=6,
            deadline=datetime(2026, 1, 1, 12, tzinfo=UTC),
        )
    )
    message.run_config_json = text
    with pytest.raises(WireError, match="settings"):
        invitation_from_message(message)
