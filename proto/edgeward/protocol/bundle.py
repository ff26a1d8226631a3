"""Bundles: a directory of training code as one reproducible zip, and back.

The same files give the same bytes (sorted names, fixed times, stored), so a
bundle's digest names the code. Unpacking trusts nothing: no absolute path, no
`..`, no link, no file that is a folder of another, bounded count and size.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from edgeward.protocol.errors import WireError

MAX_BYTES = 64 << 20
MAX_FILES = 5000

_MAX_NAME_BYTES, _MAX_PATH_BYTES = 255, 1024  # of one part; of the whole, with room for the folder before it
_FIXED_TIME = (1980, 1, 1, 0, 0, 0)
_FILE_TYPE_MASK, _LINK_TYPE = 0o170000, 0o120000
_SKIPPED_FOLDERS = {"__pycache__", "node_modules", "build", "dist"}


def pack_bundle(folder: Path) -> bytes:
    """Pack a directory; hidden files, caches and links stay out.

    Raises:
        ValueError: No pyproject.toml, or more than a bundle may hold.
    """
    if not (folder / "pyproject.toml").is_file():
        raise ValueError(f"{folder} has no pyproject.toml, so it is no Flower app")
    paths = sorted(path for path in folder.rglob("*") if _belongs(path.relative_to(folder)) and _is_plain_file(path))
    total = sum(path.stat().st_size for path in paths)
    if total > MAX_BYTES or len(paths) > MAX_FILES:
        raise ValueError(f"{folder} holds {len(paths)} files of {total} bytes; at most {MAX_FILES} of {MAX_BYTES}")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for path in paths:
            entry = zipfile.ZipInfo(path.relative_to(folder).as_posix(), _FIXED_TIME)
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, path.read_bytes())
    return buffer.getvalue()


def unpack_bundle(data: bytes, destination: Path) -> None:
    """Unpack into an empty folder.

    Raises:
        WireError: Not a bundle, or one that reaches outside of the folder or past the bounds.
        OSError: The disk is full.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            _verify_entries(entries)
            contents = [(entry.filename, archive.read(entry)) for entry in entries if not entry.is_dir()]
    except WireError:
        raise
    except (
        zipfile.BadZipFile,
        ValueError,
        EOFError,
        RuntimeError,
        OSError,
        KeyError,
        IndexError,
        struct.error,
        zlib.error,
    ) as error:
        raise WireError(f"not a readable bundle: {error}") from error
    for name, content in contents:
        path = destination / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _is_plain_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _belongs(relative: Path) -> bool:
    return not any(part.startswith(".") or part in _SKIPPED_FOLDERS or part.endswith(".pyc") for part in relative.parts)


def _verify_entries(entries: list[zipfile.ZipInfo]) -> None:
    if len(entries) > MAX_FILES or sum(entry.file_size for entry in entries) > MAX_BYTES:
        raise WireError(f"a bundle holds at most {MAX_FILES} files of together {MAX_BYTES} bytes")
    files: set[PurePosixPath] = set()
    folders: set[PurePosixPath] = {PurePosixPath()}
    for entry in entries:
        _verify_entry(entry)
        path = PurePosixPath(entry.filename)
        folders.update(path.parents)
        if entry.is_dir():
            folders.add(path)
            continue
        if path in files:
            raise WireError(f"bundle entry {entry.filename[:80]!r} stands twice")
        files.add(path)
    if both := files & folders:
        raise WireError(f"bundle entry {str(min(both))[:80]!r} is a file and a folder")


def _verify_entry(entry: zipfile.ZipInfo) -> None:
    path = PurePosixPath(entry.filename)
    if path.is_absolute() or ".." in path.parts or "\\" in entry.filename or "\0" in entry.orig_filename:
        raise WireError(f"bundle entry {entry.filename[:80]!r} reaches outside of the bundle")
    if len(entry.filename.encode()) > _MAX_PATH_BYTES or any(
        len(part.encode()) > _MAX_NAME_BYTES for part in path.parts
    ):
        raise WireError(f"bundle entry {entry.filename[:80]!r}… has a name longer than a file system takes")
    if (entry.external_attr >> 16) & _FILE_TYPE_MASK == _LINK_TYPE:
        raise WireError(f"bundle entry {entry.filename[:80]!r} is a link")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise WireError(f"bundle entry {entry.filename[:80]!r} is compressed in a way that bundles are not")
