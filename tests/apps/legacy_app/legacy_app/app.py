"""Both sides."""

from typing import Any

import numpy as np
from flwr.app import Context
from flwr.client import Client, NumPyClient
from flwr.clientapp import ClientApp
from flwr.server import ServerAppComponents, ServerConfig
from flwr.server.strategy import FedAvg
from flwr.serverapp import ServerApp


class Adder(NumPyClient):
    """Adds one."""

    def get_parameters(self, config: dict[str, Any]) -> list[Any]:
        """Where it begins."""
        return [np.zeros(2)]

    def fit(self, parameters: list[Any], config: dict[str, Any]) -> tuple[list[Any], int, dict[str, Any]]:
        """One step."""
        return [array + 1 for array in parameters], 1, {}

    def evaluate(self, parameters: list[Any], config: dict[str, Any]) -> tuple[float, int, dict[str, Any]]:
        """How far it is."""
        return float(parameters[0].sum()), 1, {}


def _client(context: Context) -> Client:
    return Adder().to_client()


def _server(context: Context) -> ServerAppComponents:
    rounds = int(context.run_config["num-server-rounds"])
    return ServerAppComponents(strategy=FedAvg(), config=ServerConfig(num_rounds=rounds))


client = ClientApp(client_fn=_client)
server = ServerApp(server_fn=_server)
