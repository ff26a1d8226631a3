"""Both sides."""

import numpy as np
from flwr.client import NumPyClient
from flwr.clientapp import ClientApp
from flwr.server import ServerAppComponents, ServerConfig
from flwr.server.strategy import FedAvg
from flwr.serverapp import ServerApp


class Client(NumPyClient):
    """Adds one."""

    def get_parameters(self, config):
        return [np.zeros(2)]

    def fit(self, parameters, config):
        return [array + 1 for array in parameters], 1, {}

    def evaluate(self, parameters, config):
        return float(parameters[0].sum()), 1, {}


def _client(context):
    return Client().to_client()


def _server(context):
    rounds = context.run_config["num-server-rounds"]
    return ServerAppComponents(strategy=FedAvg(), config=ServerConfig(num_rounds=rounds))


client = ClientApp(client_fn=_client)
server = ServerApp(server_fn=_server)
