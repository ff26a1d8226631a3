"""What must be right of a request before it becomes a run: its bundle, its settings, its bounds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from edgeward.protocol.bundle import MAX_BYTES, unpack_bundle
from edgeward.protocol.errors import WireError
from edgeward_coordinator.aggregation.app_settings import AppSettings, fuse_config, parse_app_settings, rounds_in
from edgeward_coordinator.aggregation.records import DEFAULT_ROUND_TIMEOUT_S, RunSpec
from edgeward_coordinator.errors import InvalidArgument
from edgeward_coordinator.names import verify_name
from edgeward_coordinator.registry.version import verify_name as verify_model_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgeward.protocol.digests import Digest
    from edgeward_coordinator.aggregation.journal import RunFolder
    from edgeward_coordinator.registry import Registry

MAX_ROUND_TIMEOUT_S: Final = 30 * 24 * 3600.0
SEED_BITS: Final = 63
_MAX_DEVICES: Final = 1_000_000
_ZIP_ALLOWANCE: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """What an operator asks for.

    Attributes:
        group: Of the devices that take part.
        bundle_digest: The app.
        rounds: 0 as the app's settings say.
        run_config: Settings of the app as TOML text.
        seed: Of all that is random in the ServerApp; 0 has one drawn.
        model: What comes out becomes a version of it; empty: as the app says.
        min_devices: It begins, and each round, once so many are online; 0 is 1.
        round_timeout_s: A round closes after so long with who has answered; 0 is 600.
    """

    group: str
    bundle_digest: Digest
    rounds: int = 0
    run_config: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0
    model: str = ""
    min_devices: int = 0
    round_timeout_s: float = 0.0


def admit(request: RunRequest, *, run_id: str, drawn_seed: int, registry: Registry, folder: RunFolder) -> RunSpec:
    """Unpack the app into the run's folder and say what the run will be.

    Raises:
        NotFound: The bundle was not uploaded.
        InvalidArgument: It is no Flower app, or something does not fit it.
    """
    _verify_bounds(request)
    bundle_bytes, app = _unpack(request.bundle_digest, registry, folder)
    model = request.model or app.model
    verify_model_name(model, of="a model")
    config = fuse_config(app.config, request.run_config, rounds=request.rounds)
    return RunSpec(
        run_id=run_id,
        app=app.name,
        group=request.group,
        serverapp=app.serverapp,
        rounds=rounds_in(config),
        run_config=config,
        seed=request.seed or drawn_seed,
        bundle_digest=request.bundle_digest,
        bundle_bytes=bundle_bytes,
        model=model,
        min_devices=request.min_devices or 1,
        round_timeout_s=request.round_timeout_s or DEFAULT_ROUND_TIMEOUT_S,
    )


def _verify_bounds(request: RunRequest) -> None:
    verify_name(request.group, of="a group")
    if not 0 <= request.round_timeout_s <= MAX_ROUND_TIMEOUT_S:
        raise InvalidArgument(
            f"a round can't last {request.round_timeout_s:g} s", hint=f"give at most {MAX_ROUND_TIMEOUT_S:g}"
        )
    if not 0 <= request.seed < 2**SEED_BITS:
        raise InvalidArgument(
            f"{request.seed} is no seed", hint=f"give one below 2^{SEED_BITS}, or 0 to have one drawn"
        )
    if not 0 <= request.min_devices <= _MAX_DEVICES:
        raise InvalidArgument(f"a run can't wait for {request.min_devices} devices", hint=f"{_MAX_DEVICES} at most")


def _unpack(digest: Digest, registry: Registry, folder: RunFolder) -> tuple[int, AppSettings]:
    total_bytes = registry.artifact_bytes(digest)
    if total_bytes > MAX_BYTES + _ZIP_ALLOWANCE:
        raise InvalidArgument(f"{digest[:12]} has {total_bytes} bytes; a bundle has at most {MAX_BYTES}")
    folder.app.mkdir(parents=True)
    try:
        unpack_bundle(b"".join(registry.open_artifact(digest)), folder.app)
        pyproject = (folder.app / "pyproject.toml").read_text(encoding="utf-8")
    except (WireError, FileNotFoundError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"{digest[:12]} is no bundle of a Flower app: {error}") from error
    return total_bytes, parse_app_settings(pyproject)
