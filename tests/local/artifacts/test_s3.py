"""Storing in a real S3-compatible server, over a connection that works, fails, or is refused."""

import asyncio
import hashlib
import json
import logging
import os
import re
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path

import pytest
from machine import slowdown

from dask_training.artifacts import ArtifactStore
from dask_training.artifacts.faults import MissingError
from dask_training.errors import (
    ArtifactError,
    ManifestError,
    StoreDeniedError,
    StoreFullError,
    StoreUnavailableError,
    UnsafeNameError,
)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def uploads(store, prefix) -> list:
    """What the server knows of unfinished multipart uploads of that run."""

    async def attempt(s3, _):
        return (await s3._call_s3("list_multipart_uploads", Bucket="bucket")).get("Uploads") or []

    found = store._storage._connection.call(attempt, action="look", stop=lambda: False)
    return [upload for upload in found if upload["Key"].startswith(f"runs/{prefix}/")]


def test_a_stored_run_comes_back_byte_for_byte(s3_store, run_folder, tmp_path):
    store = s3_store()
    manifest = store.store(run_folder, prefix="job/run1", size_limit_bytes=None, info={"phase": "Succeeded"})
    assert [entry.path for entry in manifest.files] == sorted(content(run_folder))
    assert store.verify("job/run1") == []
    paths = store.get("job/run1", tmp_path / "copy")
    copied = content(tmp_path / "copy")
    assert hashlib.sha256(copied.pop("manifest.json")).hexdigest() == manifest.sha256
    assert copied == content(run_folder)
    assert {str(path.relative_to(tmp_path / "copy")) for path in paths} == set(copied)
    assert "job/run1" in store.runs()
    assert uploads(store, "job/run1") == []


def test_runs_are_listed_with_what_they_hold_and_their_own_manifests_in_folders_are_none(s3_store, run_folder):
    store = s3_store()
    (run_folder / "sub").mkdir()
    (run_folder / "sub" / "manifest.json").write_text("mine")
    manifest = store.store(
        run_folder, prefix="list/ns/job/1", size_limit_bytes=None, info={"phase": "Failed", "reason": "RunnerFailed"}
    )
    summary = next(run for run in store.summaries("list"))
    assert (summary.run, summary.files, summary.bytes) == ("list/ns/job/1", len(manifest.files), manifest.total_bytes)
    assert summary.verdict == "Failed: RunnerFailed"
    assert summary.stored_at == manifest.stored_at
    assert summary.url == "s3://bucket/runs/list/ns/job/1"


def test_a_changed_a_lengthened_a_cut_and_a_missing_object_are_each_named(s3_store, server, run_folder):
    store = s3_store()
    store.store(run_folder, prefix="job/damaged", size_limit_bytes=None)
    model = (run_folder / "model.joblib").read_bytes()
    for name, data in {"metrics.json": b'{"accuracy": 0.99}', "empty": b"!", "model.joblib": model[:-1]}.items():
        store._storage.put_bytes(data, f"job/damaged/{name}", lambda: False)
    store._storage.remove("job/damaged/logs/runner.log", lambda: False)
    problems = store.verify("job/damaged")
    assert len(problems) == 4
    for name, what in {
        "metrics.json": "another content",
        "empty": "more than 0 bytes",
        "model.joblib": "bytes, the manifest says",
        "logs/runner.log": "is missing",
    }.items():
        assert [line for line in problems if repr(name) in line and what in line], (name, problems)
    with pytest.raises(ManifestError):
        store.get("job/damaged", run_folder.parent / "copy")
    assert not (run_folder.parent / "copy" / "manifest.json").exists()


def test_check_writable_leaves_nothing_behind(s3_store, server):
    before = server.objects("")
    s3_store().check_writable()
    assert server.objects("") == before


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (b"500 Internal Server Error", None),
        (b"502 Bad Gateway", None),
        (b"503 Slow Down", None),
        (b"504 Gateway Timeout", None),
        (b"429 Too Many Requests", None),
        (b"408 Request Timeout", None),
        (b"403 Forbidden", StoreDeniedError),
        (b"401 Unauthorized", StoreDeniedError),
        (b"507 Insufficient Storage", StoreFullError),
    ],
)
def test_passing_answers_are_retried_and_final_ones_are_not(s3_store, proxy, run_folder, status, kind):
    store = s3_store(proxy.port)
    proxy.answers = [status] * 2
    if kind is None:
        store.store(run_folder, prefix="job/answers", size_limit_bytes=None)
        assert proxy.answers == []
        assert store.verify("job/answers") == []
        return
    proxy.answers *= 20
    started = time.monotonic()
    with pytest.raises(kind) as caught:
        store.store(run_folder, prefix="job/answers", size_limit_bytes=None)
    assert time.monotonic() - started < 2 * slowdown()
    assert proxy.requests == 1, "it was sent again"
    assert status[:3].decode() in str(caught.value)


@pytest.mark.parametrize(
    ("status", "kind"), [(b"507 Insufficient Storage", StoreFullError), (b"403 Forbidden", StoreDeniedError)]
)
def test_a_store_that_refuses_in_the_middle_gets_no_manifest_and_keeps_no_part(
    s3_store, server, proxy, run_folder, status, kind
):
    store = s3_store(proxy.port)

    def refuse():
        proxy.answers = [status] * 1000
        proxy.drop()

    proxy.on_bytes = (150_000, refuse)
    with pytest.raises(kind):
        store.store(run_folder, prefix=f"job/middle{status[:3].decode()}", size_limit_bytes=None)
    proxy.reset()
    prefix = f"job/middle{status[:3].decode()}"
    assert {"manifest.json", "model.joblib"} & server.objects(f"runs/{prefix}") == set()
    with pytest.raises(ManifestError, match="doesn't exist"):
        store.manifest(prefix)
    store.store(run_folder, prefix=prefix, size_limit_bytes=None)
    assert store.verify(prefix) == []
    assert uploads(store, prefix) == []


def test_the_parts_of_a_failed_upload_are_not_kept(s3_store, run_folder, monkeypatch):
    store = s3_store()
    really = store._storage._send_part

    def send(upload, data, number, stop):
        if number == 3:
            raise StoreFullError("full")
        return really(upload, data, number, stop)

    monkeypatch.setattr(store._storage, "_send_part", send)
    monkeypatch.setattr(store._storage, "sweep", lambda *_: None)
    with pytest.raises(StoreFullError):
        store.store(run_folder, prefix="job/parts", size_limit_bytes=None)
    assert uploads(store, "job/parts") == []


def test_an_upload_that_was_completed_unnoticed_is_done_again(s3_store, server, run_folder, monkeypatch):
    store = s3_store()
    really, calls = store._storage._complete, []

    def complete(upload, parts, stop):
        calls.append(upload["UploadId"])
        really(upload, parts, stop)
        if len(calls) == 1:
            really(upload, parts, stop)  # as after an answer that was lost: the server knows it no more

    monkeypatch.setattr(store._storage, "_complete", complete)
    store.store(run_folder, prefix="job/unnoticed", size_limit_bytes=None)
    assert len(set(calls)) == 2
    assert store.verify("job/unnoticed") == []
    monkeypatch.setattr(store._storage, "_complete", lambda *_: (_ for _ in ()).throw(MissingError("NoSuchUpload")))
    with pytest.raises(StoreUnavailableError, match="lost its multipart upload three times"):
        store.store(run_folder, prefix="job/unnoticed", size_limit_bytes=None)
    assert "manifest.json" not in server.objects("runs/job/unnoticed")


def test_a_slow_connection_is_no_failure(s3_store, proxy, run_folder):
    store = s3_store(proxy.port, stall=1.5)
    proxy.delay = 0.008  # per 8 KiB or less: the file takes longer than may pass without a byte
    (run_folder / "model.joblib").write_bytes(os.urandom(3_000_000))
    store._storage._part_bytes = 3_000_000
    started = time.monotonic()
    store.store(run_folder, prefix="job/slow", size_limit_bytes=None)
    assert time.monotonic() - started > 2
    proxy.reset()
    assert store.verify("job/slow") == []


def test_a_connection_on_which_nothing_moves_is_given_up_and_tried_again(s3_store, proxy, run_folder):
    store = s3_store(proxy.port, stall=0.5)
    proxy.stall = 2
    started = time.monotonic()
    store.store(run_folder, prefix="job/stall", size_limit_bytes=None)
    assert 0.5 < time.monotonic() - started < 10 * slowdown()
    assert store.verify("job/stall") == []


@pytest.mark.parametrize("how", ["refused", "silent", "reset"])
def test_an_unreachable_store_is_told_at_the_deadline(s3_store, proxy, run_folder, how):
    if how == "refused":
        proxy._listener.listen(0)
        store = s3_store(1, deadline=1)
    else:
        store = s3_store(proxy.port, deadline=1)
        proxy.stall = 10**6 if how == "silent" else 0
        proxy.cut_after, proxy.forever = (0, True) if how == "reset" else (None, False)
    started = time.monotonic()
    with pytest.raises(StoreUnavailableError, match=r"no usable answer for \d+ s") as caught:
        store.store(run_folder, prefix="job/unreachable", size_limit_bytes=None)
    elapsed = time.monotonic() - started
    assert 0.9 < elapsed < 3 * slowdown()
    assert 1 <= int(re.search(r"for (\d+) s", str(caught.value))[1]) <= elapsed + 0.5
    assert "s3://bucket/runs at http://127.0.0.1" in str(caught.value)
    assert "check that the store is up" in str(caught.value)


@pytest.mark.parametrize("silent", [False, True])
def test_check_writable_fails_within_seconds_on_an_unreachable_store(s3_store, proxy, silent, monkeypatch):
    if not silent:  # the real time once is enough
        monkeypatch.setattr("dask_training.artifacts.store.PROBE_SECONDS", 0.5)
    proxy.stall = 10**6
    started = time.monotonic()
    with pytest.raises(StoreUnavailableError):
        s3_store(proxy.port if silent else 1, deadline=60).check_writable()
    assert time.monotonic() - started < 6 * slowdown()


def test_a_short_outage_is_survived(s3_store, proxy, run_folder):
    store = s3_store(proxy.port)
    proxy.cut_after, proxy.forever = 200_000, True
    threading.Timer(1.5, proxy.reset).start()
    store.store(run_folder, prefix="job/outage", size_limit_bytes=None)
    assert store.verify("job/outage") == []


@pytest.mark.parametrize(
    ("change", "bucket", "says"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wrong-canary-4711"}, "bucket", "SignatureDoesNotMatch"),
        ({"AWS_ACCESS_KEY_ID": "nobody-canary-4711"}, "bucket", "InvalidAccessKeyId"),
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "bucket", "give AWS_ACCESS_KEY_ID and"),
        ({}, "no-such-bucket", "there is no such bucket"),
    ],
)
def test_bad_credentials_and_a_missing_bucket_are_denied_at_once(server, credentials, run_folder, change, bucket, says):
    with ArtifactStore.from_url(f"s3://{bucket}/runs", credentials=credentials(server.port) | change) as store:
        for act in (store.check_writable, lambda: store.store(run_folder, prefix="r", size_limit_bytes=None)):
            started = time.monotonic()
            with pytest.raises(StoreDeniedError) as caught:
                act()
            assert time.monotonic() - started < 5 * slowdown()
        assert says in str(caught.value) or act is not store.check_writable
        with pytest.raises(StoreDeniedError, match=says):
            store.check_writable()


def test_something_else_than_s3_at_the_address_is_named(s3_store, proxy):
    proxy.answers = [b"404 Not Found"] * 10
    with pytest.raises(StoreDeniedError, match="AWS_ENDPOINT_URL is the address of an S3 API"):
        s3_store(proxy.port).check_writable()


def test_credentials_are_in_no_message_no_repr_and_no_log(proxy, credentials, caplog, monkeypatch):
    monkeypatch.setattr("dask_training.artifacts.store.PROBE_SECONDS", 0.5)
    canaries = ["canary", "4711"]
    caplog.set_level(logging.DEBUG)
    known = credentials(proxy.port, AWS_SESSION_TOKEN="token-canary-4711")
    with ArtifactStore.from_url("s3://bucket/runs", credentials=known, retry_deadline_seconds=1) as store:
        texts = [repr(store), str(store), repr(store._storage), repr(store._storage._connection), store.url]
        for prepare in (
            lambda: None,
            lambda: setattr(proxy, "answers", [b"403 Forbidden"] * 99),
            lambda: setattr(proxy, "answers", [b"500 Oops"] * 99),
            lambda: setattr(proxy, "stall", 10**6),
        ):
            proxy.reset()
            prepare()
            for act in (store.check_writable, lambda: store.manifest("job/none")):
                try:
                    act()
                except ArtifactError as error:
                    texts += traceback.format_exception(error)
    with pytest.raises(ArtifactError) as caught:
        ArtifactStore.from_url("s3://key-canary:4711@bucket/runs")
    texts.append(str(caught.value))
    with pytest.raises(ArtifactError) as caught:
        ArtifactStore.from_url("s3://b/r", credentials=known | {"AWS_ENDPOINT_URL": "http://canary:4711@localhost"})
    texts.append(str(caught.value))
    texts.append(caplog.text)
    found = [text for text in texts for canary in canaries if canary in text.lower()]
    assert found == []


def test_a_file_that_changes_while_it_is_sent_is_stored_as_it_was_sent(s3_store, proxy, run_folder):
    store = s3_store(proxy.port)
    model = run_folder / "model.joblib"
    proxy.delay = 0.01
    stop = threading.Event()

    def change():
        while not stop.is_set():
            with model.open("r+b") as file:
                file.write(os.urandom(model.stat().st_size + 10_000))
            time.sleep(0.001)

    changing = threading.Thread(target=change)
    changing.start()
    try:
        manifest = store.store(run_folder, prefix="job/changing", size_limit_bytes=None)
    finally:
        stop.set()
        changing.join()
    proxy.reset()
    assert "model.joblib" in {entry.path for entry in manifest.files}
    assert store.verify("job/changing") == []


def test_stopping_ends_an_upload_soon_and_leaves_no_manifest(s3_store, server, proxy, run_folder):
    store = s3_store(proxy.port, deadline=60)
    stop = threading.Event()
    proxy.on_bytes = (100_000, lambda: (setattr(proxy, "delay", 0.5), stop.set()))
    started = time.monotonic()
    with pytest.raises(ArtifactError):
        store.store(run_folder, prefix="job/stopped", size_limit_bytes=None, stop=stop)
    assert time.monotonic() - started < 8 * slowdown()
    assert "manifest.json" not in server.objects("runs/job/stopped")


def test_it_works_inside_a_running_event_loop_and_in_several_threads(s3_store, run_folder):
    async def main():
        ticks = 0

        async def tick():
            nonlocal ticks
            while True:
                await asyncio.sleep(0.01)
                ticks += 1

        ticking = asyncio.create_task(tick())
        store = s3_store()
        store.check_writable()  # blocks the loop, and still works
        await asyncio.gather(
            *(
                asyncio.to_thread(store.store, run_folder, prefix=f"job/async{number}", size_limit_bytes=None)
                for number in range(3)
            )
        )
        ticking.cancel()
        return ticks, [store.verify(f"job/async{number}") for number in range(3)]

    ticks, problems = asyncio.run(main())
    assert ticks > 3
    assert problems == [[], [], []]


@pytest.mark.parametrize("closed", [True, False])
def test_a_process_that_used_a_store_ends_at_once_and_silently(server, credentials, run_folder, closed):
    code = f"""
import json, os, sys, time, atexit
from pathlib import Path
from dask_training.artifacts import ArtifactStore
from dask_training.artifacts.faults import MissingError
store = ArtifactStore.from_url("s3://bucket/runs", credentials=json.loads(os.environ["CREDENTIALS"]))
store.store(Path(sys.argv[1]), prefix="job/exit", size_limit_bytes=None)
assert store.verify("job/exit") == []
if {closed}: store.close()
print(time.time())
"""
    environment = {**os.environ, "CREDENTIALS": json.dumps(credentials(server.port))}
    command = [sys.executable, "-W", "default", "-c", code, str(run_folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    ended = time.time()
    assert (done.returncode, done.stderr) == (0, "")
    assert ended - float(done.stdout) < 2 * slowdown()


def test_a_hostile_manifest_in_the_bucket_writes_nothing_outside(s3_store, server, tmp_path):
    store = s3_store()
    store._storage.put_bytes(b"x", "job/hostile/x", lambda: False)
    digest = hashlib.sha256(b"x").hexdigest()
    for path in ("../x", "/etc/x", "a/../../x", "..", "manifest.json", "a\\..\\x", "a\nb", "x" * 256, ""):
        entry = {"path": path, "size": 1, "sha256": digest}
        document = {"version": 1, "storedAt": "2026-01-01T00:00:00Z", "info": {}, "files": [entry]}
        store._storage.put_bytes(json.dumps(document).encode(), "job/hostile/manifest.json", lambda: False)
        with pytest.raises(ManifestError):
            store.get("job/hostile", tmp_path / "target")
        assert not (tmp_path / "x").exists()
        assert not (tmp_path / "target").exists()


def test_unsafe_names_are_refused_before_anything_is_sent(s3_store, server, run_folder):
    (run_folder / "bad\nname").touch()
    with pytest.raises(UnsafeNameError):
        s3_store().store(run_folder, prefix="job/unsafe", size_limit_bytes=None)
    assert server.objects("runs/job/unsafe") == set()


def test_many_small_files_take_seconds(s3_store, tmp_path):
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(500):
        (folder / f"{number}").write_bytes(b"x")
    store = s3_store()
    started = time.monotonic()
    store.store(folder, prefix="job/many", size_limit_bytes=None)
    assert time.monotonic() - started < 15 * slowdown()
    assert store.verify("job/many") == []
