"""The in-process API: `Agent(state_dir).predict(model, inputs)`, with or without a network, with or without a daemon.

Any number of processes may each have an Agent on one state directory. Each loads
a model at its first use, follows activations by a look at the pointer file, and
counts what it answers into the device's outbox.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING

import numpy as np

from edgeward.protocol.errors import WireError
from edgeward.protocol.model import parse_model_name
from edgeward.protocol.state import CandidateMode
from edgeward_agent.errors import Misuse
from edgeward_agent.serving.answer import Answer
from edgeward_agent.serving.errors import InvalidInput, ServingError
from edgeward_agent.serving.lineup import Loader
from edgeward_agent.serving.roster import Roster
from edgeward_agent.serving.shadow import Shadow
from edgeward_agent.serving.split import is_in_share, key_of_inputs
from edgeward_agent.state_dir import StateDir
from edgeward_agent.telemetry import Outbox, Recorder
from edgeward_compression.runtimes import InputError, ModelError

if TYPE_CHECKING:
    from collections.abc import Collection
    from types import TracebackType

    from edgeward.protocol.model import Format, Signature
    from edgeward.protocol.tensors import Array
    from edgeward_agent.serving.answer import Arm
    from edgeward_agent.serving.lineup import Beside, Lineup
    from edgeward_agent.serving.served import Served

_LOG = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0
FLUSH_EVERY_S = 10.0

_CLOSE_WITHIN_S = 10.0


class Agent:
    """Thread-safe; close it, or use it as a context manager. Open it after forking, not before.

    What was predicted is counted in memory and written every `flush_every_s` and
    by `close`: a process that is killed loses the counts since the last writing,
    and nothing else. No state of the disk ever fails or delays a prediction, nor
    does a candidate. Inputs that don't fit are the caller's error and are not
    counted at all.

    Args:
        state_dir: The state directory of the device's agent.
        runtimes: The runtime for a format, where it should not be the best one that is installed.
        formats: Those that may be loaded; None: all that have a runtime.
        record: Whether to count what is predicted. Without it this process is no witness in a probation either.
        look_every_s: How often activations are looked for, and what is seen of a version on trial is told.
        flush_every_s: How often counts are written.
    """

    def __init__(
        self,
        state_dir: Path,
        *,
        runtimes: Mapping[Format, str] | None = None,
        formats: Collection[Format] | None = None,
        record: bool = True,
        look_every_s: float = LOOK_EVERY_S,
        flush_every_s: float = FLUSH_EVERY_S,
    ) -> None:
        paths = StateDir(Path(state_dir))
        self._outbox = Outbox(paths.outbox) if record else None
        self._recorder = Recorder(self._outbox.append if self._outbox else _forget, clock=_now)
        loader = Loader(
            paths.models, runtimes=dict(runtimes or {}), formats=formats, trials=paths.trials if record else None
        )
        self._roster = Roster(paths.models, loader)
        self._shadow = Shadow(self._recorder)
        self._look_every_s = look_every_s
        self._flush_every_s = flush_every_s
        self._starting = Lock()
        self._closed = Event()
        self._upkeep: Thread | None = None

    def predict(self, model: str, inputs: Array | Mapping[str, Array]) -> dict[str, Array]:
        """The outputs of `answer`, each by name; it takes and raises the same."""
        return self.answer(model, inputs).outputs

    def answer(self, model: str, inputs: Array | Mapping[str, Array], *, key: str | bytes | None = None) -> Answer:
        """Run the version of a model that serves now, or in an A/B test the one that this request falls to.

        Args:
            model: Its name.
            inputs: An array for each input by name; where the model has one input, the array alone. Of the
                signature's dtypes and shapes: nothing is cast.
            key: Whom or what the request is about: in an A/B test, the same key always falls to the same version.
                None: the inputs themselves are the key.

        Returns:
            The outputs, and which version they are of.

        Raises:
            UnknownModel: Nothing of this name serves here.
            InvalidInput: The inputs don't fit; the message says what the model takes.
            ServingError: The model can't be loaded, or the runtime failed.
        """
        if self._upkeep is None:
            self._start_upkeep()
        lineup = self._roster.enter(model)
        try:
            beside = lineup.candidate
            if beside is None:
                return self._run(lineup.served, inputs)
            return self._answer_beside(lineup, beside, inputs, key)
        finally:
            lineup.served.leave()

    def feedback(self, model: str, *, version: int, labelled: int, correct: int, flavor: str = "") -> None:
        """Say how good answers were whose truth is known by now; in memory, written as other counts are.

        Args:
            model: Its name.
            version: Which gave the answers (`Answer.version`).
            labelled: For how many of its rows a label came back.
            correct: How many of these were right.
            flavor: Which gave the answers, if it matters.

        Raises:
            Misuse: Numbers that can't be.
        """
        if version < 1 or not 0 <= correct <= labelled:
            raise Misuse(
                f"feedback on version {version}: {correct} right of {labelled} labelled",
                hint="give a version from 1 and 0 <= correct <= labelled",
            )
        try:
            parse_model_name(model)
        except WireError as error:
            raise Misuse(str(error)) from error
        if self._upkeep is None:
            self._start_upkeep()
        self._recorder.count_labels(model, version, flavor, labelled=labelled, correct=correct)

    def refresh(self) -> None:
        """Make this process serve what serves on the device now: every model, loaded, warmed, then swapped in.

        Requests that are running end on the version on which they began. Without a call, models that are in use
        follow by themselves within `look_every_s`.

        Raises:
            ServingError: One could not be loaded; what it served before it goes on serving, and the others have
                been refreshed.
        """
        if self._upkeep is None:
            self._start_upkeep()
        self._roster.follow(everything=True)

    def close(self) -> None:
        """Let running requests end, write the counts, free the models; twice is once."""
        with self._starting:
            self._closed.set()
        if self._upkeep is not None:
            self._upkeep.join()
        self._shadow.close(_CLOSE_WITHIN_S)
        self._roster.close(_CLOSE_WITHIN_S)
        self._recorder.flush()
        if self._outbox is not None:
            self._outbox.close()

    def __enter__(self) -> Agent:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, served: Served, inputs: Array | Mapping[str, Array], arm: Arm = "active") -> Answer:
        """One call of one version, between its `enter` and `leave`, counted; inputs that don't fit are no call."""
        named = _named(served, inputs)
        started = time.perf_counter()
        try:
            outputs = served.predict(named)
        except InputError as error:
            # The caller's own: nothing that callers send may send a version back.
            raise InvalidInput(f"{served.title}: {error}") from error
        except Exception as error:
            self._count(served, None, time.perf_counter() - started)
            if isinstance(error, ModelError):
                raise ServingError(f"{served.title} failed: {error}") from error
            raise
        self._count(served, _row_count(served.signature, named), time.perf_counter() - started)
        active = served.active
        return Answer(outputs=outputs, model=active.model, version=active.version, flavor=active.flavor, arm=arm)

    def _answer_beside(
        self, lineup: Lineup, beside: Beside, inputs: Array | Mapping[str, Array], key: str | bytes | None
    ) -> Answer:
        if beside.mode is CandidateMode.AB:
            answer = self._answer_of_candidate(beside, inputs, key)
            return answer if answer is not None else self._run(lineup.served, inputs)
        answer = self._run(lineup.served, inputs)
        named = _named(lineup.served, inputs)
        rows = _row_count(lineup.served.signature, named)
        self._shadow.ask(lineup.served, beside.served, named, answer.outputs, rows)
        return answer

    def _answer_of_candidate(
        self, beside: Beside, inputs: Array | Mapping[str, Array], key: str | bytes | None
    ) -> Answer | None:
        """The candidate's answer; None where the request is not its, or it failed, which counts against it.

        Inputs that don't fit it count for nothing; the version that serves says what it takes.
        """
        candidate = beside.served
        try:
            place = key if key is not None else key_of_inputs(_named(candidate, inputs))
        except InvalidInput:
            return None
        if not is_in_share(candidate.active.model, place, beside.share) or not candidate.enter():
            return None
        try:
            return self._run(candidate, inputs, "candidate")
        except Exception as error:  # noqa: BLE001 - no request is lost to a candidate, whatever it raises
            _LOG.debug("the candidate %s failed: %s", candidate.title, error)
            return None
        finally:
            candidate.leave()

    def _count(self, served: Served, rows: int | None, seconds: float) -> None:
        active = served.active
        failed = rows is None
        self._recorder.count(
            active.model, active.version, active.flavor, rows=rows or 0, seconds=seconds, failed=failed
        )
        served.count(rows=rows or 0, failed=failed)

    def _start_upkeep(self) -> None:
        with self._starting:
            if self._closed.is_set():
                raise Misuse("the agent is closed", hint="open another one")
            if self._upkeep is None:
                self._upkeep = Thread(target=self._keep_up, name="edgeward agent upkeep", daemon=True)
                self._upkeep.start()

    def _keep_up(self) -> None:
        flush_due = time.monotonic() + self._flush_every_s
        while not self._closed.wait(self._look_every_s):
            try:
                self._roster.follow()
            except ServingError as error:
                _LOG.error("%s", error)
            except Exception:  # noqa: BLE001 - the outermost frame of this thread
                _LOG.exception("the models could not be refreshed")
            erred = self._tell_trials()
            if erred or time.monotonic() >= flush_due:
                self._recorder.flush()
                flush_due = time.monotonic() + self._flush_every_s

    def _tell_trials(self) -> bool:
        """Write what was seen of versions on trial; whether one of them has failed since the last time."""
        trials = [served.trial for lineup in self._roster.in_memory() for served in lineup.all()]
        erred = [trial.write() for trial in trials if trial is not None]
        return any(erred)


def _named(served: Served, inputs: Array | Mapping[str, Array]) -> dict[str, Array]:
    specs = served.signature.inputs
    if isinstance(inputs, Mapping):
        return {name: np.asarray(array) for name, array in inputs.items()}
    if len(specs) != 1:
        names = ", ".join(spec.name for spec in specs)
        raise InvalidInput(f"{served.title} takes {len(specs)} inputs ({names}), got one array without a name")
    return {specs[0].name: np.asarray(inputs)}


def _row_count(signature: Signature, inputs: Mapping[str, Array]) -> int:
    """How many rows were answered: the leading axis, unless the model has none that is one."""
    if not signature.inputs:
        return 1
    spec = signature.inputs[0]
    array = inputs[spec.name]
    has_rows = array.ndim > 1 or (array.ndim == 1 and spec.shape[0] is None)
    return int(array.shape[0]) if has_rows else 1


def _forget(_record: object) -> None:
    """Keep nothing."""


def _now() -> datetime:
    return datetime.now(UTC)
