"""What may run in the fleet: approvals, and the signed metadata (TUF) that says so to devices."""

from edgeward_coordinator.trust.charter import TOP_ROLES
from edgeward_coordinator.trust.description import (
    DelegationChange,
    KeyChange,
    RoleDescription,
    TargetChange,
    describe_document,
)
from edgeward_coordinator.trust.document import WaitingRole, read_document, sign_document
from edgeward_coordinator.trust.keys import generate_key
from edgeward_coordinator.trust.ledger import ApprovalRule, TrustSettings
from edgeward_coordinator.trust.repository import Lifetimes
from edgeward_coordinator.trust.status import TrustKey, TrustRole, TrustStatus
from edgeward_coordinator.trust.trust import Approval, Imported, Trust

__all__ = [
    "TOP_ROLES",
    "Approval",
    "ApprovalRule",
    "DelegationChange",
    "Imported",
    "KeyChange",
    "Lifetimes",
    "RoleDescription",
    "TargetChange",
    "Trust",
    "TrustKey",
    "TrustRole",
    "TrustSettings",
    "TrustStatus",
    "WaitingRole",
    "describe_document",
    "generate_key",
    "read_document",
    "sign_document",
]
