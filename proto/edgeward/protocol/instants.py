"""Instants on the wire: protobuf timestamps to aware UTC datetimes and back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from google.protobuf.timestamp_pb2 import Timestamp

from edgeward.protocol.errors import WireError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def timestamp_from_instant(instant: datetime) -> Timestamp:
    """To microseconds."""
    microseconds = (instant - _EPOCH) // timedelta(microseconds=1)
    return Timestamp(seconds=microseconds // 1_000_000, nanos=microseconds % 1_000_000 * 1000)


def instant_from_timestamp(timestamp: Timestamp) -> datetime:
    """From a timestamp of a foreign clock.

    Raises:
        WireError: Outside of the years 1 to 9999.
    """
    try:
        return _EPOCH + timedelta(seconds=timestamp.seconds, microseconds=timestamp.nanos // 1000)
    except OverflowError as error:
        raise WireError(f"a timestamp of {timestamp.seconds} seconds is no instant") from error
