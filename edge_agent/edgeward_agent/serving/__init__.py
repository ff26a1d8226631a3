"""Predictions in the process of whoever wants them, with or without a network."""

from edgeward_agent.serving.agent import Agent
from edgeward_agent.serving.answer import Answer
from edgeward_agent.serving.errors import InvalidInput, ServingError, UnknownModel

__all__ = ["Agent", "Answer", "InvalidInput", "ServingError", "UnknownModel"]
