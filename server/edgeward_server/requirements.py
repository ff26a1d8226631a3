"""Who may call what: the one table. A method that is not in it is refused.

Roles include the ones before them. A test compares the table with the
descriptors, so a new method without a line here fails the build.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from edgeward_coordinator.access import Role
from edgeward_coordinator.errors import PermissionDenied, Unauthenticated

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgeward_server.callers import Caller


class Whoever(Enum):
    """What is needed where it is no operator's role."""

    ANYONE = "anyone"
    DEVICE = "device"


ANYONE, DEVICE = Whoever.ANYONE, Whoever.DEVICE


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """What a method needs of its caller.

    Attributes:
        needs: A role, a device, or nothing.
        deed: What the method does, as the subject of a sentence: "revoking a device".
        endless: A stream that only its client or the server's stop ends.
        at_once: So many calls at the same time at most; 0 for no bound of its own.
    """

    needs: Role | Whoever
    deed: str
    endless: bool = False
    at_once: int = 0

    def verify_met_by(self, caller: Caller) -> None:
        """Let the caller through, or say why not.

        Raises:
            Unauthenticated: Nobody in particular calls.
            PermissionDenied: A device where an operator is needed, the reverse, or too low a role.
        """
        if self.needs is ANYONE:
            return
        if caller.device is None and caller.principal is None:
            raise self._ask_for_credential()
        if isinstance(self.needs, Role):
            self._verify_role(self.needs, caller)
        elif caller.device is None:
            raise PermissionDenied(f"{self.deed} is for devices; {caller.description} is none")

    def _verify_role(self, needed: Role, caller: Caller) -> None:
        if caller.principal is None:
            raise PermissionDenied(f"{self.deed} is for operators; {caller.description} is none")
        if caller.principal.role < needed:
            raise PermissionDenied(
                f"{self.deed} needs the role {needed.word}; {caller.description} has {caller.principal.role.word}",
                hint="ask an admin for a token with that role",
            )

    def _ask_for_credential(self) -> Unauthenticated:
        if self.needs is DEVICE:
            return Unauthenticated(
                f"{self.deed} needs a device's certificate, and this connection showed none",
                hint="devices call on the device port, once they are enrolled",
            )
        return Unauthenticated(
            f"{self.deed} needs an operator, and this call came with no token and no certificate",
            hint="log in first: edgeward login ADDRESS --token TOKEN",
        )


def _lines(service: str, **methods: Requirement) -> dict[str, Requirement]:
    return {f"/{service}/{name}": requirement for name, requirement in methods.items()}


def _need(needs: Role | Whoever, deed: str, *, endless: bool = False, at_once: int = 0) -> Requirement:
    return Requirement(needs=needs, deed=deed, endless=endless, at_once=at_once)


REQUIREMENTS: Mapping[str, Requirement] = {
    **_lines(
        "edgeward.v1.AccessService",
        WhoAmI=_need(Role.VIEWER, "asking who one is"),
        CreateToken=_need(Role.ADMIN, "creating a token"),
        ListTokens=_need(Role.ADMIN, "listing credentials"),
        RevokeToken=_need(Role.ADMIN, "revoking a credential"),
        IssueCertificate=_need(Role.ADMIN, "issuing an operator's certificate"),
    ),
    **_lines(
        "edgeward.v1.AgentService",
        Session=_need(DEVICE, "a session", endless=True),
        Fetch=_need(DEVICE, "fetching an artifact"),
        Report=_need(DEVICE, "reporting telemetry"),
        Exchange=_need(DEVICE, "exchanging a run's messages"),
    ),
    **_lines(
        "edgeward.v1.AuditService",
        ListEntries=_need(Role.VIEWER, "reading the audit log"),
        VerifyChain=_need(Role.VIEWER, "verifying the audit log"),
    ),
    **_lines(
        "edgeward.v1.DeploymentService",
        SetDeployment=_need(Role.OPERATOR, "deploying a version"),
        RemoveDeployment=_need(Role.OPERATOR, "removing a deployment"),
        ListDeployments=_need(Role.VIEWER, "listing deployments"),
        StartRollout=_need(Role.OPERATOR, "starting a rollout"),
        ListRollouts=_need(Role.VIEWER, "listing rollouts"),
        GetRollout=_need(Role.VIEWER, "looking at a rollout"),
        WatchRollout=_need(Role.VIEWER, "watching a rollout", endless=True),
        ControlRollout=_need(Role.OPERATOR, "controlling a rollout"),
    ),
    **_lines(
        "edgeward.v1.EnrollmentService",
        # Open to all that can reach the port: each costs a signature and a write, so only a few at a time.
        Enroll=_need(ANYONE, "enrolling", at_once=8),
        Renew=_need(DEVICE, "renewing a certificate"),
    ),
    **_lines(
        "edgeward.v1.FederationService",
        StartRun=_need(Role.OPERATOR, "starting a run"),
        StopRun=_need(Role.OPERATOR, "stopping a run"),
        ListRuns=_need(Role.VIEWER, "listing runs"),
        GetRun=_need(Role.VIEWER, "looking at a run"),
        WatchRun=_need(Role.VIEWER, "watching a run", endless=True),
    ),
    **_lines(
        "edgeward.v1.FleetService",
        CreateEnrollmentToken=_need(Role.OPERATOR, "creating an enrollment token"),
        ListDevices=_need(Role.VIEWER, "listing devices"),
        GetDevice=_need(Role.VIEWER, "looking at a device"),
        WatchDevices=_need(Role.VIEWER, "watching devices", endless=True),
        RevokeDevice=_need(Role.OPERATOR, "revoking a device"),
        UpdateDevice=_need(Role.OPERATOR, "changing a device"),
    ),
    **_lines(
        "edgeward.v1.JobService",
        StartCompression=_need(Role.OPERATOR, "compressing a model"),
        ListJobs=_need(Role.VIEWER, "listing jobs"),
        WatchJob=_need(Role.VIEWER, "watching a job", endless=True),
    ),
    **_lines(
        "edgeward.v1.RegistryService",
        UploadArtifact=_need(Role.OPERATOR, "uploading an artifact"),
        CreateVersion=_need(Role.OPERATOR, "creating a version"),
        ListModels=_need(Role.VIEWER, "listing models"),
        GetModel=_need(Role.VIEWER, "looking at a model"),
        DownloadArtifact=_need(Role.VIEWER, "downloading an artifact"),
        ApproveVersion=_need(Role.APPROVER, "approving a version"),
        WithdrawVersion=_need(Role.APPROVER, "withdrawing a version"),
    ),
    **_lines(
        "edgeward.v1.TrustService",
        GetTrust=_need(Role.VIEWER, "looking at who signs"),
        ChangeRole=_need(Role.ADMIN, "changing who signs"),
        PutProject=_need(Role.ADMIN, "changing a project"),
        RemoveProject=_need(Role.ADMIN, "removing a project"),
        ExportPending=_need(Role.VIEWER, "exporting what waits for signatures"),
        ImportSigned=_need(Role.APPROVER, "importing signatures"),
    ),
    # Load balancers and probes have no credential; what they learn is whether the process serves.
    **_lines(
        "grpc.health.v1.Health",
        Check=_need(ANYONE, "a health check"),
        Watch=_need(ANYONE, "a health check", endless=True),
    ),
    # What reflection tells is in the repository for all to read.
    **_lines(
        "grpc.reflection.v1alpha.ServerReflection",
        ServerReflectionInfo=_need(ANYONE, "reflection", endless=True),
    ),
}
