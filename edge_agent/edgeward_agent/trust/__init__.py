"""What may run on this device: signed metadata, checked with python-tuf, and floors that no power cut lowers.

`Authority` says of one artifact whether it may be installed; `TrustStore` is the
folder behind it. Nothing of this is needed to serve. python-tuf (`client`) is
imported where there is something to check, and not before.
"""

from edgeward_agent.trust.authority import Authority, FetchMetadata
from edgeward_agent.trust.errors import Untrusted
from edgeward_agent.trust.fitness import unfit_reason
from edgeward_agent.trust.floors import BUILT_AT, Floor, Floors
from edgeward_agent.trust.store import TrustStore

__all__ = ["BUILT_AT", "Authority", "FetchMetadata", "Floor", "Floors", "TrustStore", "Untrusted", "unfit_reason"]
