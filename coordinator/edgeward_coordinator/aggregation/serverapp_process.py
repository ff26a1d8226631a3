"""The process that runs one run's ServerApp: `python -m edgeward_coordinator.aggregation.serverapp_process FOLDER`.

Started by the server, with pipes as standard input and output. They are moved
away before any code of the app is imported, so that what the app prints goes to
the run's log. It ends with `result.json` or `failure.json` written; ending
without either means that it died, and that starting it again is right.
"""

from __future__ import annotations

import fcntl
import logging
import os
import random
import resource
import sys
import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from flwr.app import Context, RecordDict
from flwr.serverapp import ServerApp
from flwr.supercore.object_ref import load_app
from flwr.supercore.task_identity import TaskIdentity

from edgeward.durable import write_atomic
from edgeward.protocol.tensors import encode_tensors
from edgeward_coordinator.aggregation.journal import RunFolder
from edgeward_coordinator.aggregation.serverapp_calls import Calls
from edgeward_coordinator.aggregation.serverapp_channel import Channel, RunStopped, end_with_the_server
from edgeward_coordinator.aggregation.serverapp_grid import FleetGrid
from edgeward_coordinator.aggregation.serverapp_population import PopulationSource
from edgeward_coordinator.aggregation.serverapp_strategies import StrategyWatch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flwr.app import ArrayRecord
    from flwr.serverapp.strategy import Result

    from edgeward_coordinator.aggregation.records import RunSpec

COORDINATOR_NODE = 1
"""Flower's node id of the server side; no device has it."""

_NICENESS = 5

logger = logging.getLogger("edgeward")


class ResultKeeper:
    """Keeps the newest Result of the app's strategies; its arrays on disk, at once."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._note = "the app returned no arrays"
        self._has_arrays = False
        self._metrics: dict[str, Any] = {}

    def keep(self, result: Result) -> None:
        """A strategy has ended."""
        self._metrics = {
            name: {str(number): dict(record) for number, record in getattr(result, name).items()}
            for name in ("train_metrics_clientapp", "evaluate_metrics_clientapp", "evaluate_metrics_serverapp")
        }
        if not result.arrays:
            return
        try:
            data = encode_tensors(_named_arrays(result.arrays))
        except (TypeError, ValueError) as error:
            self._note = f"the app's arrays can't be kept: {error}"
            return
        write_atomic(self._folder.arrays, data)
        self._has_arrays, self._note = True, ""

    def summary(self) -> dict[str, Any]:
        """For result.json."""
        return {"has_arrays": self._has_arrays, "note": self._note, "metrics": self._metrics}


def run_app(folder: RunFolder, spec: RunSpec, channel: Channel) -> dict[str, Any]:
    """Run the ServerApp to its end, from the journal as far as that reaches.

    Returns:
        The content of result.json.

    Raises:
        RunStopped: The server said so.
        Exception: Whatever the app raises.
    """
    _seed(spec.seed)
    keeper = ResultKeeper(folder)
    watch = StrategyWatch(on_result=keeper.keep)
    watch.install()
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = spec.number, COORDINATOR_NODE, spec.number
    calls = Calls(folder, spec, channel)
    population = PopulationSource(channel, min_devices=spec.min_devices)
    grid = FleetGrid(
        run=spec.number, calls=calls, population=population, pulls=folder.pulls(), expectations=watch.expectations
    )
    context = Context(
        run_id=spec.number,
        node_id=COORDINATOR_NODE,
        node_config={},
        state=RecordDict(),
        run_config=dict(spec.run_config),
    )
    app = load_app(spec.serverapp, ImportError, folder.app)
    if not isinstance(app, ServerApp):
        raise TypeError(f"{spec.serverapp} is a {type(app).__name__}, not a flwr.serverapp.ServerApp")
    _seed_torch(spec.seed)
    try:
        app(grid=grid, context=context)
    except SystemExit as end:
        if end.code:
            raise
    return keeper.summary()


def main() -> int:
    """Run the run whose folder is the argument."""
    folder = RunFolder(Path(sys.argv[1]))
    channel = _take_over_pipes()
    os.nice(_NICENESS)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _log_to_stderr()
    spec = folder.read_spec()
    if spec is None:
        raise FileNotFoundError(f"{folder.path} holds no run.json")
    with _only_process(folder):
        channel.start()
        try:
            folder.write_result(run_app(folder, spec, channel))
        except RunStopped:
            return 0
        except (Exception, SystemExit) as error:  # noqa: BLE001  the outermost frame: the app's own failure is the run's
            traceback.print_exc()
            folder.write_failure(_describe(error))
            return 1
    return 0


def _log_to_stderr() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s: %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


def _take_over_pipes() -> Channel:
    """Keep the pipes; from here on standard output is the log and standard input is empty."""
    reader = os.fdopen(os.dup(0), "rb")
    writer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return Channel(reader, writer, on_end=end_with_the_server)


@contextmanager
def _only_process(folder: RunFolder) -> Iterator[None]:
    """Wait until the process of a server that was killed is gone: it notices, and two must not write."""
    with folder.lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)  # what apps draw from is this global generator


def _seed_torch(seed: int) -> None:
    torch = sys.modules.get("torch")  # only where the app brought it; torch's own default seed is fixed, too
    if torch is not None:
        torch.manual_seed(seed)


def _named_arrays(record: ArrayRecord) -> dict[str, np.ndarray[Any, Any]]:
    return {name: array.numpy() for name, array in record.items()}


def _describe(error: BaseException) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1:]
    where = f" ({Path(last[0].filename).name}:{last[0].lineno})" if last else ""
    return f"{type(error).__name__}: {error}{where}"[:2000]


if __name__ == "__main__":
    status = main()
    logging.shutdown()
    sys.stderr.flush()
    # Threads that the app left behind must not keep the process.
    os._exit(status)
