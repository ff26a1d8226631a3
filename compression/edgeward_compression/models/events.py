"""What a compression job tells its parent: one JSON object a line, on a stdout that nobody else can write to."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from typing import IO, TYPE_CHECKING

from edgeward.protocol.model import signature_to_json

if TYPE_CHECKING:
    from pathlib import Path

    from edgeward.protocol.model import Signature
    from edgeward_compression.models.evaluate import Evaluation
    from edgeward_compression.models.flavors import Recipe


class Events:
    """The lines, in the order of what happens."""

    def __init__(self, out: IO[str]) -> None:
        self._out = out

    def activity(self, text: str) -> None:
        """What goes on now, for a person to read."""
        self._write({"event": "activity", "text": text})

    def flavor(self, recipe: Recipe, *, file: Path, golden: Path, signature: Signature, evaluation: Evaluation) -> None:
        """A flavor is made, checked and measured; its files are told by their names in the output folder."""
        self._write(
            {
                "event": "flavor",
                "name": recipe.name,
                "format": recipe.format,
                "precision": recipe.precision,
                "file": file.name,
                "golden": golden.name,
                "signature": signature_to_json(signature),
                "evaluation": asdict(evaluation),
            }
        )

    def skipped(self, name: str, reason: str) -> None:
        """A flavor can't be made; the others go on."""
        self._write({"event": "skipped", "name": name, "reason": reason})

    def failed(self, error: str) -> None:
        """The job is over."""
        self._write({"event": "failed", "error": error})

    def _write(self, event: dict[str, object]) -> None:
        self._out.write(json.dumps(event) + "\n")
        self._out.flush()


def take_stdout() -> Events:
    """Keep the real stdout for events; what libraries print, from C too, goes to stderr from now on."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return Events(out)
