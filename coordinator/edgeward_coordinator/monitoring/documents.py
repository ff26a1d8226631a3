"""Latencies as JSON documents, and back."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

from edgeward.protocol.latency import LatencyHistogram

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def latency_to_document(latency: LatencyHistogram) -> dict[str, Any]:
    """To JSON."""
    return {
        "counts": {str(index): count for index, count in sorted(latency.counts.items())},
        "zeros": latency.zeros,
        "sum_s": latency.sum_s,
    }


def latency_from_document(document: Mapping[str, Any]) -> LatencyHistogram:
    """From JSON."""
    counts = Counter({int(index): count for index, count in document["counts"].items()})
    return LatencyHistogram(counts=counts, zeros=document["zeros"], sum_s=document["sum_s"])


def merge_documents(documents: Iterable[Mapping[str, Any]]) -> LatencyHistogram:
    """The sum of many, each of which is only walked through."""
    counts: dict[str, int] = defaultdict(int)
    merged = LatencyHistogram()
    for document in documents:
        for index, count in document["counts"].items():
            counts[index] += count
        merged.zeros += document["zeros"]
        merged.sum_s += document["sum_s"]
    merged.counts.update({int(index): count for index, count in counts.items()})
    return merged
