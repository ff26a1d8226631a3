"""`edgeward-agent` whose clock is wrong by so many seconds: `python -m tests.faults.agent_with_clock SECONDS run …`."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta

from edgeward_agent import cli, daemon

if __name__ == "__main__":
    _off_by = timedelta(seconds=float(sys.argv.pop(1)))
    daemon._now = lambda: datetime.now(UTC) + _off_by
    sys.exit(cli.main())
