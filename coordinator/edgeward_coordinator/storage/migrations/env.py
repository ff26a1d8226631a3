"""Alembic's entry: runs on the connection that `migrate` hands over."""

from alembic import context

from edgeward_coordinator.storage.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, transactional_ddl=False)
context.run_migrations()
