"""Why a model could not be compressed."""

from __future__ import annotations


class CompressionError(Exception):
    """One sentence: which key, callable or flavor, and what to do."""
