"""Tests of `edgeward.protocol.bundle`."""

from __future__ import annotations

import io
import os
import stat
import zipfile
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeward.protocol import WireError
from edgeward.protocol.bundle import MAX_FILES, pack_bundle, unpack_bundle
from tests.protocol.damage import damaged

if TYPE_CHECKING:
    from pathlib import Path

NAMES = st.text("abcdefgh_ é", min_size=1, max_size=8).filter(lambda name: name not in {"build", "dist"})
TREES = st.dictionaries(st.lists(NAMES, min_size=1, max_size=3).map(tuple), st.binary(max_size=50), max_size=6)


def zipped(*entries: tuple[str, bytes], mode: int = 0o100644, method: int = zipfile.ZIP_STORED) -> bytes:
    """A zip of these entries, under names that a careful packer would not write."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in entries:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            info.compress_type = method
            archive.writestr(info, content)
    return buffer.getvalue()


def make_app(folder: Path) -> Path:
    """A folder with a pyproject.toml and a module."""
    (folder / "app").mkdir(parents=True)
    (folder / "pyproject.toml").write_text("[project]\nname = 'app'\n")
    (folder / "app" / "task.py").write_text("x = 1\n")
    return folder


def read_tree(folder: Path) -> dict[str, bytes]:
    """All files by their path inside."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@given(TREES)
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, tree: dict[tuple[str, ...], bytes]) -> None:
    """What was packed is unpacked, byte for byte."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("target")
    (source / "pyproject.toml").write_text("")
    for parts, content in tree.items():
        path = source.joinpath(*parts)
        if any(parent.is_file() for parent in path.parents) or path.is_dir():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    unpack_bundle(pack_bundle(source), target)
    assert read_tree(target) == read_tree(source)


def test_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    """Neither times nor the order on disk change the digest that names the code."""
    first, second = make_app(tmp_path / "first"), make_app(tmp_path / "second")
    os.utime(second / "pyproject.toml", (1, 1))
    assert pack_bundle(first) == pack_bundle(second)


def test_hidden_files_caches_and_links_stay_out(tmp_path: Path) -> None:
    """Only what is part of the app leaves the operator's machine."""
    app = make_app(tmp_path / "app")
    for name in (".git/config", "app/__pycache__/task.pyc", ".env", "dist/app.whl"):
        path = app / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("secret")
    (tmp_path / "outside").write_text("secret")
    (app / "link.txt").symlink_to(tmp_path / "outside")
    unpack_bundle(pack_bundle(app), tmp_path / "target")
    assert set(read_tree(tmp_path / "target")) == {"pyproject.toml", "app/task.py"}


def test_folder_without_a_project_is_refused(tmp_path: Path) -> None:
    """It is said what is missing before anything is sent."""
    with pytest.raises(ValueError, match=r"no pyproject\.toml"):
        pack_bundle(tmp_path)


@settings(max_examples=200)
@given(
    data=st.binary(max_size=300)
    | damaged(
        [zipped(("pyproject.toml", b""), ("a/b.py", b"x" * 20)), zipped(("a", b"y"), method=zipfile.ZIP_DEFLATED)]
    )
)
def test_arbitrary_bytes_raise_only_the_wire_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """A decoder raises WireError or unpacks, and what it writes stays inside."""
    outer = tmp_path_factory.mktemp("outer")
    inner = outer / "inner"
    inner.mkdir()
    try:
        unpack_bundle(data, inner)
    except WireError:
        assert list(inner.iterdir()) == []
    assert [path.name for path in outer.iterdir()] == ["inner"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (zipped(("/etc/cron.d/x", b"")), "outside"),
        (zipped(("../x", b"")), "outside"),
        (zipped(("a/../../x", b"")), "outside"),
        (zipped(("a\\..\\x", b"")), "outside"),
        (zipped(("a", b"/etc/passwd"), mode=stat.S_IFLNK | 0o777), "link"),
        (zipped(("a", b"1"), ("./a", b"2")), "twice"),
        (zipped(("a", b"1"), ("a/b", b"2")), "a file and a folder"),
        (zipped(("a/b", b"1"), ("a", b"2")), "a file and a folder"),
        (zipped((".", b"1")), "a file and a folder"),
        (zipped(("x" * 300, b"1")), "longer than"),
        (zipped(("x", b"1"), method=zipfile.ZIP_LZMA), "compressed in a way"),
        (zipped(*[(f"f{index}", b"") for index in range(MAX_FILES + 1)]), "at most"),
        (b"no zip", "not a readable bundle"),
    ],
    ids=[
        "absolute",
        "parent",
        "hidden-parent",
        "backslash",
        "link",
        "twice",
        "file-then-folder",
        "folder-then-file",
        "the-folder-itself",
        "long-name",
        "lzma",
        "too-many",
        "no-zip",
    ],
)
def test_hostile_bundle_is_refused(tmp_path: Path, data: bytes, words: str) -> None:
    """Nothing is written of a bundle that reaches outside, or past a bound."""
    with pytest.raises(WireError, match=words):
        unpack_bundle(data, tmp_path)
    assert list(tmp_path.iterdir()) == []
