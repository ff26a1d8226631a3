"""Alembic's scripts; `migrate` runs them."""
