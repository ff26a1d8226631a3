"""The ClientApp: adds 1, once the folder `gates` of its device holds a file named like the round."""

import time
from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Wait, note it, add 1."""
    number = str(message.content["config"]["server-round"])
    gates = Path(str(context.node_config["gates"]))
    while not (gates / number).exists():
        time.sleep(0.02)
    with (gates / "trained.txt").open("a") as notes:
        notes.write(f"{number}\n")
    (weight,) = message.content["arrays"].values()
    arrays = ArrayRecord({"weight": Array(weight.numpy() + np.float32(1))})
    return Message(RecordDict({"arrays": arrays, "metrics": MetricRecord({"num-examples": 1})}), reply_to=message)
