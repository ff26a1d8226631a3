"""What a coordinator's process is started with. The command line fills it; nothing below reads the environment."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from edgeward_coordinator.errors import InvalidArgument

if TYPE_CHECKING:
    from pathlib import Path

    from edgeward_coordinator.trust import ApprovalRule
    from edgeward_server.logs import LogFormat

DEFAULT_PORT = 7443
DEFAULT_DEVICE_PORT = 7444

_WILDCARDS = {"0.0.0.0", "::", "[::]"}  # noqa: S104 - recognised, not bound
_LEAST_HEARTBEAT_S = 0.1


def join_address(host: str, port: int) -> str:
    """To `host:port`, with the brackets that an IPv6 address needs.

    >>> join_address("::1", 7443)
    '[::1]:7443'
    """
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """Everything that a coordinator's process is told.

    Attributes:
        data_dir: Where this coordinator keeps what it keeps: the fleet CA, and by default database and objects.
        host: The address to listen on; the default is every interface.
        port: For operators with tokens and for enrollment; 0 takes a free one.
        device_port: For devices, and operators with certificates; 0 takes a free one.
        advertise: More names and addresses under which the coordinator is reached; they go into its certificate.
        database_url: None for SQLite in the data folder.
        object_store: A folder or `s3://bucket/prefix`; None for a folder in the data folder.
        heartbeat_s: How often devices say that they live; after three missed they are offline.
        device_certificate_lifetime: Devices renew at two thirds of it.
        approval: Who may approve a version: anybody with the role, or another one than who pushed it.
        database_patience_s: So long a start waits for the database.
        drain_s: So long a stop waits for calls in progress.
        log_format: JSON for machines, console for people.
        log_level: The least that is logged.
    """

    data_dir: Path
    host: str = "0.0.0.0"  # noqa: S104 - devices come from outside; TLS always, certificates for all but enrollment
    port: int = DEFAULT_PORT
    device_port: int = DEFAULT_DEVICE_PORT
    advertise: tuple[str, ...] = ()
    database_url: str | None = None
    object_store: str | None = None
    heartbeat_s: float = 30.0
    device_certificate_lifetime: timedelta = timedelta(days=90)
    approval: ApprovalRule = "any"
    database_patience_s: float = 60.0
    drain_s: float = 5.0
    log_format: LogFormat = "console"
    log_level: str = "INFO"

    def __post_init__(self) -> None:
        for name, port in (("port", self.port), ("device port", self.device_port)):
            if not 0 <= port < 1 << 16:
                raise InvalidArgument(f"{port} is no {name}", hint="give one from 0 to 65535")
        if self.port == self.device_port != 0:
            raise InvalidArgument(
                f"port and device port are both {self.port}",
                hint="they are two listeners: one asks for certificates, the other doesn't",
            )
        if not self.heartbeat_s >= _LEAST_HEARTBEAT_S:
            raise InvalidArgument(f"a heartbeat each {self.heartbeat_s} s", hint=f"give {_LEAST_HEARTBEAT_S} s or more")

    @property
    def layout(self) -> DataLayout:
        """Where in the data folder what lives."""
        return DataLayout(root=self.data_dir)

    @property
    def effective_database_url(self) -> str:
        """The URL given, else that of the file in the data folder."""
        return self.database_url or f"sqlite:///{self.layout.database}"

    @property
    def effective_object_store(self) -> str:
        """The store given, else the folder in the data folder."""
        return self.object_store or str(self.layout.objects)

    @property
    def listens_everywhere(self) -> bool:
        """Whether `host` is no address that somebody could connect to."""
        return self.host in _WILDCARDS


@dataclass(frozen=True, slots=True, kw_only=True)
class DataLayout:
    """The data folder."""

    root: Path

    @property
    def database(self) -> Path:
        """SQLite's file."""
        return self.root / "data" / "edgeward.db"

    @property
    def objects(self) -> Path:
        """Artifacts by digest."""
        return self.root / "objects"

    @property
    def ca(self) -> Path:
        """The fleet CA's key and certificate, and the server's own."""
        return self.root / "ca"

    @property
    def trust(self) -> Path:
        """The private keys that sign what may run."""
        return self.root / "trust"

    @property
    def runs(self) -> Path:
        """Journals of federated runs."""
        return self.root / "runs"

    @property
    def jobs(self) -> Path:
        """Working folders of jobs."""
        return self.root / "jobs"

    @property
    def scratch(self) -> Path:
        """Uploads in progress and files under examination."""
        return self.root / "scratch"

    @property
    def lock(self) -> Path:
        """Held by the process that uses the folder."""
        return self.root / "lock"

    @property
    def server_file(self) -> Path:
        """Where the running process is found: addresses, CA fingerprint, process id."""
        return self.root / "server.json"
