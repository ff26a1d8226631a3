"""The shape of the project itself."""

from __future__ import annotations

import filecmp
import tomllib
from pathlib import Path

import pytest

from scripts import generate_stubs, render_layers

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
    written = [str(path) for path in generate_stubs.generate_stubs(tmp_path)]
    root = generate_stubs.PROTO_ROOT
    assert written == sorted(str(path.relative_to(root)) for path in root.glob("edgeward/v1/*_pb2*"))
    _, mismatch, errors = filecmp.cmpfiles(root, tmp_path, written, shallow=False)
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


def test_architecture_page_shows_the_layers() -> None:
    """The picture of the layers is the one that the linter holds."""
    assert render_layers.PAGE.read_text() == render_layers.rendered_page()
