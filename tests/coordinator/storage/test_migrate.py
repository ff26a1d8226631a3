"""The migrations: add up to the schema, run once, run alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from edgeward_coordinator.errors import FailedPrecondition
from edgeward_coordinator.storage import Database, migrate, schema

if TYPE_CHECKING:
    from tests.postgres import PostgresServer


def test_migrations_add_up_to_the_schema(database: Database) -> None:
    """Alembic finds nothing that the tables in `schema` have and the migrations don't, or the reverse."""
    with database.write() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, schema.metadata) == []


def test_migrating_again_changes_nothing(database: Database) -> None:
    """It runs at every start."""
    with database.write() as connection:
        connection.execute(text("UPDATE counter SET value = 7"))
    migrate(database)
    with database.read() as connection:
        assert connection.execute(text("SELECT value FROM counter")).scalar_one() == 7


@pytest.mark.postgres
def test_coordinators_that_start_together_migrate_once(postgres: PostgresServer) -> None:
    """The second waits for the first, then finds nothing to do; on SQLite there is only ever one."""
    url = postgres.create_database()
    databases = [Database(url) for _ in range(4)]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(migrate, databases))
    with databases[0].read() as connection:
        assert connection.execute(text("SELECT count(*) FROM audit_head")).scalar_one() == 1
    for database in databases:
        database.close()


def test_a_schema_of_the_future_is_refused(database: Database) -> None:
    """An older version must not guess at tables that a newer one has changed."""
    with database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(FailedPrecondition, match="9999"):
        migrate(database)
