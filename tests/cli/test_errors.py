"""What gRPC raises, in sentences."""

from __future__ import annotations

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2, status_pb2

from edgeward_server.client import ClientError, Refused, Unreachable, Untrusted, explain


class Ended(grpc.RpcError):
    """A call that ended as a server or the channel says."""

    def __init__(self, code: grpc.StatusCode, details: str, *, rich: bytes | None = None) -> None:
        super().__init__()
        self._answers = (code, details, rich)

    def code(self) -> grpc.StatusCode:
        """The status."""
        return self._answers[0]

    def details(self) -> str:
        """The message."""
        return self._answers[1]

    def trailing_metadata(self) -> tuple[tuple[str, bytes], ...]:  # type: ignore[override]
        """With google.rpc.Status, where the server spoke."""
        rich = self._answers[2]
        return () if rich is None else (("grpc-status-details-bin", rich),)


def rich_details(hint: str) -> bytes:
    info = error_details_pb2.ErrorInfo(reason="X", domain="edgeward", metadata={"hint": hint} if hint else {})
    detail = AnyMessage()
    detail.Pack(info)
    serialised: bytes = status_pb2.Status(details=[detail]).SerializeToString()
    return serialised


@pytest.mark.parametrize(
    ("details", "family", "sentence"),
    [
        ("errors: Connection refused", Unreachable, "no coordinator answers at edge:7443"),
        ("errors resolving edge:7443: address lookup failed", Unreachable, "can't be resolved"),
        ("Tls handshake failed: CERTIFICATE_VERIFY_FAILED: self signed", Untrusted, "no valid certificate"),
        ("Hostname Verification Check failed.", Untrusted, "does not name edge"),
    ],
    ids=["refused", "unknown name", "another CA", "another name"],
)
def test_an_absent_server_is_told_from_a_false_one(details: str, family: type[ClientError], sentence: str) -> None:
    """Each has its own way out."""
    explained = explain(Ended(grpc.StatusCode.UNAVAILABLE, details), "edge:7443")
    assert isinstance(explained, family)
    assert sentence in explained.message


def test_what_the_coordinator_says_is_passed_on_with_its_hint() -> None:
    """Word for word, and why in gRPC's name."""
    error = Ended(grpc.StatusCode.NOT_FOUND, "there is no model x", rich=rich_details("push it first"))
    explained = explain(error, "edge:7443")
    assert isinstance(explained, Refused)
    assert (explained.message, explained.hint, explained.status) == (
        "there is no model x",
        "push it first",
        "not_found",
    )


def test_a_coordinator_that_lacks_something_was_reached() -> None:
    """Its database being away is its answer, and not silence."""
    error = Ended(grpc.StatusCode.UNAVAILABLE, "the database is gone", rich=rich_details(""))
    assert isinstance(explain(error, "edge:7443"), Refused)


def test_an_unknown_operator_is_told_to_log_in() -> None:
    """Unless the coordinator has a better hint."""
    unauthenticated = grpc.StatusCode.UNAUTHENTICATED
    assert explain(Ended(unauthenticated, "expired"), "edge:7443").hint == "log in again: edgeward login edge:7443"
    assert explain(Ended(unauthenticated, "expired", rich=rich_details("ask Eve")), "edge:7443").hint == "ask Eve"


def test_damaged_details_cost_only_the_hint() -> None:
    """The message is still there."""
    explained = explain(Ended(grpc.StatusCode.NOT_FOUND, "no such run", rich=b"\xff\xff"), "edge:7443")
    assert (explained.message, explained.hint) == ("no such run", "")


def test_silence_past_the_deadline_is_not_a_refusal() -> None:
    """It may have been done or not."""
    assert isinstance(explain(Ended(grpc.StatusCode.DEADLINE_EXCEEDED, ""), "edge:7443"), Unreachable)
