"""Run the scenarios named on the command line, or all: `python -m benchmarks [NAME …]`."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

FOLDER = Path(__file__).parent


def scenario_names() -> list[str]:
    """Every folder here that has a `scenario.py`."""
    return sorted(path.parent.name for path in FOLDER.glob("*/scenario.py"))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of: {', '.join(scenario_names())}")
    names = parser.parse_args().names or scenario_names()
    unknown = sorted(set(names) - set(scenario_names()))
    if unknown:
        parser.error(f"no scenario {', '.join(unknown)}; there are: {', '.join(scenario_names())}")
    for name in names:
        importlib.import_module(f"benchmarks.{name}.scenario").run()


if __name__ == "__main__":
    main()
