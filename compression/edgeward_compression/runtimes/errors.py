"""What can be wrong with a model, a request or this machine; families by who must act.

The caller: `InputError`. The one who sent the file: `LoadError`,
`RuntimeFailure`, `ProbeError`. Whoever set this machine up: `RuntimeMissing`.
"""

from __future__ import annotations


class ModelError(Exception):
    """Base; the message is one sentence that says what was wrong and with what."""


class LoadError(ModelError):
    """The file is no model that this runtime can open."""


class RuntimeMissing(LoadError):
    """No runtime for this format is installed here."""


class InputError(ModelError):
    """The inputs don't fit the model's signature."""


class RuntimeFailure(ModelError):
    """The model is open and the inputs fit, yet running it failed."""


class ProbeError(ModelError):
    """A model failed its first contact in a child process: it doesn't open, doesn't run, hangs or crashes."""


class ProbeCutShort(ProbeError):
    """The child took too long or was killed from outside: the model's fault, or that of a machine under load."""
