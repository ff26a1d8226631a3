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

from edgeward_agent.artifacts import models_on_disk, pointer_stamp, read_active
from edgeward_agent.errors import Misuse
from edgeward_agent.serving.errors import InvalidInput, ServingError, UnknownModel
from edgeward_agent.serving.served import Served, load_served
from edgeward_agent.state_dir import StateDir
from edgeward_agent.telemetry import Outbox, Recorder
from edgeward_compression.runtimes import InputError, ModelError

if TYPE_CHECKING:
    from types import TracebackType

    from edgeward.protocol.model import Format, Signature
    from edgeward.protocol.tensors import Array
    from edgeward_agent.artifacts import PointerStamp

_LOG = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0
FLUSH_EVERY_S = 10.0

_CLOSE_WITHIN_S = 10.0


class Agent:
    """Thread-safe; close it, or use it as a context manager. Open it after forking, not before.

    What was predicted is counted in memory and written every `flush_every_s` and
    by `close`: a process that is killed loses the counts since the last writing,
    and nothing else. No state of the disk ever fails or delays a prediction.

    Args:
        state_dir: The state directory of the device's agent.
        runtimes: The runtime for a format, where it should not be the best one that is installed.
        record: Whether to count what is predicted.
        look_every_s: How often activations are looked for.
        flush_every_s: How often counts are written.
    """

    def __init__(
        self,
        state_dir: Path,
        *,
        runtimes: Mapping[Format, str] | None = None,
        record: bool = True,
        look_every_s: float = LOOK_EVERY_S,
        flush_every_s: float = FLUSH_EVERY_S,
    ) -> None:
        paths = StateDir(Path(state_dir))
        self._models = paths.models
        self._runtimes = dict(runtimes or {})
        self._outbox = Outbox(paths.outbox) if record else None
        self._recorder = Recorder(self._outbox.append, clock=_now) if self._outbox else None
        self._look_every_s = look_every_s
        self._flush_every_s = flush_every_s
        self._served: dict[str, Served] = {}
        self._failed: dict[str, PointerStamp | None] = {}
        self._loading = Lock()
        self._closed = Event()
        self._upkeep: Thread | None = None

    def predict(self, model: str, inputs: Array | Mapping[str, Array]) -> dict[str, Array]:
        """Run the version of a model that serves now.

        Args:
            model: Its name.
            inputs: An array for each input by name; where the model has one input, the array alone. Of the
                signature's dtypes and shapes: nothing is cast.

        Returns:
            Each output by name.

        Raises:
            UnknownModel: Nothing of this name serves here.
            InvalidInput: The inputs don't fit; the message says what the model takes.
            ServingError: The model can't be loaded, or the runtime failed.
        """
        served = self._enter(model)
        started = time.perf_counter()
        rows = None
        try:
            named = _named(served, inputs)
            outputs = served.predict(named)
            rows = _row_count(served.signature, named)
            return outputs
        except InputError as error:
            raise InvalidInput(f"{_title(served)}: {error}") from error
        except ModelError as error:
            raise ServingError(f"{_title(served)} failed: {error}") from error
        finally:
            self._count(served, rows, time.perf_counter() - started)
            served.leave()

    def refresh(self) -> None:
        """Make this process serve what serves on the device now: every model, loaded, warmed, then swapped in.

        Requests that are running end on the version on which they began. Without a call, models that are in use
        follow by themselves within `look_every_s`.

        Raises:
            ServingError: One could not be loaded; what it served before it goes on serving, and the others have
                been refreshed.
        """
        self._refresh({*models_on_disk(self._models), *self._served}, again=True)

    def close(self) -> None:
        """Let running requests end, write the counts, free the models; twice is once."""
        self._closed.set()
        if self._upkeep is not None:
            self._upkeep.join()
        with self._loading:
            retired = list(self._served.values())
            self._served = {}
        for served in retired:
            served.retire()
        for served in retired:
            served.wait_idle(_CLOSE_WITHIN_S)
        self._flush()
        if self._outbox is not None:
            self._outbox.close()

    def __enter__(self) -> Agent:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _enter(self, model: str) -> Served:
        """What serves, entered; loaded where this is the first use."""
        while True:
            served = self._served.get(model) or self._load(model)
            if served.enter():
                return served

    def _load(self, model: str) -> Served:
        with self._loading:
            if self._closed.is_set():
                raise Misuse("the agent is closed", hint="open another one")
            if self._upkeep is None:
                self._upkeep = Thread(target=self._keep_up, name="edgeward agent upkeep", daemon=True)
                self._upkeep.start()
            served = self._served.get(model)
            if served is None:
                served = load_served(self._models / model, self._runtimes) if model in self._known() else None
                if served is None:
                    raise self._unknown(model)
                self._served = {**self._served, model: served}
            return served

    def _refresh(self, models: set[str], *, again: bool) -> None:
        """Bring these up to date; one whose present activation could not be loaded is tried only `again`."""
        problems: list[str] = []
        with self._loading:
            for model in sorted(models) if not self._closed.is_set() else ():
                before = self._served.get(model)
                stamp = pointer_stamp(self._models / model)
                if before is not None and before.stamp == stamp:
                    continue
                if not again and model in self._failed and self._failed[model] == stamp:
                    continue
                try:
                    after = load_served(self._models / model, self._runtimes)
                except (ServingError, OSError) as error:
                    self._failed[model] = stamp
                    problems.append(str(error))
                    continue
                self._failed.pop(model, None)
                self._swap(model, before, after)
        if problems:
            raise ServingError("; ".join(problems))

    def _swap(self, model: str, before: Served | None, after: Served | None) -> None:
        others = {name: served for name, served in self._served.items() if name != model}
        self._served = others if after is None else {**others, model: after}
        if after is not None:
            _LOG.info("%s serves", _title(after))
        if before is not None:
            before.retire()

    def _keep_up(self) -> None:
        flush_due = time.monotonic() + self._flush_every_s
        while not self._closed.wait(self._look_every_s):
            try:
                self._refresh(set(self._served), again=False)
            except ServingError as error:
                _LOG.error("%s", error)
            except Exception:  # noqa: BLE001 - the outermost frame of this thread
                _LOG.exception("the models could not be refreshed")
            if time.monotonic() >= flush_due:
                self._flush()
                flush_due = time.monotonic() + self._flush_every_s

    def _count(self, served: Served, rows: int | None, seconds: float) -> None:
        if self._recorder is not None:
            active = served.active
            self._recorder.count(
                active.model, active.version, active.flavor, rows=rows or 0, seconds=seconds, failed=rows is None
            )

    def _flush(self) -> None:
        if self._recorder is not None:
            self._recorder.flush()

    def _known(self) -> list[str]:
        return models_on_disk(self._models)

    def _unknown(self, model: str) -> UnknownModel:
        known = [name for name in self._known() if read_active(self._models / name) is not None]
        hint = f"what serves here: {', '.join(known)}" if known else f"no model serves from {self._models.parent} yet"
        return UnknownModel(f"no model {model!r} serves on this device", hint=hint)


def _named(served: Served, inputs: Array | Mapping[str, Array]) -> dict[str, Array]:
    specs = served.signature.inputs
    if isinstance(inputs, Mapping):
        return {name: np.asarray(array) for name, array in inputs.items()}
    if len(specs) != 1:
        names = ", ".join(spec.name for spec in specs)
        raise InvalidInput(f"{_title(served)} takes {len(specs)} inputs ({names}), got one array without a name")
    return {specs[0].name: np.asarray(inputs)}


def _row_count(signature: Signature, inputs: Mapping[str, Array]) -> int:
    """How many rows were answered: the leading axis, unless the model has none that is one."""
    if not signature.inputs:
        return 1
    spec = signature.inputs[0]
    array = inputs[spec.name]
    has_rows = array.ndim > 1 or (array.ndim == 1 and spec.shape[0] is None)
    return int(array.shape[0]) if has_rows else 1


def _title(served: Served) -> str:
    return f"{served.active.model} version {served.active.version} ({served.active.flavor})"


def _now() -> datetime:
    return datetime.now(UTC)
