"""The fleet CA of a database, and folders that are lost or another's."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from edgeward_coordinator.errors import FailedPrecondition
from edgeward_coordinator.identity import FleetCA, open_fleet_ca

if TYPE_CHECKING:
    from pathlib import Path

    from edgeward_coordinator.storage import Database
    from tests.conftest import SetClock


def test_the_same_folder_opens_again(database: Database, tmp_path: Path) -> None:
    """With the same CA."""
    first = open_fleet_ca(database, tmp_path / "ca")
    assert open_fleet_ca(database, tmp_path / "ca").fingerprint == first.fingerprint


def test_a_lost_folder_is_not_replaced(database: Database, tmp_path: Path) -> None:
    """A new CA would shut out every device; nothing is made."""
    open_fleet_ca(database, tmp_path / "ca")
    shutil.rmtree(tmp_path / "ca")
    with pytest.raises(FailedPrecondition, match="put the folder back from a backup"):
        open_fleet_ca(database, tmp_path / "ca")
    assert not (tmp_path / "ca").exists()


def test_another_fleets_folder_is_refused(database: Database, clock: SetClock, tmp_path: Path) -> None:
    """By the fingerprint that the database noted."""
    open_fleet_ca(database, tmp_path / "ca")
    FleetCA.load_or_create(tmp_path / "other", clock=clock)
    with pytest.raises(FailedPrecondition, match="is not that of the database's fleet"):
        open_fleet_ca(database, tmp_path / "other")


def test_a_start_that_broke_off_is_completed(database: Database, clock: SetClock, tmp_path: Path) -> None:
    """The CA was made, and the database had not heard of it."""
    made = FleetCA.load_or_create(tmp_path / "ca", clock=clock)
    assert open_fleet_ca(database, tmp_path / "ca").fingerprint == made.fingerprint


def test_of_those_that_start_together_one_wins(database: Database, tmp_path: Path) -> None:
    """The others say so, and don't sign devices that nobody else would know."""

    def start(number: int) -> str:
        try:
            return open_fleet_ca(database, tmp_path / str(number)).fingerprint
        except FailedPrecondition:
            return ""

    with ThreadPoolExecutor(4) as pool:
        assert len([each for each in pool.map(start, range(4)) if each]) == 1
