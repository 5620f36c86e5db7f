"""The operator as a whole on the fake server: works, says how it is, and ends when told to."""

import asyncio
import logging
import os
import signal
import time

import aiohttp
import pytest
from machine import free_port, slowdown

from dask_training.handlers import main
from dask_training.kube.resources import JOBS
from dask_training.reconcile import Plan
from dask_training.settings import OperatorSettings

KEY = ("team", "forest")


@pytest.fixture
def settings():
    return OperatorSettings(namespace="system", health_port=free_port(), lease_name="op", key=b"0123456789abcdef")


@pytest.fixture
def whole(kubernetes, monkeypatch, tmp_path, settings):
    """The operator under way; `code` is what it ended with."""
    logging.getLogger("kopf").setLevel(logging.CRITICAL)

    def planner(job, observed, now):
        return Plan() if job.get("status") else Plan(status={"phase": "Starting", "attempt": 1})

    class Whole(kubernetes):
        async def __aenter__(self):
            await super().__aenter__()
            monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
            self.before = asyncio.all_tasks()
            self.task = asyncio.create_task(main.run(settings, planner))
            return self

        async def ask(self, path):
            url = f"http://127.0.0.1:{settings.health_port}{path}"
            async with aiohttp.ClientSession() as session, session.get(url) as response:
                return response.status, await response.text()

        async def __aexit__(self, *_):
            if not self.task.done():
                os.kill(os.getpid(), signal.SIGTERM)
                await self.task
            others = asyncio.all_tasks() - self.before
            for task in others:
                task.cancel()
            self.api.cut_watches()
            if others:
                await asyncio.wait(others, timeout=3)
            await super().__aexit__(*_)

    yield Whole
    logging.getLogger("kopf").setLevel(logging.NOTSET)


@pytest.fixture
def phase():
    def phase(kube):
        return (kube.api.objects.get(("dasktrainingjobs", *KEY), {}).get("status") or {}).get("phase")

    return phase


def test_it_works_says_so_and_ends_at_once_when_told_to(run, until, whole, job, phase, monkeypatch):
    async def scene():
        async with whole() as kube:
            await until(lambda: kube.api.names("Lease"))
            kube.api.put(JOBS.kind, job())
            await until(lambda: phase(kube) == "Starting")
            assert await kube.ask("/healthz") == (200, "ok")
            assert (await kube.ask("/readyz"))[0] == 200
            text = (await kube.ask("/metrics"))[1]
            assert "dasktraining_leader 1.0" in text
            assert 'dasktraining_jobs{phase="Starting"} 1.0' in text
            monkeypatch.setattr(main, "SHUTDOWN_SECONDS", 1.5 * slowdown())
            started = time.monotonic()
            os.kill(os.getpid(), signal.SIGTERM)
            assert await kube.task == 0
            assert time.monotonic() - started < 2 * slowdown()
            lease = kube.api.objects["leases", "system", "op"]
            assert lease["spec"]["holderIdentity"] == ""
            kube.api.put(JOBS.kind, job("late"))
            await asyncio.sleep(0.2)
            assert "status" not in kube.api.objects["dasktrainingjobs", "team", "late"]

    run(scene())


def test_a_replica_without_the_lease_watches_and_waits(run, until, whole, job, phase):
    async def scene():
        async with whole() as kube:
            spec = {"holderIdentity": "another", "leaseDurationSeconds": 3600}
            kube.api.put("Lease", {"metadata": {"name": "op", "namespace": "system"}, "spec": spec})
            kube.api.put(JOBS.kind, job())
            await until(lambda: len(kube.api.streams) == 3)
            await asyncio.sleep(0.3)
            assert phase(kube) is None
            text = (await kube.ask("/metrics"))[1]
            assert "dasktraining_leader 0.0" in text
            assert 'dasktraining_jobs{phase="Pending"} 1.0' in text
            assert (await kube.ask("/healthz"))[0] == 200

    run(scene())


def test_a_watch_that_ends_for_good_ends_the_operator(run, until, whole, fault):
    async def scene():
        async with whole() as kube:
            await until(lambda: len(kube.api.streams) == 3)
            kube.api.faults.append(fault("watch", "pods", 400))
            kube.api.cut_watches()
            assert await kube.task == 1

    run(scene())


def test_it_waits_for_the_crd(run, until, whole, job, phase, monkeypatch):
    monkeypatch.setattr(main, "RETRY_START", 0.05)

    async def scene():
        async with whole() as kube:
            served = kube.api._discovery
            missing = []

            def discovery(group, version):
                from aiohttp import web

                if group == JOBS.group and len(missing) < 3:
                    missing.append(group)
                    return web.json_response({"kind": "Status", "code": 404}, status=404)
                return served(group, version)

            monkeypatch.setattr(kube.api, "_discovery", discovery)
            kube.api.put(JOBS.kind, job())
            await until(lambda: phase(kube) == "Starting")
            assert len(missing) == 3

    run(scene())
