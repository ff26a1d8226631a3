"""The whole journey on shared stores: a real PostgreSQL and a bucket behind the S3 protocol."""

from __future__ import annotations

import json
import urllib.request
from typing import TYPE_CHECKING

import numpy as np
import psycopg
import pytest
from moto.server import ThreadedMotoServer

from tests.integration.models import X, deploy_scale
from tests.integration.processes import Coordinator
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.integration.processes import Device
    from tests.postgres import PostgresServer


@pytest.fixture
def bucket() -> Iterator[str]:
    """An S3 server with the bucket `fleet`; its endpoint."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    urllib.request.urlopen(urllib.request.Request(f"{endpoint}/fleet", method="PUT")).close()
    yield endpoint
    server.stop()


@pytest.mark.postgres
def test_the_journey_on_postgresql_and_s3(
    postgres: PostgresServer, bucket: str, make_device: Callable[..., Device], tmp_path: Path
) -> None:
    """Two options of `serve`, and nothing else is different: enroll, push, deploy, predict, report, verify."""
    url = postgres.create_database()
    environment = {
        "AWS_ENDPOINT_URL": bucket,
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_REGION": "us-east-1",
    }
    stores = ["--database-url", url, "--object-store", "s3://fleet/lab"]
    coordinator = Coordinator(tmp_path / "coordinator", *stores, environment=environment)
    try:
        coordinator.start()
        admin = coordinator.admin(tmp_path / "config")
        device = make_device("north")
        device.join(admin)
        deploy_scale(admin, tmp_path / "model", device)
        answer = device.predict(np.repeat(X, 3, axis=0)).document
        assert answer["outputs"]["y"] == [(X[0] * 2).tolist()] * 3
        wait_until(lambda: admin.predictions_of("north") == 3, what="the report")
        assert admin("audit", "verify").code == 0
        assert coordinator.stop() == 0
    finally:
        coordinator.kill()
    assert not list(coordinator.data_dir.rglob("*.db"))
    assert not list((coordinator.data_dir / "objects").rglob("*")) or not (coordinator.data_dir / "objects").exists()
    with urllib.request.urlopen(f"{bucket}/fleet?list-type=2&prefix=lab/") as listing:
        assert listing.read().count(b"<Key>") >= 2
    with psycopg.connect(url.replace("postgresql+psycopg", "postgresql")) as link:
        assert link.execute("SELECT count(*) FROM device").fetchone() == (1,)
    assert json.loads((device.state_dir / "identity" / "identity.json").read_text())
