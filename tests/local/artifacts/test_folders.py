"""Storing in folders that are full or read-only, and 10,000 files at once."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from machine import slowdown

from dask_training.artifacts import ArtifactStore
from dask_training.errors import ArtifactError, ManifestError, StoreDeniedError, StoreFullError, StoreUnavailableError


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.name.startswith(".dask-training-")]


def done_with_a_limit(act: str, folder: Path, root: Path, limit: int) -> tuple[str, str]:
    """Calls a method in a process that can't write larger files; the error's type and message."""
    code = """
import json, resource, sys
from pathlib import Path
from dask_training.artifacts import ArtifactStore
_, act, folder, root, limit = sys.argv
resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit),) * 2)
store = ArtifactStore.from_url(root)
try:
    store.check_writable() if act == "check" else store.store(Path(folder), prefix="run", size_limit_bytes=None)
except Exception as error:
    print(json.dumps([type(error).__name__, str(error)]))
"""
    command = [sys.executable, "-c", code, act, str(folder), str(root), str(limit)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    kind, message = json.loads(done.stdout)
    return kind, message


def test_a_full_folder_is_told_at_once_and_keeps_nothing_partial(mounted, run_folder, tmp_path):
    root = mounted("small", "size=1m")
    if root is None:  # not allowed to mount: a limit on the size of files comes nearest
        root = tmp_path / "store"
        kind, message = done_with_a_limit("store", run_folder, root, 128 * 1024)
        assert kind == "StoreFullError"
        assert "no space left" in message
    else:
        (run_folder / "large.bin").write_bytes(os.urandom(1_000_000))
        started = time.monotonic()
        with pytest.raises(StoreFullError, match=r"can't store '\S+' in \S+: no space left .*: free some space"):
            ArtifactStore.from_url(str(root)).store(run_folder, prefix="run", size_limit_bytes=None)
        assert time.monotonic() - started < 5 * slowdown()
    store = ArtifactStore.from_url(str(root))
    assert [path.name for path in root.rglob("*") if path.is_file()] == [], "a full store was left full"
    with pytest.raises(ManifestError):
        store.manifest("run")
    (run_folder / "large.bin").unlink(missing_ok=True)
    store.store(run_folder, prefix="run", size_limit_bytes=None)
    assert store.verify("run") == []


def test_a_file_larger_than_this_process_may_write_is_no_space(run_folder, tmp_path):
    kind, message = done_with_a_limit("store", run_folder, tmp_path / "store", 128 * 1024)
    assert kind == "StoreFullError"
    assert "'run/model.joblib'" in message
    assert leftovers(tmp_path / "store") == []


def test_a_full_disk_is_found_out_before_the_run(mounted, tmp_path):
    root = mounted("full", "size=64k")
    if root is None:
        kind, _ = done_with_a_limit("check", tmp_path, tmp_path / "store", 1024)
        assert kind == "StoreFullError"
        return
    (root / "filler").write_bytes(b"x" * 65536)
    with pytest.raises(StoreFullError):
        ArtifactStore.from_url(str(root)).check_writable()


def read_only_folder(mounted, tmp_path: Path) -> Path:
    """A folder that even root can't write to, whatever this machine allows."""
    root = mounted("readonly", "size=64k,ro")
    if root is not None:
        return root
    if os.geteuid() == 0:
        return Path("/sys")  # no file can be made there by anyone
    folder = tmp_path / "readonly"
    folder.chmod(0o555)
    return folder


def test_a_read_only_folder_is_denied_at_once(mounted, run_folder, tmp_path):
    root = read_only_folder(mounted, tmp_path)
    store = ArtifactStore.from_url(str(root))
    for act in (store.check_writable, lambda: store.store(run_folder, prefix="run", size_limit_bytes=None)):
        started = time.monotonic()
        with pytest.raises(StoreDeniedError) as caught:
            act()
        assert time.monotonic() - started < 2 * slowdown()
        assert str(root) in str(caught.value)
        assert "choose another destination" in str(caught.value)
    assert store.runs() == []


def test_a_full_disk_behind_an_s3_server_leaves_nothing_partial(
    mounted, run_folder, credentials, make_server, tmp_path, proxy
):
    """It answers 500 then, as many do; that can't be told from what passes, so it ends at the deadline."""
    root = mounted("disk", "size=1m")
    server = make_server(root or tmp_path / "disk")
    port = server.port
    if root is None:  # not allowed to mount: as if the disk were full after so many bytes
        proxy._target, port = server.port, proxy.port
        proxy.on_bytes = (900_000, lambda: (setattr(proxy, "answers", [b"500 Internal Error"] * 999), proxy.drop()))
    (run_folder / "large.bin").write_bytes(os.urandom(2_000_000))
    known = credentials(port)
    with ArtifactStore.from_url("s3://bucket/runs", credentials=known, retry_deadline_seconds=1) as store:
        with pytest.raises((StoreUnavailableError, StoreFullError)):
            store.store(run_folder, prefix="run", size_limit_bytes=None)
        proxy.reset()
        assert {"large.bin", "manifest.json"} & server.objects("runs/run") == set()
    (run_folder / "large.bin").unlink()
    with ArtifactStore.from_url("s3://bucket/runs", credentials=known) as store:  # a second may be too little for it
        store.store(run_folder, prefix="run", size_limit_bytes=None)
        assert store.verify("run") == []


def test_ten_thousand_small_files_take_seconds(tmp_path):
    folder = tmp_path / "many"
    for number in range(10_000):
        if number % 500 == 0:
            (part := folder / f"{number:05}").mkdir(parents=True)
        (part / f"{number}.txt").write_text(str(number))
    store = ArtifactStore.from_url(str(tmp_path / "store"))
    started = time.monotonic()
    manifest = store.store(folder, prefix="run", size_limit_bytes=None)
    seconds = time.monotonic() - started
    assert len(manifest.files) == 10_000
    assert seconds < 40 * slowdown()  # 4 on an idle machine
    assert store.verify("run") == []


def test_a_folder_that_cant_be_made_is_denied_or_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ArtifactError, match="file"):
        ArtifactStore.from_url(str(tmp_path / "file" / "store")).check_writable()
