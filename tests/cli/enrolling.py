"""A device for tests of the command line: it enrolls over the wire and does nothing more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc

from edgeward.protocol.enrollment import parse_enrollment_string
from edgeward.v1 import enrollment_pb2, enrollment_pb2_grpc
from edgeward_server.client import load_contexts, make_request

if TYPE_CHECKING:
    from tests.cli.conftest import Operator


def enroll(operator: Operator, *, group: str, name: str) -> str:
    """With a token of its own.

    Returns:
        The device's id.
    """
    string = operator.document("devices", "token", "--group", group)["enrollment_string"]
    parts = parse_enrollment_string(string)
    _, csr_pem = make_request(name)
    root = load_contexts(operator.config_folder).pick().ca_pem.encode()
    with grpc.secure_channel(parts.address, grpc.ssl_channel_credentials(root)) as channel:
        stub = enrollment_pb2_grpc.EnrollmentServiceStub(channel)
        request = enrollment_pb2.EnrollRequest(token=parts.secret, csr_pem=csr_pem, device_name=name)
        return stub.Enroll(request, timeout=30).device_id
