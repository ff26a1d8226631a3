"""The fleet CA of a database: the one that the devices in it trust, and no other.

Its fingerprint is noted in the database when it is first used. A coordinator
whose folder is empty or holds another CA is refused: with a new one it would
shut out the whole fleet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeward_coordinator.errors import FailedPrecondition
from edgeward_coordinator.identity import store
from edgeward_coordinator.identity.authority import DEVICE_LIFETIME, FleetCA

if TYPE_CHECKING:
    from datetime import timedelta
    from pathlib import Path

    from edgeward_coordinator.storage import Database


def open_fleet_ca(database: Database, folder: Path, *, device_lifetime: timedelta = DEVICE_LIFETIME) -> FleetCA:
    """Open the CA of a folder; made at the first start on a database, and only then.

    Args:
        database: Knows the CA of its fleet.
        folder: Where the CA's files lie.
        device_lifetime: For how long a device's certificate is good.

    Raises:
        FailedPrecondition: The folder has not the CA of this database, or its files are damaged.
    """
    with database.read() as connection:
        known = store.load_fingerprint(connection)
    if known and not (folder / "ca-key.pem").exists() and not (folder / "ca.pem").exists():
        raise FailedPrecondition(
            f"the fleet CA is missing from {folder}, and the database has a fleet that trusts it ({known[:16]}…)",
            hint="put the folder back from a backup, or copy it from another coordinator of this database",
        )
    ca = FleetCA.load_or_create(folder, clock=database.clock, device_lifetime=device_lifetime)
    if not known:
        with database.write() as connection:
            known = store.note_fingerprint(connection, ca.fingerprint)
    if known != ca.fingerprint:
        raise FailedPrecondition(
            f"the fleet CA in {folder} ({ca.fingerprint[:16]}…) is not that of the database's fleet ({known[:16]}…)",
            hint="copy the folder from the coordinator that has served this database, or give another database",
        )
    return ca
