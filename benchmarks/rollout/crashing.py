"""A process that is killed at work with a version on trial.

python -m benchmarks.rollout.crashing FOLDER SUBJECT
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from edgeward_agent.telemetry import Subject
from edgeward_agent.telemetry.trials import TrialFile

if __name__ == "__main__":
    trial = TrialFile(Path(sys.argv[1]), Subject(**json.loads(sys.argv[2])))
    with trial.at_work():
        os.kill(os.getpid(), signal.SIGKILL)
