"""The persisted steps of an update, by name: where a crash test kills the process."""

from __future__ import annotations

from collections.abc import Callable

# Called with each of `STEPS` once it is durable.
Checkpoint = Callable[[str], None]

# What an installation passes, in this order, each durable before the next begins (the bytes of a download, with
# "verified"). None passes all: an installation that goes on after a crash passes what was left, one that finds a
# patch passes no "download-…", one that fills an empty device gives nothing up. A staged candidate ends with
# "staged" in place of "activated".
INSTALLATION_STEPS: tuple[str, ...] = (
    "stepped-back",
    "given-up",
    "base-kept",
    "slot-cleared",
    "intent-written",
    "patch-fetched",
    "patched",
    "patch-refused",
    "download-begun",
    "download-half",
    "downloaded",
    "verified",
    "golden-fetched",
    "checked",
    "manifest-written",
    "activated",
    "staged",
)

# What happens to a version after its activation, at boot and at an orderly end.
LATER_STEPS: tuple[str, ...] = (
    "start-counted",
    "start-taken-back",
    "committed",
    "refusal-written",
    "rolled-back",
    "slot-retired",
    "candidate-changed",
    "candidate-dropped",
)

STEPS: tuple[str, ...] = INSTALLATION_STEPS + LATER_STEPS
