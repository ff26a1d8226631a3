"""A Flower app whose rounds last as long as a test wants."""
