"""What a name may be: of a device, a group, an operator.

Names appear in paths of URLs, in shells and in tables on screens, so they hold
letters, digits, dot, underscore and hyphen only.
"""

from __future__ import annotations

import re

from edgeward_coordinator.errors import InvalidArgument

MAX_CHARACTERS = 64

_NAME = re.compile(rf"[A-Za-z0-9._-]{{1,{MAX_CHARACTERS}}}")


def verify_name(text: str, *, of: str) -> None:
    """Check a name.

    Args:
        text: The name.
        of: What it names, for the message: "a device".

    Raises:
        InvalidArgument: It is empty, too long, or holds other characters.
    """
    if _NAME.fullmatch(text) is None:
        shown = text if len(text) <= MAX_CHARACTERS else text[:MAX_CHARACTERS] + "…"
        raise InvalidArgument(
            f"{shown!r} can't name {of}",
            hint=f"a name is 1 to {MAX_CHARACTERS} of the letters A-Z and a-z, digits, '.', '_' and '-'",
        )
