"""`python -m edgeward_server.demo` is `edgeward demo`."""

import os
import sys

from edgeward_server.cli.app import run

sys.exit(run(["demo", *sys.argv[1:]], os.environ))
