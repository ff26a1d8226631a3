"""A demo from its first process to its last: errors as sentences, and nothing left running whatever happens."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from edgeward_server.client import ClientError
from edgeward_server.demo.processes import stop_recorded
from edgeward_server.demo.stage import COORDINATOR, DemoFailed, Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path
    from types import FrameType

    from edgeward_server.terminal.screen import Screen

_FAILED: Final = 1


def perform(
    play: Callable[[Stage], list[str]],
    *,
    folder: Path,
    keep: bool,
    screen: Screen,
    environment: Mapping[str, str],
) -> int:
    """Play a demo.

    Args:
        play: All of it; returns the promises that it broke, in sentences.
        folder: Where everything of it goes.
        keep: Leave the fleet running, if every promise was kept.
        screen: Where it is narrated.
        environment: Of the processes.

    Returns:
        0 if every promise was kept, else 1.
    """
    stage = Stage(folder, screen=screen, environment=environment)
    is_kept = False
    try:
        with _terminated_as_interrupt():
            stage.prepare()
            problems = play(stage)
            is_kept = keep and not problems
            for problem in problems:
                screen.note(f"error: {problem}", style="red")
            return _FAILED if problems else 0
    except (DemoFailed, ClientError) as error:
        stage.show_tails(error.logs if isinstance(error, DemoFailed) else [COORDINATOR])
        screen.note(f"error: {error}", style="red")
        return _FAILED
    finally:
        if not is_kept:
            stage.processes.stop_all()


def stop_demo(folder: Path, *, screen: Screen) -> None:
    """End what a demo with `--keep` left running."""
    stopped = stop_recorded(folder)
    screen.say(f"Ended {', '.join(stopped)}." if stopped else f"Nothing of a demo runs in {folder}.")


@contextmanager
def _terminated_as_interrupt() -> Iterator[None]:
    """Have SIGTERM clean up as Ctrl-C does."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    former = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)
