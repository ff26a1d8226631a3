"""The operator's side of the wire: contexts, trust on the fleet CA, one connection, large transfers.

Synchronous and thin; the CLI and the demo stand on it.
"""

from edgeward_server.client.addresses import DEVICE_PORT, OPERATOR_PORT, Address, parse_address
from edgeward_server.client.connection import CHECK_DEADLINE_S, Client, connected
from edgeward_server.client.contexts import Contexts, FleetContext, exposed_file, load_contexts, persist_contexts
from edgeward_server.client.errors import ClientError, NotLoggedIn, Refused, Unreachable, Untrusted, explain
from edgeward_server.client.following import follow
from edgeward_server.client.keys import make_request, verify_pair
from edgeward_server.client.paging import list_devices, whole_lists
from edgeward_server.client.transfers import download, upload
from edgeward_server.client.trust import fetch_presented_certificates, find_fleet_ca, fingerprint_of

__all__ = [
    "CHECK_DEADLINE_S",
    "DEVICE_PORT",
    "OPERATOR_PORT",
    "Address",
    "Client",
    "ClientError",
    "Contexts",
    "FleetContext",
    "NotLoggedIn",
    "Refused",
    "Unreachable",
    "Untrusted",
    "connected",
    "download",
    "explain",
    "exposed_file",
    "fetch_presented_certificates",
    "find_fleet_ca",
    "fingerprint_of",
    "follow",
    "list_devices",
    "load_contexts",
    "make_request",
    "parse_address",
    "persist_contexts",
    "upload",
    "verify_pair",
    "whole_lists",
]
