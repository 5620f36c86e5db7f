"""A session's cluster without kind: an API server that forwards ports, and a real scheduler with TLS behind it."""

from __future__ import annotations

import asyncio
import datetime
import threading
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from distributed import Scheduler, Worker
from distributed.security import Security
from machine import wait_until
from modules import load_module

_FAKES = Path(__file__).parents[2] / "unit" / "client" / "conftest.py"
fixtures = load_module(_FAKES, "fake_api_fixtures")
api = fixtures.api

JOBS = "/apis/dask-training.io/v1alpha1/namespaces/default/dasktrainingjobs"


def pem(thing) -> str:
    return thing.public_bytes(serialization.Encoding.PEM).decode()


class Authority:
    """Signs as the operator does."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "CA")])
        self.certificate = self._built(self.name, self.key.public_key(), x509.BasicConstraints(True, 0))

    def _built(self, name, key, constraints):
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(self.name).public_key(key)
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=1))
        builder = builder.not_valid_after(now + datetime.timedelta(hours=1)).add_extension(constraints, critical=True)
        return builder.sign(self.key, hashes.SHA256())

    def sign(self, request: str) -> str:
        csr = x509.load_pem_x509_csr(request.encode())
        return pem(self._built(csr.subject, csr.public_key(), x509.BasicConstraints(False, None)))

    def security(self) -> Security:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "cluster")])
        leaf = pem(self._built(name, key.public_key(), x509.BasicConstraints(False, None)))
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()
        roles = {
            f"tls_{role}_{part}": text
            for role in ("scheduler", "worker")
            for part, text in (("cert", leaf), ("key", private))
        }
        return Security(require_encryption=True, tls_ca_file=pem(self.certificate), **roles)


class Operator:
    """Stands for the operator: for a Session it starts a scheduler and workers, in a thread of this process."""

    def __init__(self, api) -> None:
        self.api = api
        self.workers: list[Worker] = []
        self.scheduler: Scheduler | None = None
        self.authority = Authority()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()

    def jobs(self) -> list[dict]:
        return [body for (place, _), body in list(self.api.objects.items()) if place == JOBS]

    async def _run(self) -> None:
        while not self._stop.is_set():
            for body in self.jobs():
                if body.get("status", {}).get("phase") != "Failed":
                    await self._serve(body)
            await asyncio.sleep(0.02)

    async def _serve(self, body) -> None:
        from dask_training.api import Role, child_name

        name, security = body["metadata"]["name"], self.authority.security()
        async with Scheduler(
            host="127.0.0.1", port=0, protocol="tls", dashboard_address="127.0.0.1:0", security=security
        ) as made:
            self.scheduler = made
            pod = child_name(name, body["metadata"]["uid"], 1, Role.SCHEDULER)
            self.api.ports[pod, 8786] = ("127.0.0.1", made.port)
            self.api.ports[pod, 8787] = ("127.0.0.1", made.http_server.port)
            self.api.pod(pod, "scheduler", body)
            self.api.logs[pod] = fixtures.fake_api.LogScript("the scheduler's line")
            session = {
                "certificate": self.authority.sign(body["spec"]["session"]["certificateSigningRequest"]),
                "certificateAuthority": pem(self.authority.certificate),
            }
            address = "tls://10.96.0.9:8786"
            self.api.status(name, phase="Running", attempt=1, schedulerAddress=address, session=session, message="")
            while not self._stop.is_set() and (body := self.api.objects.get((JOBS, name))) is not None:
                if body["status"]["phase"] == "Failed":  # a test has said so
                    break
                await self._have(body["spec"]["workers"]["replicas"], made, security)
                await asyncio.sleep(0.02)
            await asyncio.gather(*(worker.close() for worker in self.workers))
            self.workers.clear()

    async def _have(self, count: int, scheduler: Scheduler, security: Security) -> None:
        while len(self.workers) < count:
            worker = Worker(
                scheduler.address,
                nthreads=1,
                security=security,
                name=f"worker-{len(self.workers)}",
                host="127.0.0.1",
                dashboard_address=None,
            )
            self.workers.append(await worker)
        while len(self.workers) > count:
            await self.workers.pop().close()


@pytest.fixture
def operator(api, tmp_path, monkeypatch):
    """Serves the sessions of the API server; the user's state is in a folder of the test's own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    found = Operator(api)
    yield found
    found.close()


@pytest.fixture
def until():
    """`wait_until`, for tests."""
    return wait_until
