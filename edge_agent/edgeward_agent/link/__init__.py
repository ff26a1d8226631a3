"""Everything that goes over the wire: the only place of the agent that knows grpc.

`Link` holds one connection with mutual TLS; `SessionKeeper` keeps a session open
over it, for ever; `GrpcEnrollmentClient` asks for a first certificate;
`diagnose_connection` says why there is no connection. Dataclasses go in and come
out, and errors are the agent's own.
"""

from edgeward_agent.link.diagnose import diagnose_connection
from edgeward_agent.link.enrollment import GrpcEnrollmentClient
from edgeward_agent.link.exchange import GrpcExchange
from edgeward_agent.link.keeper import KeeperSettings, SessionKeeper, SessionSide
from edgeward_agent.link.link import Link, LinkSettings
from edgeward_agent.link.presence import Presence
from edgeward_agent.link.session import Session, SessionEvent
from edgeward_agent.link.traffic import Traffic

__all__ = [
    "GrpcEnrollmentClient",
    "GrpcExchange",
    "KeeperSettings",
    "Link",
    "LinkSettings",
    "Presence",
    "Session",
    "SessionEvent",
    "SessionKeeper",
    "SessionSide",
    "Traffic",
    "diagnose_connection",
]
