"""The calls that are being answered now, so that they can be ended from outside.

A device that is revoked is out in the middle of whatever it does; an operator
likewise; endless streams end when the server stops. Ending is a cancellation
of the call's task that comes out of here as an error with words.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edgeward_coordinator.errors import CoordinatorError


@dataclass(slots=True, eq=False)
class RunningCall:
    """One call.

    Attributes:
        task: Which answers it.
        endless: Only its client or the server's stop ends it.
        recheck: Asks (in a thread) whether the caller may still call; raises where not.
        ending: Why it is being ended.
    """

    task: asyncio.Task[object]
    endless: bool
    recheck: Callable[[], object] | None = None
    ending: CoordinatorError | None = None

    def end(self, error: CoordinatorError) -> None:
        """Make the call fail with `error` at its next await; the first reason stays."""
        if self.ending is None:
            self.ending = error
            self.task.cancel()


class RunningCalls:
    """By whoever makes them: a device under its id. On the event loop only."""

    def __init__(self) -> None:
        self._calls: defaultdict[str, set[RunningCall]] = defaultdict(set)

    @contextmanager
    def of(self, owner: str, *, endless: bool) -> Iterator[RunningCall]:
        """Count this task's call among the owner's while the block runs.

        Raises:
            CoordinatorError: What `end` was called with.
        """
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a call is counted by the task that answers it")
        call = RunningCall(task=task, endless=endless)
        self._calls[owner].add(call)
        try:
            yield call
        except asyncio.CancelledError:
            # As asyncio.timeout does it: a cancellation that is ours alone becomes the error, any other stays one.
            if call.ending is None or task.uncancel() > 0:
                raise
            raise call.ending from None
        finally:
            self._forget(owner, call)

    def count(self) -> int:
        """How many calls are running."""
        return sum(len(calls) for calls in self._calls.values())

    def owners(self) -> set[str]:
        """Whoever has calls running."""
        return set(self._calls)

    def rechecks(self) -> list[tuple[RunningCall, Callable[[], object]]]:
        """The endless calls whose callers can be asked about again, and how."""
        endless = [call for calls in self._calls.values() for call in calls if call.endless]
        return [(call, call.recheck) for call in endless if call.recheck is not None]

    def end(self, owner: str, error: CoordinatorError) -> int:
        """End all calls of `owner`; says how many there were."""
        return self._end(self._calls.get(owner, set()), error)

    def end_endless(self, error: CoordinatorError) -> int:
        """End everybody's endless calls; says how many there were."""
        return self._end({call for calls in self._calls.values() for call in calls if call.endless}, error)

    def _end(self, calls: set[RunningCall], error: CoordinatorError) -> int:
        for call in calls:
            call.end(error)
        return len(calls)

    def _forget(self, owner: str, call: RunningCall) -> None:
        calls = self._calls[owner]
        calls.discard(call)
        if not calls:
            del self._calls[owner]
