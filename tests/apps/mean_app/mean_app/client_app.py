"""The ClientApp: a step towards a target that differs from device to device."""

import os
import time
from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


def _target(context: Context) -> float:
    return float(context.node_config["partition-id"]) + 1.0


def _fail_on_purpose(context: Context) -> None:
    fault = context.run_config["client-fault"]
    if fault == "raise":
        raise ValueError("the client is broken on purpose")
    if fault == "crash" and not Path("crashed").exists():
        Path("crashed").touch()
        print("the last words of the client", flush=True)
        os.abort()
    if fault == "orphan" and not Path("crashed").exists():  # dies, and leaves a child with its pipes
        Path("crashed").touch()
        if os.fork():
            os.abort()
        time.sleep(600)
    if fault == "hang":
        time.sleep(600)


@app.train()
def train(message: Message, context: Context) -> Message:
    """One step."""
    print("the ClientApp prints")
    _fail_on_purpose(context)
    rate = np.float32(message.content["config"]["rate"])
    steps = context.state["steps"]["count"] + 1 if "steps" in context.state else 1
    context.state["steps"] = MetricRecord({"count": steps})
    target = np.float32(_target(context))
    arrays = {
        name: Array(np.asarray(array.numpy() + rate * (target - array.numpy()), dtype=np.float32))
        for name, array in message.content["arrays"].items()
    }
    metrics = MetricRecord({"num-examples": int(_target(context)), "steps": steps, "loss": 1.0 / steps})
    return Message(RecordDict({"arrays": ArrayRecord(arrays), "metrics": metrics}), reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """How far it still is."""
    far = float(np.abs(message.content["arrays"]["weight"].numpy() - _target(context)).mean())
    metrics = MetricRecord({"num-examples": int(_target(context)), "distance": far})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)
