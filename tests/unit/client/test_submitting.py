"""What `submit` sends: everything tried first, code packed, nothing made by halves; and artifacts read from outside."""

from __future__ import annotations

import hashlib
import http.client
import io
import json
import os
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from dask_training.artifacts import ArtifactStore
from dask_training.client.packing import config_map, pack_folder, with_code
from dask_training.client.reader import ReaderStorage, root_url, run_prefix
from dask_training.client.submitting import Bundle
from dask_training.errors import (
    AlreadyExistsError,
    CodeError,
    ManifestError,
    StoreDeniedError,
    StoreUnavailableError,
    UnreachableError,
)
from dask_training.model import JobFileError, TrainingJob

JOB = {
    "apiVersion": "dask-training.io/v1alpha1",
    "kind": "DaskTrainingJob",
    "metadata": {"name": "flights"},
    "spec": {"runner": {"script": "print(1)\n"}},
}
FILE = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: conf}
data: {a: b}
---
apiVersion: dask-training.io/v1alpha1
kind: DaskTrainingJob
metadata: {name: flights}
spec: {runner: {script: "print(1)"}}
"""


def made(api) -> list[str]:
    return sorted(f"{collection.rpartition('/')[2]}/{name}" for collection, name in api.objects)


# Submitting.


def test_a_job_is_taken_in_each_form(client, api, tmp_path):
    (tmp_path / "job.yaml").write_text(FILE)
    assert client.submit(tmp_path / "job.yaml").name == "flights"
    other = JOB | {"metadata": {"name": "other"}}
    assert client.submit(other).phase == "Pending"
    third = TrainingJob.from_body(JOB | {"metadata": {"name": "third"}})
    assert client.submit(third).namespace == "default"
    assert made(api) == [
        "configmaps/conf",
        "dasktrainingjobs/flights",
        "dasktrainingjobs/other",
        "dasktrainingjobs/third",
    ]


def test_everything_is_tried_before_anything_is_made(client, api, tmp_path):
    (tmp_path / "job.yaml").write_text(FILE)
    client.submit(tmp_path / "job.yaml")
    writes = [(method, path.rpartition("/")[2], "dryRun" in query) for method, path, query, _ in api.requests]
    writes = [each for each in writes if each[0] in {"POST", "PATCH"}]
    assert writes == [
        ("PATCH", "conf", True),
        ("POST", "dasktrainingjobs", True),
        ("PATCH", "conf", False),
        ("POST", "dasktrainingjobs", False),
    ]
    assert all(query["fieldValidation"] == "Strict" for _, path, query, _ in api.sent("POST"))


def test_what_is_refused_leaves_nothing(client, api, tmp_path):
    (tmp_path / "job.yaml").write_text(FILE)
    api.invalid = [{"field": "spec.runner", "message": "Required value"}]
    with pytest.raises(JobFileError, match=r"the cluster refuses flights: spec\.runner"):
        client.submit(tmp_path / "job.yaml")
    api.invalid = []
    api.faults.append(("PATCH", "configmaps", 422, {"message": "no", "details": {"causes": []}}))
    with pytest.raises(JobFileError, match="the cluster refuses ConfigMap conf: no"):
        client.submit(tmp_path / "job.yaml")
    assert made(api) == []


def test_a_job_that_is_not_right_is_not_sent(client, api):
    with pytest.raises(JobFileError):
        client.submit(JOB | {"spec": {"runner": {}}})
    assert api.requests == []


def test_a_job_that_exists_is_left_alone(client, api):
    api.job(phase="Running")
    with pytest.raises(
        AlreadyExistsError, match=r"already \(Running\): follow it with 'dask-training logs -f flights'"
    ):
        client.submit(JOB, replace=True)
    api.status(phase="Succeeded")
    with pytest.raises(AlreadyExistsError, match=r"already \(Succeeded\): --replace deletes it first"):
        client.submit(JOB)
    assert api.sent("DELETE") == []


def test_replacing_deletes_the_finished_job_and_only_that(client, api):
    old = api.job(phase="Failed")
    new = client.submit(JOB, replace=True)
    assert new.uid != old["metadata"]["uid"]
    ((_, _, _, options),) = api.sent("DELETE")
    assert options["preconditions"] == {"uid": old["metadata"]["uid"]}


def test_nothing_is_deleted_for_a_job_that_would_be_refused(client, api):
    api.job(phase="Failed")
    api.invalid = [{"field": "spec.runner", "message": "Required value"}]
    with pytest.raises(JobFileError):
        client.submit(JOB, replace=True)
    assert api.sent("DELETE") == []


def test_packed_code_belongs_to_its_job(client, api):
    bundle = Bundle(jobs=(JOB,), code={"flights": {"util.py": b"x = 1\n"}})
    (handle,) = client.submit_bundle(bundle)
    name = handle.body["spec"]["code"]["configMap"]["name"]
    assert name.startswith("flights-code-")
    there = api.objects["/api/v1/namespaces/default/configmaps", name]
    assert there["data"] == {"util.py": "x = 1\n"}
    (owner,) = there["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("DaskTrainingJob", "flights", handle.uid)


def test_a_long_script_goes_beside_its_job(client, api):
    job = JOB | {"spec": {"runner": {"args": ["1"]}}}
    (handle,) = client.submit_bundle(Bundle(jobs=(job,), scripts={"flights": ("train.py", b"print(1)")}))
    source = handle.body["spec"]["runner"]["scriptFrom"]["configMap"]
    assert source["key"] == "train.py"
    assert api.objects["/api/v1/namespaces/default/configmaps", source["name"]]["data"] == {"train.py": "print(1)"}
    assert handle.body["spec"]["runner"]["args"] == ["1"]


def test_code_whose_job_could_not_be_made_is_removed_again(client, api):
    api.faults += [("GET", "nothing", 500, {})]
    real = client.connection.request

    def request(method, path, **options):
        if method == "POST" and "dryRun" not in options.get("query", {}):
            raise UnreachableError("gone")
        return real(method, path, **options)

    client.connection.request = request
    with pytest.raises(UnreachableError):
        client.submit_bundle(Bundle(jobs=(JOB,), code={"flights": {"util.py": b""}}))
    assert made(api) == []


def test_an_answer_that_was_lost_makes_no_second_job_and_no_error(client, api):
    real = client.connection.request
    lost = []

    def request(method, path, **options):
        answer = real(method, path, **options)
        if method == "POST" and "dryRun" not in options.get("query", {}) and not lost:
            lost.append(answer)
            raise UnreachableError("the answer was lost")
        return answer

    client.connection.request = request
    assert client.submit(JOB).uid == lost[0]["metadata"]["uid"]
    assert made(api) == ["dasktrainingjobs/flights"]


def test_the_verbs_of_a_job(client, api):
    api.job()
    handle = client.get("flights")
    handle.suspend()
    assert api.objects[next(iter(api.objects))]["spec"]["suspend"] is True
    handle.resume()
    assert handle.body["spec"]["suspend"] is False
    handle.scale(5)
    assert api.sent("PATCH", "/scale")[0][3] == {"spec": {"replicas": 5}}
    handle.delete(wait=True)
    assert made(api) == []


# Packing.


def test_a_folder_becomes_keys_and_its_packages_a_zip_that_python_imports_from(tmp_path, monkeypatch):
    for name, text in {
        "util.py": "x = 1",
        "model/__init__.py": "",
        "model/deep/net.py": "y = 2",
        "model/deep/__init__.py": "",
        ".git/config": "",
        "__pycache__/util.pyc": "",
        ".env": "SECRET=1",
        "venv/pyvenv.cfg": "",
        "venv/lib/big.py": "",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    data = pack_folder(tmp_path)
    assert set(data) == {"util.py", "packages.zip"}
    assert zipfile.ZipFile(io.BytesIO(data["packages.zip"])).namelist() == [
        "model/__init__.py",
        "model/deep/__init__.py",
        "model/deep/net.py",
    ]
    assert pack_folder(tmp_path) == data
    made = config_map("c", "default", data, {})
    assert set(made["data"]) == {"util.py"}
    assert set(made["binaryData"]) == {"packages.zip"}
    (tmp_path / "out.zip").write_bytes(data["packages.zip"])
    monkeypatch.syspath_prepend(str(tmp_path / "out.zip"))
    assert __import__("model.deep.net").deep.net.y == 2


def test_code_in_folders_is_put_on_pythons_path_beside_the_users_own():
    zipped = {"packages.zip": b""}
    assert with_code({}, "c", {"a.py": b""}) == {"code": {"configMap": {"name": "c"}}}
    assert with_code({}, "c", zipped)["env"] == [{"name": "PYTHONPATH", "value": "/code/packages.zip"}]
    own = [{"name": "A", "value": "1"}, {"name": "PYTHONPATH", "value": "/x"}]
    assert with_code({"env": own}, "c", zipped)["env"][1]["value"] == "/x:/code/packages.zip"
    assert own[1]["value"] == "/x"


def test_code_that_is_too_large_names_its_largest_files(tmp_path):
    (tmp_path / "data.csv").write_bytes(b"1" * 700_000)
    (tmp_path / "more.csv").write_bytes(b"2" * 600_000)
    (tmp_path / "train.py").write_text("")
    with pytest.raises(CodeError) as error:
        pack_folder(tmp_path)
    assert str(error.value) == (
        f"{tmp_path} has 1.2 MiB: code is sent as a ConfigMap, which holds 1 MiB at most. Its largest files:\n"
        f"    684 KiB  {tmp_path}/data.csv\n"
        f"    586 KiB  {tmp_path}/more.csv\n"
        f"        0 B  {tmp_path}/train.py\n"
        "Leave data out of the folder and load it from where it is kept; larger code belongs into an image "
        "(spec.image) or a package (spec.packages)."
    )
    (tmp_path / "huge.bin").write_bytes(b"3" * 3_000_000)
    with pytest.raises(CodeError, match=r"huge\.bin has 2\.9 MiB: code is sent as a ConfigMap"):
        pack_folder(tmp_path)


def test_folders_that_can_not_be_sent(tmp_path):
    with pytest.raises(CodeError, match="holds no files"):
        pack_folder(tmp_path)
    (tmp_path / "mit Leerzeichen.py").write_text("")
    with pytest.raises(CodeError, match="rename it"):
        pack_folder(tmp_path)
    with pytest.raises(CodeError, match="can't read"):
        pack_folder(tmp_path / "nothing")


# The reader's HTTP API.

RUN = "default/flights/u/1"


class Reader:
    """What the reader pod serves; `breaks` files' answers end in the middle."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.breaks = 0
        self.requests: list[str] = []
        entries = [
            {"path": path, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for path, data in sorted(files.items())
        ]
        document = {"version": 1, "storedAt": "2026-01-01T00:00:00Z", "info": {"phase": "Succeeded"}, "files": entries}
        self.manifest = json.dumps(document).encode()
        reader = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_args) -> None:
                pass

            def do_GET(self) -> None:
                reader.answer(self)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    def answer(self, request) -> None:
        self.requests.append(request.path)
        parts = urlsplit(request.path)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        status, data = 200, b"ok"
        if parts.path != "/healthz" and request.headers["Authorization"] != "Bearer secret":
            status, data = 401, b'{"error": "a token is needed"}'
        elif parts.path == "/v1/runs":
            data = json.dumps({"runs": [RUN]}).encode()
        elif parts.path == "/v1/manifest":
            data = self.manifest
        elif parts.path == "/v1/file":
            found = self.files.get(query["path"])
            status, data = (200, found) if found is not None else (404, b'{"error": "no such file"}')
        request.send_response(status)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        if parts.path == "/v1/file" and self.breaks:
            self.breaks -= 1
            request.wfile.write(data[: len(data) // 2])
            request.close_connection = True
            request.connection.shutdown(2)
            return
        request.wfile.write(data)

    def storage(self, token: str = "secret") -> ReaderStorage:
        port = self.server.server_port
        return ReaderStorage(lambda: http.client.HTTPConnection("127.0.0.1", port, timeout=5), token, "s3://b")

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def reader():
    reader = Reader({"model.bin": os.urandom(3_000_000), "logs/runner.log": b"one\ntwo\n", "empty": b""})
    yield reader
    reader.close()


def test_files_come_verified_and_through_broken_connections(reader, tmp_path):
    reader.breaks = 3
    with ArtifactStore(reader.storage()) as store:
        assert store.runs("default/flights/u") == [RUN]
        store.get(RUN, tmp_path)
        assert store.verify(RUN) == []
        assert store.summaries("default/flights/u")[0].verdict == "Succeeded"
    assert {name: (tmp_path / name).read_bytes() for name in reader.files} == reader.files


def test_a_file_that_is_not_what_the_manifest_says_is_not_kept(reader, tmp_path):
    reader.files["model.bin"] = b"x" * 3_000_000
    with ArtifactStore(reader.storage()) as store, pytest.raises(ManifestError, match="SHA-256 differs"):
        store.get(RUN, tmp_path)
    assert not (tmp_path / "model.bin").exists()


def test_another_token_is_refused(reader):
    with ArtifactStore(reader.storage("guess")) as store, pytest.raises(StoreDeniedError, match="a token is needed"):
        store.runs("default/flights/u")


def test_a_reader_that_does_not_answer_is_given_up():
    gone = Reader({})
    gone.close()
    storage = gone.storage()
    with pytest.raises(StoreUnavailableError, match="does not answer"):
        storage.wait_until_ready(0.2)


def test_where_a_run_lies():
    job = {"metadata": {"name": "flights", "namespace": "default", "uid": "u"}}
    assert run_prefix(job) == "default/flights/u"
    assert run_prefix(job, 2) == "default/flights/u/2"
    assert root_url("s3://b/x/default/flights/u/2", job) == "s3://b/x"
    assert Path(root_url("file:///artifact-store/default/flights/u/1", job)).name == "artifact-store"
