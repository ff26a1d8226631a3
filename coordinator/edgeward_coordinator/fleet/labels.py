"""Labels: `key=value` on a device, said by the device itself or set by operators, whose word wins.

Operators' labels are kept apart, so that what a device says at its next session
undoes none of them; an empty value among them hides the device's own label.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from edgeward_coordinator.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_LABELS = 64
MAX_VALUE_CHARACTERS = 128

_KEY = re.compile(r"[A-Za-z0-9._/-]{1,64}")


def verify_labels(labels: Mapping[str, str]) -> None:
    """Check labels that somebody asks for.

    Raises:
        InvalidArgument: Too many, or one can't be a label.
    """
    if len(labels) > MAX_LABELS:
        raise InvalidArgument(f"{len(labels)} labels; a device has at most {MAX_LABELS}")
    for key, value in labels.items():
        if not _is_label(key, value):
            raise InvalidArgument(
                f"{key[:70]}={value[:140]} can't be a label",
                hint="a key is 1 to 64 letters, digits, '.', '_', '-' or '/',"
                f" a value at most {MAX_VALUE_CHARACTERS} printable characters",
            )


def acceptable_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """What can be labels of those that a device says: a mistyped one must not keep it off the fleet."""
    good = [(key, value) for key, value in labels.items() if value and _is_label(key, value)]
    return dict(good[:MAX_LABELS])


def combined_labels(own: Mapping[str, str], set_by_operators: Mapping[str, str]) -> dict[str, str]:
    """What counts.

    >>> combined_labels({"room": "1", "rack": "a"}, {"room": "2", "rack": ""})
    {'room': '2'}
    """
    return {key: value for key, value in {**own, **set_by_operators}.items() if value}


def changed_labels(
    own: Mapping[str, str], set_by_operators: Mapping[str, str], changes: Mapping[str, str]
) -> dict[str, str]:
    """Operators' labels after `changes`, in which an empty value removes a label.

    Raises:
        InvalidArgument: They would be too many.
    """
    merged = {**set_by_operators, **changes}
    result = {key: value for key, value in merged.items() if value or key in own}
    verify_labels(result)
    return result


def has_labels(labels: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    """Whether `labels` has all that is wanted."""
    return all(labels.get(key) == value for key, value in wanted.items())


def _is_label(key: str, value: str) -> bool:
    return _KEY.fullmatch(key) is not None and len(value) <= MAX_VALUE_CHARACTERS and value.isprintable()
