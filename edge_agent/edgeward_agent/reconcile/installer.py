"""One version on its way: authorized, found to fit, downloaded as the owner allows, tested, handed to the store."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

from edgeward.protocol.model import Flavor
from edgeward.protocol.state import ModelState, ProbationRules
from edgeward.protocol.targets import SignedTarget
from edgeward_agent.artifacts import InstallError
from edgeward_agent.reconcile.decision import Install, Stage
from edgeward_agent.reconcile.downloads import least_bytes, sizes_of
from edgeward_agent.reconcile.turns import Attempt, Turns
from edgeward_agent.trust import unfit_reason

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from edgeward.protocol.digests import Digest
    from edgeward.protocol.golden import GoldenSet
    from edgeward.protocol.model import Format
    from edgeward.protocol.state import CandidateMode, RuntimeInfo
    from edgeward.protocol.targets import PatchOffer
    from edgeward_agent.artifacts import ActiveModel, Check, Fetch
    from edgeward_agent.artifacts.manifest import Manifest
    from edgeward_agent.reconcile.decision import Step
    from edgeward_agent.reconcile.downloads import Downloads

# Model, version and flavor to what was signed of it; raises `Untrusted` or another `Interrupted`.
Authorize = Callable[[str, int, Flavor], Awaitable[SignedTarget]]

_LOG = logging.getLogger(__name__)

_NO_PROBATION = ProbationRules(duration=timedelta(0))


class VersionStore(Protocol):
    """What it needs of `SlotStore`, where each is described."""

    def held(self, model: str) -> frozenset[Digest]: ...  # noqa: D102

    def former(self, model: str) -> Manifest | None: ...  # noqa: D102

    async def install(  # noqa: D102
        self,
        model: str,
        version: int,
        flavor: Flavor,
        *,
        fetch: Fetch,
        check: Check,
        release: int = 0,
        probation: ProbationRules | None = None,
        patches: Sequence[PatchOffer] = (),
    ) -> ActiveModel: ...

    async def stage(  # noqa: D102
        self,
        model: str,
        version: int,
        flavor: Flavor,
        *,
        fetch: Fetch,
        check: Check,
        mode: CandidateMode,
        share: float,
        release: int = 0,
        patches: Sequence[PatchOffer] = (),
    ) -> None: ...


class Going(Attempt):
    """A step that is being taken.

    Attributes:
        state: FETCHING, then CHECKING.
    """

    def __init__(self, step: Step) -> None:
        super().__init__()
        self.step = step
        self.state = ModelState.FETCHING


class Installer:
    """Of one device. Event loop only.

    Args:
        store: Where models are.
        authorize: Whether a flavor may be installed at all.
        downloads: The bytes of artifacts.
        check: The test that a model must pass on this device.
        runtimes: The runtime for each format that this device may run.
        memory_bytes: Of this device; 0: not known.
        turns: Who has the store.
    """

    def __init__(
        self,
        store: VersionStore,
        *,
        authorize: Authorize,
        downloads: Downloads,
        check: Check,
        runtimes: Mapping[Format, RuntimeInfo],
        memory_bytes: int,
        turns: Turns | None = None,
    ) -> None:
        self._store = store
        self._authorize = authorize
        self._downloads = downloads
        self._check = check
        self._runtimes = runtimes
        self._memory_bytes = memory_bytes
        self._turns = turns or Turns()
        # By model, what is known of a download that the owner did not allow, so that asking again costs no metadata.
        self._least_bytes: dict[str, tuple[Digest, int]] = {}

    async def bring(self, going: Going, step: Install | Stage, *, progressed: Callable[[], None]) -> None:
        """Bring a version to serve, or to run beside what serves.

        Args:
            going: Stops it, and shows how far it is.
            step: What to bring.
            progressed: Called after each change of `going.state`.

        Raises:
            InstallError: This flavor can't serve here.
            Interrupted: Not now; `NotAllowed` where the owner says so.
        """
        held = await asyncio.to_thread(self._store.held, step.model)
        is_here = step.flavor.digest in held
        if not is_here:
            digest, least = self._least_bytes.get(step.model, (step.flavor.digest, 0))
            self._downloads.verify_allowed(least if digest == step.flavor.digest else 0)
        signed = await self._former(step)
        if signed is None:
            signed = await self._authorize(step.model, step.version, step.flavor)
        elif isinstance(step, Install):
            # It has proven itself here; on probation again it could be sent back to what it is to replace.
            step = replace(step, probation=_NO_PROBATION)
        self._verify_fits(signed)
        if not is_here:
            self._verify_allowed(signed, held)
        async with self._turns.turn(going, is_quick=is_here):
            _LOG.info("%s (%d bytes)", describe(step), signed.flavor.total_bytes)
            await self._hand_over(going, step, signed, progressed)

    async def _former(self, step: Install | Stage) -> SignedTarget | None:
        """The version to go back to, where that is what is asked for: it needs neither new metadata nor a network.

        It was authorized when it was installed, it is whole, and the device goes back to it without asking anybody
        when a probation fails; so whoever changes the desired state gains nothing that a failure would not give.
        What is handed on is what was authorized then, golden set included, and not what is desired now.
        """
        if not isinstance(step, Install):
            return None
        former = await asyncio.to_thread(self._store.former, step.model)
        if former is None or former.version != step.version:
            return None
        if (former.flavor.name, former.flavor.digest) != (step.flavor.name, step.flavor.digest):
            return None
        return SignedTarget(model=former.model, version=former.version, flavor=former.flavor)

    def _verify_fits(self, signed: SignedTarget) -> None:
        runtime = self._runtimes.get(signed.flavor.format)
        runtimes = [runtime] if runtime is not None else []
        reason = unfit_reason(signed, runtimes=runtimes, memory_bytes=self._memory_bytes)
        if reason:
            raise InstallError(reason)

    def _verify_allowed(self, signed: SignedTarget, held: Collection[Digest]) -> None:
        """Before the slot is cleared for it: what waits for the night must not cost the version to go back to."""
        least = least_bytes(signed, held)
        self._least_bytes[signed.model] = signed.flavor.digest, least
        self._downloads.verify_allowed(least)

    async def _hand_over(
        self, going: Going, step: Install | Stage, signed: SignedTarget, progressed: Callable[[], None]
    ) -> None:
        async def check(path: Path, flavor: Flavor, golden: GoldenSet | None) -> None:
            going.state = ModelState.CHECKING
            progressed()
            await self._check(path, flavor, golden)

        fetch = self._downloads.fetch_for(going, sizes_of(signed))
        model, version, flavor, patches = step.model, step.version, signed.flavor, signed.patches
        match step:
            case Install(release=release):
                rules = step.probation if step.probation.asks_anything else None
                await self._store.install(
                    model, version, flavor, fetch=fetch, check=check, release=release, probation=rules, patches=patches
                )
            case Stage(release=release, mode=mode, share=share):
                await self._store.stage(
                    model,
                    version,
                    flavor,
                    fetch=fetch,
                    check=check,
                    mode=mode,
                    share=share,
                    release=release,
                    patches=patches,
                )


def describe(step: Step) -> str:
    """For the log."""
    match step:
        case Install():
            return f"installing {step.model} {step.version} as {step.flavor.name}"
        case Stage():
            return f"staging {step.model} {step.version} as {step.flavor.name} ({step.mode})"
        case _:
            return f"{type(step).__name__} of {step.model}"
