"""The other side of signed metadata: a TUF repository in memory, honest until a test turns a knob.

After python-tuf's own `RepositorySimulator`. `publish` signs what changed, as a
coordinator does; `read` is what a device is given. The knobs are plain
attributes: `replaced` puts other bytes in a file's place, `withheld` hides
files; and the metadata objects themselves (`root`, `targets`, …) can be bent
before a `publish`, the keys (`signers`) exchanged.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from edgeward.protocol.targets import SIGNED_AT_FIELD, SignedTarget, custom_of_target, target_path

if TYPE_CHECKING:
    from edgeward.protocol.state import DesiredModel

TOP = ("root", "targets", "snapshot", "timestamp")


class SimulatedRepository:
    """A fleet's root of trust; another instance is another fleet's.

    Args:
        now: When it signs; moves only where a test moves it.
        root_keys: How many keys root has; `root_threshold` of them have to sign.
    """

    def __init__(self, *, now: datetime | None = None, root_keys: int = 1, root_threshold: int = 1) -> None:
        self.now = now or datetime.now(UTC).replace(microsecond=0)
        self.lifetimes = {
            "root": timedelta(days=365),
            "targets": timedelta(days=90),
            "snapshot": timedelta(days=7),
            "timestamp": timedelta(days=1),
        }
        self.replaced: dict[str, bytes] = {}
        self.withheld: set[str] = set()
        self.asked: list[str] = []
        self.signers: dict[str, list[CryptoSigner]] = {
            name: [CryptoSigner.generate_ed25519() for _ in range(root_keys if name == "root" else 1)] for name in TOP
        }
        self.roots: list[bytes] = []
        self.files: dict[str, bytes] = {}
        self.root = Root(consistent_snapshot=True)
        self.root.version = 0
        self.targets = Targets()
        self.targets.version = 0
        self.snapshot = Snapshot()
        self.snapshot.version = 0
        self.timestamp = Timestamp()
        self.timestamp.version = 0
        self.projects: dict[str, Targets] = {}
        for name in TOP:
            for signer in self.signers[name]:
                self.root.add_key(signer.public_key, name)
        self.root.roles["root"].threshold = root_threshold
        self.publish_root()
        self.publish()

    # What a device is given.

    def read(self, name: str) -> bytes | None:
        """A file of metadata."""
        self.asked.append(name)
        if name in self.withheld:
            return None
        return self.replaced.get(name, self.files.get(name))

    async def fetch(self, name: str, max_bytes: int) -> bytes | None:
        """`FetchMetadata` of one who keeps to no bound."""
        del max_bytes
        return self.read(name)

    # What its owners do.

    def sign_target(self, target: SignedTarget, *, role: str = "targets", length: int | None = None) -> None:
        """Put a target in a role's metadata, from the next `publish` on."""
        path = target_path(target.model, target.version, target.flavor.name)
        self.targets_of(role).targets[path] = TargetFile(
            length=target.flavor.total_bytes if length is None else length,
            hashes={"sha256": target.flavor.digest},
            path=path,
            unrecognized_fields={"custom": custom_of_target(target)},
        )

    def sign_desired(self, model: DesiredModel) -> None:
        """Sign whatever a desired state names, what is signed already excepted, and publish."""
        offers = [(model.version, model.flavors)]
        if model.candidate is not None:
            offers.append((model.candidate.version, model.candidate.flavors))
        new = [
            SignedTarget(model=model.model, version=version, flavor=flavor)
            for version, flavors in offers
            for flavor in flavors
            if not self.is_signed(target_path(model.model, version, flavor.name))
        ]
        for target in new:
            self.sign_target(target)
        if new:
            self.publish()

    def is_signed(self, path: str) -> bool:
        """Whether any role has it."""
        return any(path in role.targets for role in (self.targets, *self.projects.values()))

    def withdraw(self, path: str, *, role: str = "targets") -> None:
        """Take a target out, from the next `publish` on."""
        del self.targets_of(role).targets[path]

    def targets_of(self, role: str) -> Targets:
        """The metadata of targets, or of a project."""
        return self.targets if role == "targets" else self.projects[role]

    def add_project(self, name: str, *, prefix: str) -> None:
        """A role whose key signs models of one prefix, from the next `publish` on."""
        self.signers[name] = [CryptoSigner.generate_ed25519()]
        delegations = self.targets.delegations or Delegations(keys={}, roles={})
        assert delegations.roles is not None
        delegations.roles[name] = DelegatedRole(
            name=name, keyids=[], threshold=1, terminating=True, paths=[f"models/{prefix}*/*/*"]
        )
        self.targets.delegations = delegations
        self.targets.add_key(self.signers[name][0].public_key, name)
        self.projects[name] = Targets()
        self.projects[name].version = 0

    def rotate(self, role: str) -> None:
        """Exchange the keys of a role; a root is signed with both, the former and the new."""
        former = self.signers[role]
        self.signers[role] = [CryptoSigner.generate_ed25519() for _ in former]
        delegator = self.root if role in TOP else self.targets
        for signer in former:
            delegator.revoke_key(signer.public_key.keyid, role)
        for signer in self.signers[role]:
            delegator.add_key(signer.public_key, role)
        if role in TOP:
            self.publish_root(also=former if role == "root" else ())
        self.publish()

    def publish_root(self, *, also: Any = (), signers: Any = None) -> None:
        """The next version of root."""
        self.root.version += 1
        self.root.expires = self.now + self.lifetimes["root"]
        metadata = Metadata(self.root)
        for signer in (*(self.signers["root"] if signers is None else signers), *also):
            metadata.sign(signer, append=True)
        self.files[f"{self.root.version}.root.json"] = metadata.to_bytes()
        self.roots.append(metadata.to_bytes())

    def publish(self) -> None:
        """The next version of everything but root."""
        for name, project in self.projects.items():
            self._publish(name, project, self.lifetimes.get(name, self.lifetimes["targets"]))
        self._publish("targets", self.targets, self.lifetimes["targets"])
        self._publish("snapshot", self.snapshot, self.lifetimes["snapshot"])
        self.publish_timestamp()

    def publish_timestamp(self) -> None:
        """The next version of the timestamp alone, as a coordinator renews it."""
        self.timestamp.snapshot_meta = self._meta("snapshot", self.snapshot)
        self.timestamp.unrecognized_fields = {SIGNED_AT_FIELD: self.now.isoformat()}
        self._publish("timestamp", self.timestamp, self.lifetimes["timestamp"])

    def _publish(self, name: str, signed: Any, lifetime: timedelta) -> None:
        signed.version += 1
        signed.expires = self.now + lifetime
        metadata = Metadata(signed)
        for signer in self.signers[name]:
            metadata.sign(signer, append=True)
        content = metadata.to_bytes()
        self.files["timestamp.json" if name == "timestamp" else f"{signed.version}.{name}.json"] = content
        if name not in ("snapshot", "timestamp"):
            self.snapshot.meta[f"{name}.json"] = self._meta(name, signed)

    def _meta(self, name: str, signed: Any) -> MetaFile:
        content = self.files[f"{signed.version}.{name}.json"]
        return MetaFile.from_data(signed.version, content, ["sha256"])
