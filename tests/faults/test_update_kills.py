"""Updates, probations and candidates, killed anywhere: the device always comes up with a model that works."""

from __future__ import annotations

import os
import random
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from edgeward_agent.artifacts import STEPS
from tests.faults.updates import Catalogue, Device, install, stage, start_process

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.faults.updates import Action

UPDATES = int(os.environ.get("EDGEWARD_RANDOM_KILLS", "100"))

DOWNLOAD = ("download-begun", "download-half", "downloaded")
BEGIN = ("slot-cleared", "intent-written")
TEST = ("verified", "golden-fetched", "checked", "manifest-written")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One life that is killed.

    Attributes:
        before: The lives that led to it; a step in place of actions is where one that does nothing is killed.
        actions: What it does.
        steps: What it passes.
        serves: What the next boot serves, by the step from which on that is so; "" is the beginning.
        ends: What serves after the same life without a kill.
        candidate: What runs beside it then.
        refused: What has been refused by then.
    """

    name: str
    before: tuple[tuple[Action, ...] | str, ...] = ()
    actions: tuple[Action, ...]
    steps: tuple[str, ...]
    serves: Mapping[str, int] = field(default_factory=dict)
    ends: int
    candidate: int = 0
    refused: tuple[int, ...] = ()

    def booted_after(self, step: str) -> int:
        """What the boot after a kill at this step serves."""
        passed = ["", *self.steps[: self.steps.index(step) + 1]]
        return [self.serves[name] for name in passed if name in self.serves][-1]


TRYING_2 = ((install(1),), (install(2, on_probation=True),))
SCENARIOS = (
    Scenario(
        name="first",
        actions=(install(1),),
        steps=(*BEGIN, *DOWNLOAD, *TEST, "activated"),
        serves={"": 0, "manifest-written": 1},
        ends=1,
    ),
    Scenario(
        name="update",
        before=((install(1),),),
        actions=(install(2, on_probation=True),),
        steps=(*BEGIN, *DOWNLOAD, *TEST, "activated"),
        serves={"": 1, "activated": 2},
        ends=2,
    ),
    Scenario(
        name="patch",
        before=((install(1),),),
        actions=(install(2, base=1),),
        steps=(*BEGIN, "patch-fetched", "patched", *TEST, "activated"),
        serves={"": 1, "activated": 2},
        ends=2,
    ),
    Scenario(
        name="bad-patch",
        before=((install(1),),),
        actions=(install(3, base=1),),
        steps=(*BEGIN, "patch-fetched", "patch-refused", *DOWNLOAD, *TEST, "activated"),
        serves={"": 1, "activated": 3},
        ends=3,
    ),
    Scenario(
        name="patch-from-the-former",
        before=((install(1), install(2)),),
        actions=(install(4, base=1),),
        steps=("given-up", "base-kept", *BEGIN, "patch-fetched", "patched", *TEST, "activated"),
        serves={"": 2, "activated": 4},
        ends=4,
    ),
    Scenario(
        name="overtaken",
        before=TRYING_2,
        actions=(install(4, on_probation=True),),
        steps=("start-counted", "stepped-back", "slot-retired", *BEGIN, *DOWNLOAD, *TEST, "activated"),
        serves={"": 2, "stepped-back": 1, "activated": 4},
        ends=4,
    ),
    Scenario(
        name="stage",
        before=((install(1), install(2)),),
        actions=(stage(3),),
        steps=("given-up", *BEGIN, *DOWNLOAD, *TEST, "staged"),
        serves={"": 2},
        ends=2,
        candidate=3,
    ),
    Scenario(
        name="change-and-drop-the-candidate",
        before=((install(1), stage(2)),),
        actions=(stage(2, share=0.5), ("drop",)),
        steps=("candidate-changed", "candidate-dropped", "slot-retired"),
        serves={"": 1},
        ends=1,
    ),
    Scenario(
        name="promote-the-candidate",
        before=((install(1), stage(2)),),
        actions=(install(2, on_probation=True),),
        steps=("intent-written", *TEST, "activated"),
        serves={"": 1, "activated": 2},
        ends=2,
    ),
    Scenario(
        name="commit",
        before=TRYING_2,
        actions=(("commit",),),
        steps=("start-counted", "committed"),
        serves={"": 2},
        ends=2,
    ),
    Scenario(
        name="roll-back",
        before=TRYING_2,
        actions=(("roll_back",),),
        steps=("start-counted", "refusal-written", "rolled-back", "slot-retired"),
        serves={"": 2, "refusal-written": 1},
        ends=1,
        refused=(2,),
    ),
    Scenario(
        name="roll-back-of-the-first",
        before=((install(1, on_probation=True),),),
        actions=(("roll_back",),),
        steps=("start-counted", "refusal-written", "slot-retired", "rolled-back"),
        serves={"": 1, "refusal-written": 0},
        ends=0,
        refused=(1,),
    ),
    Scenario(
        name="third-start",
        before=(*TRYING_2, "start-counted", "start-counted"),
        actions=(),
        steps=("start-counted", "refusal-written", "rolled-back", "slot-retired"),
        serves={"": 1},
        ends=1,
        refused=(2,),
    ),
    Scenario(
        name="orderly-end",
        before=TRYING_2,
        actions=(),
        steps=("start-counted", "start-taken-back"),
        serves={"": 2},
        ends=2,
    ),
)

KILLS = [
    pytest.param(scenario, step, id=f"{scenario.name}-{step}") for scenario in SCENARIOS for step in scenario.steps
]
# What a boot finds after a file was spoiled that says which slot is for what is a guess, so only updates are repeated.
UPDATE_KILLS = [
    pytest.param(scenario, step, id=f"{scenario.name}-{step}")
    for scenario in SCENARIOS
    for step in scenario.steps
    if any(action[0] == "install" for action in scenario.actions)
]


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    """Versions 1 to 4, sound patches from 1 to 2 and to 4, and a bad one from 1 to 3."""
    made = Catalogue(tmp_path_factory.mktemp("catalogue") / "source")
    for version in range(1, 5):
        made.publish(version)
    for version in (2, 4):
        made.publish_patch(1, version)
    made.offer_patch(1, 3, b"no patch at all")
    return made


@pytest.fixture(scope="module")
def process(catalogue: Catalogue) -> Iterator[subprocess.Popen[str]]:
    """Forks the lives."""
    with start_process(catalogue) as started:
        yield started


@pytest.fixture(scope="module")
def templates(process: subprocess.Popen[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A device ready for each scenario, as folders to copy."""
    folders = {}
    for scenario in SCENARIOS:
        device = Device(tmp_path_factory.mktemp(scenario.name) / "state", process)
        device.state.mkdir()
        for life in scenario.before:
            if isinstance(life, str):
                device.live(kill_at=life)
            else:
                device.live(*life)
        folders[scenario.name] = device.state
    return folders


@pytest.fixture
def device(tmp_path: Path, process: subprocess.Popen[str]) -> Device:
    """A device that never had a model."""
    return Device(tmp_path / "state", process)


def prepare(device: Device, templates: dict[str, Path], scenario: Scenario) -> None:
    """Bring it to where the scenario begins."""
    shutil.copytree(templates[scenario.name], device.state)


def test_each_step_is_in_a_scenario() -> None:
    """No step is persisted that no test kills the process at."""
    assert {step for scenario in SCENARIOS for step in scenario.steps} == {*STEPS}


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_scenario_passes_these_steps(device: Device, templates: dict[str, Path], scenario: Scenario) -> None:
    """Without a kill, in this order, to this end."""
    prepare(device, templates, scenario)
    lived = device.live(*scenario.actions)
    ended = lived.ended
    assert ended is not None
    assert lived.steps == scenario.steps
    assert (ended.version, ended.candidate, ended.refused) == (scenario.ends, scenario.candidate, scenario.refused)


@pytest.mark.parametrize(("scenario", "step"), KILLS)
def test_killed_at_each_step(device: Device, templates: dict[str, Path], scenario: Scenario, step: str) -> None:
    """The next boot serves what it should, right in its numbers, and the same life then comes to its end."""
    prepare(device, templates, scenario)
    device.live(*scenario.actions, kill_at=step)
    lived = device.live(*scenario.actions)
    assert lived.booted is not None
    assert lived.ended is not None
    assert lived.booted.version == scenario.booted_after(step)
    ended = lived.ended
    assert (ended.version, ended.candidate, ended.refused) == (scenario.ends, scenario.candidate, scenario.refused)


@pytest.mark.parametrize(("scenario", "step"), UPDATE_KILLS)
def test_killed_at_each_step_and_newest_file_cut(
    device: Device, templates: dict[str, Path], scenario: Scenario, step: str
) -> None:
    """Power went and took the last writes with it: something works if something did before, and the update ends."""
    prepare(device, templates, scenario)
    device.live(*scenario.actions, kill_at=step)
    device.cut_newest_file()
    lived = device.live(*scenario.actions)
    assert lived.booted is not None
    assert lived.ended is not None
    assert lived.booted.version or not scenario.serves[""]
    assert lived.ended.version == scenario.ends


@pytest.mark.parametrize("name", ["active.json", "slots/b/model.onnx", "slots/b/manifest.json"])
def test_cut_file_of_what_serves(device: Device, name: str) -> None:
    """A file of the active slot is cut: the device says so, serves what is sound, and installs version 2 again."""
    device.live(install(1), install(2))
    path = device.folder / name
    os.truncate(path, path.stat().st_size // 2)
    lived = device.live(install(2))
    assert lived.booted is not None
    assert lived.ended is not None
    assert lived.booted.version == (2 if name == "active.json" else 1)
    assert lived.booted.repaired
    assert lived.ended.version == 2


def test_a_hundred_updates_killed_at_random_times(device: Device, catalogue: Catalogue) -> None:
    """Patches or whole files, proven at once or on probation or committed: each boot has a model that works.

    What a life does takes as long as the machine is busy, so the times follow the lives that came to their end.
    """
    following = {1: 2, 2: 4, 4: 1}
    for base, version in following.items():
        catalogue.publish_patch(base, version)
    rng = random.Random(20260101)
    device.live(install(1))
    serves, killed, life_s = 1, 0, device.live(install(2), install(4), install(1)).lasted_s / 3
    passed: set[str] = set()
    for release in range(1, UPDATES + 1):
        wanted = following[serves]
        on_probation = rng.random() < 0.5
        base = rng.choice((0, serves))
        actions = [install(wanted, base=base, on_probation=on_probation, release=release)]
        if on_probation and rng.random() < 0.3:
            actions.append(("commit",))
        bare = [()] * rng.choice((0, 0, 1, 3))
        for life in (actions, *bare):
            lived = device.live(*life, kill_after_s=rng.uniform(0, 1.5 * life_s))
            assert lived.booted is not None
            assert lived.booted.version in following
            serves = lived.booted.version
            passed |= {*lived.steps}
            killed += lived.ended is None
            if lived.ended and life:
                serves, life_s = lived.ended.version, (life_s + lived.lasted_s) / 2
    assert killed > UPDATES // 10
    assert {"patched", "downloaded", "activated", "stepped-back"} <= passed
    ended = device.live(install(3)).ended
    assert ended is not None
    assert ended.version == 3
