"""What each process of the device has seen of a version on trial: a file for each, which outlives a crash.

    trials/<model>/<process>.json     counts, whether the process ended in order, and whether the model is at work

A version is on trial while it is on probation or runs as a candidate. A process
that has it in memory holds a lock on its file, which the kernel gives back when
the process dies, however it dies. A file without a lock, without the word `ended`
and with the mark of a model at work is a crash: the process died while it loaded,
ran or freed the model. One that died between two calls was ended by somebody
else, as by a restart. Whoever is killed in the middle of a call looks as if the
model had killed it, and counts. All is written in place, without fsync: it
outlives the process, and what a power cut takes of it only makes a trial longer.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import secrets
import weakref
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal

from edgeward.protocol.digests import parse_digest
from edgeward.protocol.errors import WireError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgeward.protocol.digests import Digest

_LOG = logging.getLogger(__name__)

_SUFFIX = ".json"
# A record has one length, so that a shorter one leaves nothing of the longer one before it.
_RECORD_BYTES = 4096
# The mark behind the record has a byte of its own: it is written twice a call.
_IDLE = b"\n"
_AT_WORK = b"!"
_MAX_PROBLEM = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is on trial, and as what; `generation`: the same version may be tried again."""

    role: Literal["active", "candidate"]
    version: int
    digest: Digest
    generation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What one process has seen of one version; `problem` says why it could not be loaded."""

    subject: Subject
    boot: str
    predictions: int = 0
    calls: int = 0
    errors: int = 0
    problem: str = ""
    ended: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundTrial:
    """A trial on the disk; `crashed`: its process died with the model at work, on a device that stayed up."""

    name: str
    trial: Trial
    is_running: bool
    crashed: bool


class TrialFile:
    """The file of this process for one version; thread-safe. A process that ends in order closes it by itself.

    Args:
        folder: `trials/<model>`.
        subject: What is on trial.

    Raises:
        OSError: It can't be made.
    """

    def __init__(self, folder: Path, subject: Subject) -> None:
        self._lock = Lock()
        self._trial = Trial(subject=subject, boot=boot_id())
        self.subject = subject
        self._predictions = self._calls = self._errors = 0
        self._at_work = 0
        self._owner = os.getpid()
        self._written_calls = self._written_errors = 0
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{os.getpid()}-{secrets.token_hex(4)}{_SUFFIX}"
        hidden = folder / f".{name}"
        descriptor = os.open(hidden, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        self._path = folder / name
        self._end = weakref.finalize(self, _end, descriptor, self._owner)
        # Seen only when locked: nobody may take it for the file of a process that is gone.
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        self._descriptor = descriptor
        os.pwrite(descriptor, _IDLE, _RECORD_BYTES)
        _write(descriptor, self._trial)
        hidden.replace(self._path)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """What is done inside is the model's doing: if the process dies of it or in it, that counts as a crash."""
        self._enter_work(1)
        try:
            yield
        finally:
            self._enter_work(-1)

    def count(self, *, rows: int, failed: bool) -> None:
        """Count one call, in memory."""
        with self._lock:
            self._calls += 1
            if failed:
                self._errors += 1
            else:
                self._predictions += rows

    def write(self) -> bool:
        """Let the agent know what was counted; nothing where there is nothing new, or the disk takes none.

        Returns:
            Whether calls have failed since the last time.
        """
        with self._lock:
            if self._calls == self._written_calls or not self._end.alive:
                return False
            erred = self._errors > self._written_errors
            self._written_calls, self._written_errors = self._calls, self._errors
            with suppress(OSError):
                _write(self._descriptor, self._now())
            return erred

    def fail(self, problem: str) -> None:
        """Say that the version can't be loaded here, and end."""
        with self._lock, suppress(OSError):
            _write(self._descriptor, self._now(problem=problem[:_MAX_PROBLEM]))
        self.close()

    def close(self) -> None:
        """Write what was counted and end in order; twice is once."""
        self.write()
        with self._lock:
            self._end()

    def _enter_work(self, change: Literal[1, -1]) -> None:
        """Change how many threads are inside, and the mark where the first one comes or the last one goes."""
        with self._lock:
            before = self._at_work > 0
            self._at_work += change
            # A fork has the same file, and no say in what its parent does.
            if (self._at_work > 0) != before and self._end.alive and os.getpid() == self._owner:
                with suppress(OSError):
                    os.pwrite(self._descriptor, _IDLE if before else _AT_WORK, _RECORD_BYTES)

    def _now(self, *, problem: str = "") -> Trial:
        return replace(
            self._trial,
            predictions=self._predictions,
            calls=self._calls,
            errors=self._errors,
            problem=problem,
        )


def open_trial(folder: Path, subject: Subject) -> TrialFile | None:
    """`TrialFile`, or None where the disk takes no file: nothing may keep a model from serving."""
    try:
        return TrialFile(folder, subject)
    except OSError as error:
        _LOG.warning("what is seen of %s version %d can't be kept: %s", folder.name, subject.version, error)
        return None


def read_trials(folder: Path) -> list[FoundTrial]:
    """What is in `trials/<model>`; files that are damaged or vanish meanwhile are passed over."""
    if not folder.is_dir():
        return []
    found = [_read(path) for path in sorted(folder.glob(f"[!.]*{_SUFFIX}"))]
    return [trial for trial in found if trial is not None]


def remove_trials(folder: Path, names: list[str]) -> None:
    """Remove files that were read; a process that still writes to one goes on without harm."""
    for name in names:
        (folder / name).unlink(missing_ok=True)


def boot_id() -> str:
    """Of the kernel's present boot; empty where it does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""


def _read(path: Path) -> FoundTrial | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        # Before the content: a process that ends in order says so first and gives the lock back then.
        is_running = not _try_lock(descriptor)
        trial = _decode(os.pread(descriptor, _RECORD_BYTES, 0))
        was_at_work = os.pread(descriptor, 1, _RECORD_BYTES) == _AT_WORK
    except (OSError, WireError):
        return None
    finally:
        os.close(descriptor)
    crashed = not is_running and not trial.ended and was_at_work and trial.boot == boot_id()
    return FoundTrial(name=path.name, trial=trial, is_running=is_running, crashed=crashed)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write(descriptor: int, trial: Trial) -> None:
    os.pwrite(descriptor, json.dumps(asdict(trial)).encode().ljust(_RECORD_BYTES), 0)


def _end(descriptor: int, owner: int) -> None:
    """Mark it as ended and give the lock back; also runs when the interpreter ends."""
    with suppress(OSError, WireError):
        if os.getpid() == owner:  # not a fork of it
            trial = _decode(os.pread(descriptor, _RECORD_BYTES, 0))
            _write(descriptor, replace(trial, ended=True))
    os.close(descriptor)


def _decode(data: bytes) -> Trial:
    try:
        fields = json.loads(data)
        return Trial(
            subject=_subject(fields["subject"]),
            boot=str(fields["boot"]),
            predictions=_count(fields["predictions"]),
            calls=_count(fields["calls"]),
            errors=_count(fields["errors"]),
            problem=str(fields["problem"]),
            ended=bool(fields["ended"]),
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise WireError(f"a damaged trial: {error}") from error


def _subject(fields: dict[str, Any]) -> Subject:
    if fields["role"] not in ("active", "candidate"):
        raise WireError(f"{fields['role']!r} is on no trial")
    return Subject(
        role=fields["role"],
        version=_count(fields["version"]),
        digest=parse_digest(fields["digest"]),
        generation=_count(fields["generation"]),
    )


def _count(value: object) -> int:
    if type(value) is not int or value < 0:
        raise WireError(f"{value!r} is no count")
    return value
