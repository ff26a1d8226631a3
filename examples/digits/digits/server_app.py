"""The coordinator's part: plain federated averaging, watched on digits that no device has."""

from __future__ import annotations

import torch
from flwr.app import ArrayRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from digits.task import Net, evaluate, held_out

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run all rounds and save the model."""
    config = context.run_config
    torch.manual_seed(int(config["seed"]))
    strategy = FedAvg(fraction_train=1.0, fraction_evaluate=1.0)
    result = strategy.start(
        grid=grid,
        initial_arrays=ArrayRecord(Net().state_dict()),
        num_rounds=int(config["num-server-rounds"]),
        evaluate_fn=evaluate_held_out,
    )
    torch.save(result.arrays.to_torch_state_dict(), "final_model.pt")


def evaluate_held_out(_server_round: int, arrays: ArrayRecord) -> MetricRecord:
    """How well the averaged model reads the held-out digits."""
    net = Net()
    net.load_state_dict(arrays.to_torch_state_dict())
    loss, accuracy = evaluate(net, *held_out())
    return MetricRecord({"held_out_loss": loss, "held_out_acc": accuracy})
