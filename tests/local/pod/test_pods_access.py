"""Who may talk to a job's pods, and what they tell."""

import http.client
import json
import os
import subprocess
import sys
from urllib.parse import urlencode

import pytest
from machine import slowdown

from dask_training.artifacts import ArtifactStore

CONNECT = """\
import sys
from distributed import Client
from distributed.security import Security
address, ca, leaf, timeout = sys.argv[1:]
security = Security(tls_ca_file=ca, tls_client_cert=leaf, tls_client_key=leaf, require_encryption=True) if ca else None
try:
    client = Client(address, security=security, timeout=float(timeout))
except (OSError, TimeoutError) as error:
    print("refused", type(error).__name__)
else:
    print("connected", len(client.ncores()))
    client.close(1)
"""


def connect(address, ca="", leaf="", timeout=3.0):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DASK_")}
    command = [sys.executable, "-c", CONNECT, address, str(ca), str(leaf), str(timeout)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False).stdout


def test_only_this_jobs_certificates_are_let_in(pods, wait_until, tmp_path):
    mine, other = pods(), pods(uid="1a1b2c3d-0000-4000-8000-000000000000")
    mine.start_cluster()
    wait_until(lambda: mine.status()[1].get("workers") == 1)
    for attempt, name in ((mine, "mine"), (other, "other")):
        leaf = attempt.certificates.leaves["client"]
        (tmp_path / f"{name}.pem").write_bytes(leaf.certificate + leaf.key)
        (tmp_path / f"{name}-ca.pem").write_bytes(attempt.certificates.ca)
    assert connect(mine.address, tmp_path / "mine-ca.pem", tmp_path / "mine.pem", timeout=60) == "connected 1\n"
    assert "refused" in connect(mine.address, tmp_path / "other-ca.pem", tmp_path / "other.pem")
    assert "refused" in connect(mine.address, tmp_path / "mine-ca.pem", tmp_path / "other.pem")
    assert "refused" in connect(mine.address.replace("tls:", "tcp:"))


def test_the_status_is_for_those_who_have_the_token(pods, wait_until):
    attempt = pods(
        "import time, dask_training\nfrom joblib import Parallel, delayed\n"
        "dask_training.report(accuracy=0.5, kind='x', good=True)\n"
        "Parallel(n_jobs=2)(delayed(time.sleep)(0.4) for _ in range(12))\ntime.sleep(2)\n",
        spec={"workers": {"replicas": 2, "minReplicas": 2}},
    )
    attempt.start_cluster(2)
    wait_until(lambda: attempt.status()[0] == 200)
    assert attempt.status()[1]["codeStarted"] is False
    assert [attempt.status(token)[0] for token in (None, "", "wrong", "0123456789abcde", "0123456789abcdeff")] == [
        401
    ] * 5
    runner = attempt.start("runner")
    told = wait_until(lambda: (status := attempt.status()[1]).get("progress") and status)
    assert (told["workers"], told["threads"], told["codeStarted"]) == (2, 2, True)
    assert told["metrics"] == {"accuracy": 0.5}
    wait_until(lambda: attempt.status()[1]["progress"] == {"done": 12, "total": 12})
    assert attempt.status()[1]["processing"] == 0
    assert runner.wait() == 0


def test_nothing_else_is_served_without_a_dashboard(pods, wait_until):
    attempt = pods()
    attempt.start("scheduler")
    wait_until(lambda: attempt.status()[0] == 200)
    paths = ("/status", "/info/main/workers.html", "/json/counts.json", "/api/v1/retire_workers", "/proxy/1/127.0.0.1/")
    assert {path: attempt.status(path=path)[0] for path in paths} == dict.fromkeys(paths, 404)


def test_the_dashboard_is_served_where_it_is_asked_for(pods, wait_until):
    attempt = pods(env={"DASK_TRAINING_DASHBOARD": "true"})
    attempt.start("scheduler")
    wait_until(lambda: attempt.status()[0] == 200)

    def page(path):
        connection = http.client.HTTPConnection("127.0.0.1", attempt.http_port, timeout=10 * slowdown())
        try:
            connection.request("GET", path)
            reply = connection.getresponse()
            return reply.status, reply.read()
        finally:
            connection.close()

    wait_until(lambda: page("/status")[0] == 200)
    assert b"dask_scheduler_workers" in wait_until(lambda: page("/metrics")[1])
    assert page("/statics/css/base.css")[0] == 200
    assert page("/json/counts.json")[0] == 404


@pytest.fixture
def reader(pods, tmp_path, wait_until):
    """A reader of team-a with one run in its store; returns the function that asks it."""
    attempt = pods(env={"DASK_TRAINING_READER_TOKEN": "secret", "DASK_TRAINING_READER_PORT": "0"})
    files = tmp_path / "files"
    (files / "sub").mkdir(parents=True)
    (files / "sub/model.bin").write_bytes(bytes(range(256)) * 20_000)
    store = ArtifactStore.from_url(str(attempt.store))
    for namespace in ("team-a", "team-b"):
        store.store(files, prefix=f"{namespace}/forest/uid/1", size_limit_bytes=None)
    (attempt.store / "secret.txt").write_text("no")
    port = attempt.http_port
    attempt.start("reader", DASK_TRAINING_READER_PORT=str(port))

    def ask(place, token="secret", **query):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10 * slowdown())
        try:
            headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
            connection.request("GET", f"{place}?{urlencode(query)}", headers=headers)
            reply = connection.getresponse()
            return reply.status, reply.read()
        except OSError:
            return 0, b""
        finally:
            connection.close()

    wait_until(lambda: ask("/healthz", token=None)[0] == 200)
    ask.attempt = attempt
    return ask


def test_a_reader_gives_the_runs_of_its_namespace(reader):
    status, body = reader("/v1/runs", prefix="team-a")
    assert (status, [run["run"] for run in json.loads(body)["runs"]]) == (200, ["team-a/forest/uid/1"])
    status, body = reader("/v1/manifest", prefix="team-a/forest/uid/1")
    assert (status, [file["path"] for file in json.loads(body)["files"]]) == (200, ["sub/model.bin"])
    status, body = reader("/v1/file", prefix="team-a/forest/uid/1", path="sub/model.bin")
    assert (status, body) == (200, bytes(range(256)) * 20_000)


@pytest.mark.parametrize(
    ("place", "query", "token", "status"),
    [
        ("/v1/runs", {"prefix": "team-a"}, None, 401),
        ("/v1/runs", {"prefix": "team-a"}, "secre", 401),
        ("/v1/file", {"prefix": "team-a/forest/uid/1", "path": "sub/model.bin"}, "wrong", 401),
        ("/v1/runs", {"prefix": ""}, "secret", 400),
        ("/v1/runs", {}, "secret", 400),
        ("/v1/runs", {"prefix": "team-b"}, "secret", 403),
        ("/v1/runs", {"prefix": "team-a/../team-b"}, "secret", 400),
        ("/v1/manifest", {"prefix": "team-b/forest/uid/1"}, "secret", 403),
        ("/v1/manifest", {"prefix": "team-a/forest/uid/2"}, "secret", 404),
        ("/v1/file", {"prefix": "team-a/forest/uid/1", "path": "../../../../secret.txt"}, "secret", 404),
        ("/v1/file", {"prefix": "team-a/forest/uid/1", "path": "/etc/passwd"}, "secret", 404),
        ("/v1/file", {"prefix": "team-a/forest/uid/1", "path": "manifest.json"}, "secret", 404),
        ("/v1/file", {"prefix": "..", "path": "secret.txt"}, "secret", 400),
        ("/etc/passwd", {}, "secret", 404),
    ],
)
def test_a_reader_gives_nothing_else(reader, place, query, token, status):
    assert reader(place, token=token, **query)[0] == status


def test_a_reader_breaks_off_what_is_not_as_the_manifest_says(reader):
    damaged = reader.attempt.store / "team-a/forest/uid/1/sub/model.bin"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    with pytest.raises(http.client.IncompleteRead):
        reader("/v1/file", prefix="team-a/forest/uid/1", path="sub/model.bin")
