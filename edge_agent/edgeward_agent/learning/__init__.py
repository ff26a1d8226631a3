"""Taking part in training: invitations in, a worker process of the training code's own, replies out.

The main process stays light: only the modules named `worker*` import Flower,
and they run in the worker.
"""

from edgeward_agent.learning.exchange_link import ExchangeInterrupted, ExchangeLink, ExchangeRefused
from edgeward_agent.learning.learning import Learning

__all__ = ["ExchangeInterrupted", "ExchangeLink", "ExchangeRefused", "Learning"]
