"""A Flower app of the message API whose model is three numbers."""
