"""Regenerate the gRPC and protobuf stubs of `proto/edgeward/v1` beside their sources.

Run by `make proto`. A test generates into a temporary folder and compares, so
stale stubs cannot land.
"""

from __future__ import annotations

import argparse
import sys
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

PROTO_ROOT = Path(__file__).resolve().parent.parent / "proto"


def generate_stubs(destination: Path) -> list[Path]:
    """Write `_pb2.py`, `_pb2.pyi` and `_pb2_grpc.py` of every source under `destination`.

    Returns:
        The files written, relative to `destination`, sorted.

    Raises:
        RuntimeError: protoc refused a source; its own message is on stderr.
    """
    sources = sorted(str(path.relative_to(PROTO_ROOT)) for path in PROTO_ROOT.glob("edgeward/v1/*.proto"))
    well_known = files("grpc_tools") / "_proto"
    programs = Path(sys.executable).parent
    exit_status = protoc.main(
        [
            "protoc",
            f"--proto_path={PROTO_ROOT}",
            f"--proto_path={well_known}",
            f"--plugin=protoc-gen-mypy={programs / 'protoc-gen-mypy'}",
            f"--plugin=protoc-gen-mypy_grpc={programs / 'protoc-gen-mypy_grpc'}",
            f"--python_out={destination}",
            f"--mypy_out={destination}",
            f"--grpc_python_out={destination}",
            f"--mypy_grpc_out={destination}",
            *sources,
        ]
    )
    if exit_status != 0:
        raise RuntimeError(f"protoc failed with status {exit_status}")
    return sorted(path.relative_to(destination) for path in destination.glob("edgeward/v1/*_pb2*"))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=PROTO_ROOT)
    for path in generate_stubs(parser.parse_args().out):
        sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main()
