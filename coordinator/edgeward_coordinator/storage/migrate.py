"""Bring a database to the newest schema; run at every start."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import text

from edgeward_coordinator.errors import FailedPrecondition

if TYPE_CHECKING:
    from edgeward_coordinator.storage.database import Database

_SCRIPTS = Path(__file__).parent / "migrations"


# Any number that nothing else in the database locks; coordinators that start together migrate one after the other.
_ADVISORY_LOCK = 0x6564_6765


def migrate(database: Database, *, to: str = "head") -> None:
    """Run the missing migrations, all in one transaction.

    Raises:
        Unavailable: The database does not answer.
        FailedPrecondition: A newer version of Edgeward has migrated it already.
    """
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS))
    with database.write() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _ADVISORY_LOCK})
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, to)
        except CommandError as error:
            raise FailedPrecondition(
                f"the database's schema is not known here: {error}", hint="run the version of Edgeward that made it"
            ) from error
