"""Whatever happens to keys, projects and approvals: what is in force always verifies, for every device.

A state machine over the pure step: keys are taken away and brought back,
rotated, given to others who sign or do not; versions are approved and
withdrawn; time passes. After each step devices of different ages, with
python-tuf's client, find exactly what `signed_digests` says.
"""

from __future__ import annotations

import hashlib
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from securesystemslib.signer import CryptoSigner

from edgeward.protocol.digests import digest_of
from edgeward.protocol.model import Flavor, Signature
from edgeward.protocol.targets import SignedTarget, target_path
from edgeward_coordinator.errors import NotFound
from edgeward_coordinator.trust.charter import ONLINE_ROLES, TOP_ROLES, Charter, RoleKeys
from edgeward_coordinator.trust.metadata import encode, sign, valid_signers
from edgeward_coordinator.trust.repository import (
    Circumstances,
    Lifetimes,
    Repository,
    first_repository,
    may_sign,
    settle,
    waiting,
)
from tests.conftest import SetClock
from tests.coordinator.trust.follower import Follower

if TYPE_CHECKING:
    from securesystemslib.signer import Key, Signer

MODELS = ("digits", "vision-east", "vision-west", "voice")
PREFIXES = {"broad": "v", "vision": "vision-", "east": "vision-e"}
MAX_TARGETS = 3

roles = st.sampled_from(TOP_ROLES)
projects = st.sampled_from(sorted(PREFIXES))


def seeded_signer(number: int) -> Signer:
    """The same key in each run of the tests, or nothing that they find could be run again."""
    return CryptoSigner(Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"%d" % number).digest()))


KEYS = [seeded_signer(number) for number in range(64)]


def target(model: str, number: int) -> SignedTarget:
    """A flavor of a version."""
    flavor = Flavor(
        name="onnx-int8", format="onnx", precision="int8", digest=digest_of(f"{model}{number}".encode()),
        total_bytes=10, golden_digest=None, golden_bytes=0, signature=Signature(inputs=(), outputs=()),
    )  # fmt: skip
    return SignedTarget(model=model, version=number, flavor=flavor)


class Keeping(RuleBasedStateMachine):
    """A coordinator's trust, without its database."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self.clock = SetClock()
        self.all_signers: dict[str, Signer] = {}
        self.away: set[str] = set()
        self.wanted: dict[tuple[str, int], SignedTarget] = {}
        self.files: dict[str, bytes] = {}
        self.devices: list[Follower] = []

    def teardown(self) -> None:  # noqa: D102
        self._folder.cleanup()

    @initialize()
    def start(self) -> None:
        """All keys are here."""
        self.charter = Charter(roles={role: self.new_signers() for role in TOP_ROLES})
        self.repository = first_repository(self.given())
        self.publish(self.repository)

    def new_signers(self) -> RoleKeys:
        """A role's one key."""
        key = self.new_key()
        return RoleKeys(keys={key.keyid: key})

    def new_key(self) -> Key:
        """A key that is here."""
        signer = KEYS[len(self.all_signers)]
        self.all_signers[signer.public_key.keyid] = signer
        return signer.public_key

    def given(self) -> Circumstances:
        """As they are now."""
        return Circumstances(
            charter=self.charter,
            wanted=list(reversed(self.wanted.values())),
            signers={key_id: each for key_id, each in self.all_signers.items() if key_id not in self.away},
            lifetimes=Lifetimes(),
            max_targets=MAX_TARGETS,
            now=self.clock(),
        )

    def publish(self, after: Repository) -> None:
        """Put into the files what is in force."""
        for role, metadata in after.documents().items():
            name = f"{role}.json" if role == "timestamp" else f"{metadata.signed.version}.{role}.json"
            content = encode(metadata)
            # What was in force once never changes.
            assert role == "timestamp" or self.files.setdefault(name, content) == content
            self.files[name] = content
        self.repository = after

    def file(self, name: str) -> bytes:
        """As a device asks."""
        if name not in self.files:
            raise NotFound(name)
        return self.files[name]

    @rule(model=st.sampled_from(MODELS), number=st.integers(1, 3))
    def approve(self, model: str, number: int) -> None:
        """Or approve again."""
        self.wanted.pop((model, number), None)
        self.wanted[model, number] = target(model, number)

    @precondition(lambda self: self.wanted)
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        """One of those that are approved."""
        del self.wanted[data.draw(st.sampled_from(sorted(self.wanted)))]

    @rule(role=roles | projects, data=st.data())
    def change_keys(self, role: str, data: st.DataObject) -> None:
        """Another key, perhaps without the former ones, perhaps with a higher threshold; perhaps held elsewhere."""
        if role not in self.charter.roles and role not in self.charter.projects:
            return
        former = list(self.charter.signers_of(role).keys)
        if len(former) > 3:
            former = former[:-1]
        remove = data.draw(st.sampled_from([former, former[:1], []]))
        key = self.new_key()
        if role not in ONLINE_ROLES and data.draw(st.booleans()):
            self.away.add(key.keyid)
        left = len(self.charter.signers_of(role).keys) - len(remove) + 1
        most = 1 if role in ONLINE_ROLES else min(left, 3)
        threshold = data.draw(st.integers(1, most))
        self.charter = self.charter.with_keys(role, add=[key], remove=remove, threshold=threshold)

    @rule(data=st.data())
    def move_keys(self, data: st.DataObject) -> None:
        """Keys of root, targets and projects leave the coordinator, or come back."""
        online = {key_id for role in ONLINE_ROLES for key_id in self.charter.roles[role].keys}
        online |= {key_id for role in ONLINE_ROLES for key_id in self.repository.root.signed.roles[role].keyids}
        key_id = data.draw(st.sampled_from(list(self.all_signers)))
        if key_id not in online:
            self.away ^= {key_id}

    @rule(name=projects, is_elsewhere=st.booleans())
    def put_project(self, name: str, *, is_elsewhere: bool) -> None:
        """New, or with another key."""
        signers = self.new_signers()
        if is_elsewhere:
            self.away |= signers.keys.keys()
        self.charter = self.charter.with_project(name, prefix=PREFIXES[name], signers=signers)

    @rule(name=projects)
    def remove_project(self, name: str) -> None:
        """If there is one."""
        if name in self.charter.projects:
            self.charter = self.charter.without_project(name)

    @rule(data=st.data())
    def sign_elsewhere(self, data: st.DataObject) -> None:
        """Somebody brings the signatures of some keys for some of what waits."""
        pending = dict(self.repository.pending)
        for role in sorted(waiting(self.repository, self.charter)):
            keys = may_sign(self.repository, self.charter, role)
            mine = [key_id for key_id in self.all_signers if key_id in keys]
            chosen = data.draw(st.lists(st.sampled_from(mine), unique=True, max_size=3))
            metadata: Any = type(pending[role])(pending[role].signed, dict(pending[role].signatures))
            sign(metadata, [self.all_signers[key_id] for key_id in chosen])
            assert valid_signers(metadata, keys) >= set(chosen)
            pending[role] = metadata
        self.repository = Repository(
            root=self.repository.root, targets=self.repository.targets, snapshot=self.repository.snapshot,
            timestamp=self.repository.timestamp, pending=pending,
        )  # fmt: skip

    @rule(hours=st.sampled_from([1, 13, 100]))
    def pass_time(self, hours: int) -> None:
        """Less than what is signed elsewhere lives, in all."""
        self.clock.advance(timedelta(hours=hours))

    @precondition(lambda self: len(self.devices) < 4)
    @rule()
    def enroll(self) -> None:
        """A device with the root of today; each follows at its own pace from then on."""
        folder = Path(self._folder.name) / str(len(self.devices))
        self.devices.append(Follower(folder, encode(self.repository.root), self.file, self.clock))

    @invariant()
    def devices_find_what_is_signed(self) -> None:
        """And nothing else; a second step changes nothing."""
        self.publish(settle(self.repository, self.given()))
        assert settle(self.repository, self.given()) is self.repository
        signed = self.repository.signed_digests()
        for device in self.devices:
            updater = device.refresh()
            for model in MODELS:
                for number in range(1, 4):
                    path = target_path(model, number, "onnx-int8")
                    found = updater.get_targetinfo(path)
                    assert (found and found.hashes["sha256"]) == signed.get(path)

    @invariant()
    def nothing_waits_that_could_be_signed_here(self) -> None:
        """What waits lacks a key that is elsewhere."""
        for role in waiting(self.repository, self.charter):
            wanted = may_sign(self.repository, self.charter, role).keys()
            assert wanted & self.away

    @invariant()
    def with_all_keys_here_all_is_as_it_should_be(self) -> None:
        """Where no key is elsewhere: every role is as decided, and all that is approved is signed, up to the bound."""
        if self.away:
            return
        assert not self.repository.pending
        assert self.repository.projects == self.charter.projects
        for role in TOP_ROLES:
            assert set(self.repository.root.signed.roles[role].keyids) == self.charter.roles[role].keys.keys()
        if len(self.wanted) <= MAX_TARGETS:
            paths = {target_path(model, number, "onnx-int8") for model, number in self.wanted}
            assert self.repository.signed_digests().keys() == paths


TestKeeping = Keeping.TestCase
TestKeeping.settings = settings(
    max_examples=40, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)
