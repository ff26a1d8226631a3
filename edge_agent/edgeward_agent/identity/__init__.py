"""Who this device is: its key, its certificate, and how it gets and keeps them. No grpc here.

`enroll` turns an enrollment string into an `Identity` on disk, `IdentityStore`
holds it, `Renewer` replaces its certificate in time. What goes over the wire is
behind `EnrollmentClient`, which the link implements.
"""

from edgeward_agent.identity.address import split_address
from edgeward_agent.identity.enroll import EnrollmentClient, EnrollmentRequest, EnrollmentResult, enroll
from edgeward_agent.identity.pinning import fetch_pinned_ca
from edgeward_agent.identity.renewal import Renewer, renewal_due_at
from edgeward_agent.identity.store import Credential, Identity, IdentityStore, IssuedCredential, NotEnrolled

__all__ = [
    "Credential",
    "EnrollmentClient",
    "EnrollmentRequest",
    "EnrollmentResult",
    "Identity",
    "IdentityStore",
    "IssuedCredential",
    "NotEnrolled",
    "Renewer",
    "enroll",
    "fetch_pinned_ca",
    "renewal_due_at",
    "split_address",
]
