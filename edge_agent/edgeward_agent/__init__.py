"""The agent: the program on each device."""
