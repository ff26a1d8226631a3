"""Write an app's held-out examples to a file, in a process of its own: the app brings torch with it.

python -m edgeward_server.demo.held_out APP_FOLDER OUT.npz
"""

from __future__ import annotations

import importlib
import sys
import tomllib
from pathlib import Path

import numpy as np


def main() -> None:
    """Find the function that `[tool.edgeward.model]` names, and keep what it returns as `x` and `y`."""
    folder, out = Path(sys.argv[1]), Path(sys.argv[2])
    app = tomllib.loads((folder / "pyproject.toml").read_text())
    module, _, function = app["tool"]["edgeward"]["model"]["held_out"].partition(":")
    sys.path.insert(0, str(folder.resolve()))
    inputs, labels = getattr(importlib.import_module(module), function)()
    np.savez(out, x=np.asarray(inputs), y=np.asarray(labels))


if __name__ == "__main__":
    main()
