"""A device's part: train on its own digits, and say how well the shared model reads them."""

from __future__ import annotations

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from digits.task import Floats, Integers, Net, evaluate, load_partition, train

app = ClientApp()


@app.train()
def train_on_device(message: Message, context: Context) -> Message:
    """Train the model that came on this device's images."""
    config = context.run_config
    images, _, labels, _ = _my_partition(context)
    net = _load(message)
    loss = train(
        net,
        images,
        labels,
        epochs=int(config["local-epochs"]),
        learning_rate=float(config["learning-rate"]),
        batch_size=int(config["batch-size"]),
        seed=_seed(message, context),
    )
    metrics = MetricRecord({"train_loss": loss, "num-examples": len(images)})
    content = RecordDict({"arrays": ArrayRecord(net.state_dict()), "metrics": metrics})
    return Message(content=content, reply_to=message)


@app.evaluate()
def evaluate_on_device(message: Message, context: Context) -> Message:
    """Evaluate the model that came on the images that this device keeps out of its training."""
    _, images, _, labels = _my_partition(context)
    loss, accuracy = evaluate(_load(message), images, labels)
    metrics = MetricRecord({"eval_loss": loss, "eval_acc": accuracy, "num-examples": len(images)})
    return Message(content=RecordDict({"metrics": metrics}), reply_to=message)


def _load(message: Message) -> Net:
    net = Net()
    net.load_state_dict(message.content["arrays"].to_torch_state_dict())
    return net


def _my_partition(context: Context) -> tuple[Floats, Floats, Integers, Integers]:
    node, config = context.node_config, context.run_config
    return load_partition(
        int(node["partition-id"]),
        int(node["num-partitions"]),
        float(config["dirichlet-alpha"]),
        int(config["seed"]),
    )


def _seed(message: Message, context: Context) -> int:
    """One for each device and round, so that a round that runs twice gives the same arrays."""
    server_round = int(message.content["config"]["server-round"])
    parts = [int(context.run_config["seed"]), int(context.node_config["partition-id"]), server_round]
    return int(np.random.SeedSequence(parts).generate_state(1)[0])
