"""An app of the older API, with NumPyClient and a strategy in a server_fn."""
