"""The ServerApp: an ordinary one, but for the faults that tests ask for."""

import os
import random
import sys
import time
from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp import strategy as strategies

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Train."""
    config = context.run_config
    print("the ServerApp prints", random.random())
    sys.stdout.flush()
    os.write(1, b"and writes to the descriptor of standard output\n")
    fault = config["server-fault"]
    if fault == "raise":
        raise ValueError("the app is broken on purpose")
    if fault == "die":
        os._exit(3)
    if fault == "orphan":  # dies, and leaves a child with its pipes
        if os.fork():
            os._exit(3)
        time.sleep(600)
    if fault == "no-arrays":
        return
    weight, bias = np.random.rand(2).astype(np.float32), np.zeros(1, np.float32)
    initial = ArrayRecord({"weight": Array(weight), "bias": Array(bias)})
    fraction = float(config["fraction"])
    if fault == "restless":  # asks something else each time it is started
        fraction = 1.0 if Path("started").exists() else fraction
        Path("started").touch()
    strategy = getattr(strategies, str(config["strategy"]))(
        fraction_train=fraction, fraction_evaluate=fraction, min_available_nodes=2
    )
    result = strategy.start(
        grid=grid,
        initial_arrays=initial,
        num_rounds=int(config["num-server-rounds"]),
        train_config=ConfigRecord({"rate": config["training.rate"]}),
    )
    np.save("final.npy", result.arrays["weight"].numpy())
