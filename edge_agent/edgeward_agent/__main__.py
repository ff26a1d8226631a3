"""`python -m edgeward_agent`: the command line, where its script is not on the path."""

import sys

from edgeward_agent.cli import main

sys.exit(main())
