"""Where learning keeps its files, and the order in which they are written.

    learning/bundles/<digest>.zip    the training code as it came
    learning/apps/<digest>/          the same, unpacked
    learning/runs/<run>/
        run.json                     the app's settings in this run, and the device's
        messages/<id>.bin            what the device was asked
        replies/<id>.bin             what it answers; removed once the coordinator has it
        answered/<id>                marks those, so that no message is trained for twice
        states/<id>.bin, state.bin   the app's own state, Flower's Context.state
        home/  tmp/                  HOME and working folder, and TMPDIR, of the training code

A reply and the state that belongs to it must count together. The state is
written first, under the message's name; the reply's rename is the commit; then
the state takes its place. `recover` completes what a kill interrupted.
"""

from __future__ import annotations

import json
import re
import shutil
from typing import TYPE_CHECKING, Any

from edgeward.durable import fsync_folder, write_atomic
from edgeward.protocol.bundle import unpack_bundle

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime, timedelta
    from pathlib import Path

    from edgeward.protocol.digests import Digest
    from edgeward.protocol.state import ConfigValue

_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")


def is_safe_name(text: str) -> bool:
    """Whether an id from the coordinator may become the name of a file."""
    return _SAFE_NAME.fullmatch(text) is not None


class RunFiles:
    """The files of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.home = path / "home"
        self.temporary = path / "tmp"
        self.state = path / "state.bin"

    def prepare(
        self, *, bundle: Digest, run_config: Mapping[str, ConfigValue], node_config: Mapping[str, ConfigValue]
    ) -> None:
        """Make the folders; complete what a kill interrupted."""
        for name in ("messages", "replies", "answered", "states", "home", "tmp"):
            (self.path / name).mkdir(parents=True, exist_ok=True)
        document = {"bundle": bundle, "run_config": dict(run_config), "node_config": dict(node_config)}
        write_atomic(self.path / "run.json", json.dumps(document).encode())
        self.recover()

    def settings(self) -> dict[str, Any]:
        """What `prepare` was given."""
        document: dict[str, Any] = json.loads((self.path / "run.json").read_bytes())
        return document

    def message(self, message_id: str) -> Path:
        """What the device was asked."""
        return self.path / "messages" / f"{message_id}.bin"

    def reply(self, message_id: str) -> Path:
        """What it answers."""
        return self.path / "replies" / f"{message_id}.bin"

    def is_answered(self, message_id: str) -> bool:
        """Whether the coordinator has the reply."""
        return (self.path / "answered" / message_id).exists()

    def write_reply(self, message_id: str, reply: bytes, state: bytes | None) -> None:
        """Durable on return, both or neither; a state of None stays as it was."""
        pending = self.path / "states" / f"{message_id}.bin"
        if state is not None:
            write_atomic(pending, state)
        write_atomic(self.reply(message_id), reply)
        if state is not None:
            pending.replace(self.state)
            fsync_folder(self.path)

    def recover(self) -> None:
        """A state whose reply was written counts; one without is of work that must be done again."""
        for pending in sorted((self.path / "states").glob("*.bin")):
            if self.reply(pending.stem).exists() or self.is_answered(pending.stem):
                pending.replace(self.state)
            else:
                pending.unlink()

    def settle(self, message_id: str) -> None:
        """The coordinator has the reply."""
        (self.path / "answered" / message_id).touch()
        fsync_folder(self.path / "answered")
        self.drop(message_id)

    def drop(self, message_id: str) -> None:
        """The message is of no more use."""
        self.reply(message_id).unlink(missing_ok=True)
        self.message(message_id).unlink(missing_ok=True)


class LearningFiles:
    """The files of all runs, and the training code that they share."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def run(self, run_id: str) -> RunFiles:
        """The files of one run."""
        return RunFiles(self._path / "runs" / run_id)

    def bundle(self, digest: Digest) -> Path:
        """Where a bundle arrives."""
        folder = self._path / "bundles"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{digest}.zip"

    def app(self, digest: Digest) -> Path:
        """The training code of a bundle; there once it was unpacked."""
        return self._path / "apps" / digest

    def unpack(self, digest: Digest) -> Path:
        """Unpack a bundle that has arrived; whole or not at all.

        Raises:
            WireError: It is no bundle.
        """
        app = self.app(digest)
        if not app.is_dir():
            partial = app.with_name(f"{digest}.part")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            unpack_bundle(self.bundle(digest).read_bytes(), partial)
            partial.replace(app)
            fsync_folder(app.parent)
        return app

    def remove_run(self, run_id: str) -> None:
        """Nothing more will come for it."""
        shutil.rmtree(self.run(run_id).path, ignore_errors=True)
        self._remove_unused_code()

    def remove_stale(self, *, now: datetime, unused_for: timedelta) -> None:
        """Remove runs of which nothing was heard for long: their end was told while the device was away."""
        for path in self._folders("runs"):
            told = path / "run.json"
            if not told.exists() or now.timestamp() - told.stat().st_mtime > unused_for.total_seconds():
                shutil.rmtree(path, ignore_errors=True)
        self._remove_unused_code()

    def _remove_unused_code(self) -> None:
        runs = [RunFiles(path) for path in self._folders("runs") if (path / "run.json").exists()]
        used = {run.settings()["bundle"] for run in runs}
        for path in [*self._folders("apps"), *self._folders("bundles")]:
            if path.name.split(".")[0] not in used:
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _folders(self, name: str) -> list[Path]:
        folder = self._path / name
        return sorted(folder.iterdir()) if folder.is_dir() else []
