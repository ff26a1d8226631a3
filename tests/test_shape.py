"""The shape of the project itself."""

from __future__ import annotations

import filecmp
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
COMPONENTS = ("proto", "compression", "edge_agent", "coordinator", "server")


@pytest.mark.parametrize("component", COMPONENTS)
def test_component_folder_is_no_package(component: str) -> None:
    """A flat name such as `compression` would shadow the standard library's."""
    assert not (ROOT / component / "__init__.py").exists()


@pytest.mark.parametrize("component", COMPONENTS)
def test_component_has_a_readme(component: str) -> None:
    """Each component says what it is, what it may import and how to run it."""
    assert (ROOT / component / "README.md").stat().st_size > 200


def test_generated_stubs_are_current(tmp_path: Path) -> None:
    """The stubs that are checked in are what protoc makes of the sources today."""
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        from generate_stubs import PROTO_ROOT, generate_stubs
    finally:
        sys.path.pop(0)
    written = [str(path) for path in generate_stubs(tmp_path)]
    checked_in = sorted(str(path.relative_to(PROTO_ROOT)) for path in PROTO_ROOT.glob("edgeward/v1/*_pb2*"))
    assert written == checked_in
    _, mismatch, errors = filecmp.cmpfiles(PROTO_ROOT, tmp_path, written, shallow=False)
    assert (mismatch, errors) == ([], [])


def test_wheel_holds_every_package() -> None:
    """A package that the wheel forgets is missing only on somebody else's machine."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    listed = set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
    present = {
        str(folder.relative_to(ROOT))
        for component in COMPONENTS
        for folder in (ROOT / component).iterdir()
        if (folder / "__init__.py").exists()
    }
    assert listed == present
