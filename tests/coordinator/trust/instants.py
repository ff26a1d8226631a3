"""An instant for tests that need one."""

from datetime import UTC, datetime

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
