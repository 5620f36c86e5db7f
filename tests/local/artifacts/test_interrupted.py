"""Whatever ends an upload, and whenever: never a manifest that does not verify, and the next run succeeds."""

import os
import signal
import time

import pytest

from dask_training.artifacts import ArtifactStore
from dask_training.artifacts.tree import TEMPORARY_PREFIX
from dask_training.errors import ManifestError, StoreUnavailableError

MOMENTS = 20


def is_consistent(store, prefix) -> bool:
    """Whether there is no manifest; fails if there is one that does not verify."""
    try:
        problems = store.verify(prefix)
    except ManifestError as error:
        missing = "doesn't exist" in str(error)
        if not missing:
            raise
        return True
    assert problems == []
    return False


def unfinished(store, prefix) -> list:
    """The server's unfinished multipart uploads of that run."""

    async def attempt(s3, _):
        return (await s3._call_s3("list_multipart_uploads", Bucket="bucket")).get("Uploads") or []

    found = store._storage._connection.call(attempt, action="look", stop=lambda: False)
    return [upload for upload in found if upload["Key"].startswith(f"runs/{prefix}/")]


@pytest.fixture
def traffic(s3_store, proxy, run_folder):
    """The bytes towards the server of one undisturbed run; at least so many are sent in each."""
    store = s3_store(proxy.port)
    store.store(run_folder, prefix="cut/whole", size_limit_bytes=None)
    return proxy.sent


def test_uploads_whose_connections_are_cut_once_at_any_offset_succeed(s3_store, proxy, run_folder, traffic):
    store, direct = s3_store(proxy.port), s3_store()
    for moment in range(MOMENTS):
        proxy.reset()
        proxy.cut_after = 1 + traffic * moment // MOMENTS
        store.store(run_folder, prefix="cut/once", size_limit_bytes=None)
        assert proxy.cuts == 1, "the cut came too late"
        assert direct.verify("cut/once") == []
    assert unfinished(direct, "cut/once") == []


def test_uploads_cut_for_good_at_any_offset_leave_no_wrong_manifest_and_can_be_done_again(
    s3_store, server, proxy, run_folder, traffic
):
    direct, store = s3_store(), s3_store(proxy.port, deadline=0.2)
    incomplete = 0
    for moment in range(MOMENTS):
        proxy.reset()
        proxy.cut_after, proxy.forever = 1 + traffic * moment // MOMENTS, True
        prefix = f"cut/good{moment}"
        with pytest.raises(StoreUnavailableError):
            store.store(run_folder, prefix=prefix, size_limit_bytes=None)
        incomplete += is_consistent(direct, prefix)
        (run_folder / "metrics.json").write_text(f'{{"moment": {moment}}}')
        direct.store(run_folder, prefix=prefix, size_limit_bytes=None)
        assert direct.verify(prefix) == []
        assert unfinished(direct, prefix) == []
    assert incomplete >= MOMENTS - 1


def test_a_complete_run_that_is_stored_again_never_has_the_old_manifest_over_new_files(
    s3_store, proxy, run_folder, traffic
):
    direct, store = s3_store(), s3_store(proxy.port, deadline=0.2)
    for moment in range(0, MOMENTS, 4):
        direct.store(run_folder, prefix="cut/again", size_limit_bytes=None)
        for path in (run_folder / "metrics.json", run_folder / "logs" / "runner.log"):
            path.write_text(f"new content {moment}")
        proxy.reset()
        proxy.cut_after, proxy.forever = 1 + traffic * moment // MOMENTS, True
        with pytest.raises(StoreUnavailableError):
            store.store(run_folder, prefix="cut/again", size_limit_bytes=None)
        is_consistent(direct, "cut/again")


def test_s3_uploads_killed_at_any_moment_leave_no_wrong_manifest_and_can_be_done_again(
    s3_store, proxy, credentials, run_folder, traffic, zygote
):
    direct = s3_store()
    order = {"kind": "s3", "credentials": credentials(proxy.port), "part_bytes": 64 * 1024, "folder": str(run_folder)}
    killed = 0
    for moment in range(MOMENTS):
        proxy.reset()
        prefix = f"kill/{moment}"
        pids = []
        at = 1 + traffic * moment // MOMENTS

        def kill(pids=pids):
            while not pids:  # the first bytes may come before we know who sends them
                time.sleep(0.001)
            os.kill(pids[0], signal.SIGKILL)

        proxy.on_bytes = (at, kill)
        pids.append(zygote.start(prefix=prefix, **order))
        killed += zygote.ended() is None
        is_consistent(direct, prefix)
        direct.store(run_folder, prefix=prefix, size_limit_bytes=None)
        assert direct.verify(prefix) == []
        assert unfinished(direct, prefix) == []
    assert killed == MOMENTS


@pytest.mark.parametrize("threads", [1, 8])
def test_writes_to_a_folder_killed_at_any_system_call_leave_no_wrong_manifest_and_can_be_done_again(
    tmp_path, run_folder, zygote, threads
):
    for number in range(10):
        (run_folder / f"more{number}.txt").write_text(str(number))
    root = tmp_path / "store"
    store = ArtifactStore.from_url(str(root))
    order = {"kind": "file", "root": str(root), "folder": str(run_folder), "threads": threads}
    for prefix in ("kill/first", "kill/whole"):  # the first makes the folders above
        zygote.start(prefix=prefix, **order)
        calls = zygote.ended()
    assert calls > MOMENTS
    incomplete = killed = 0
    for moment in range(MOMENTS):
        prefix = f"kill/{moment}"
        zygote.start(prefix=prefix, die_at=1 + (calls - 1) * moment // (MOMENTS - 1), **order)
        killed += zygote.ended() is None
        incomplete += is_consistent(store, prefix)
        store.store(run_folder, prefix=prefix, size_limit_bytes=None)
        assert store.verify(prefix) == []
    # Several threads that make the same folder at once make more or fewer calls, and the last may not come.
    assert killed >= (MOMENTS if threads == 1 else MOMENTS - 2)
    assert incomplete >= MOMENTS - 3
    assert [path for path in root.rglob("*") if path.name.startswith(TEMPORARY_PREFIX)] == []


def test_a_complete_run_in_a_folder_that_is_stored_again_and_killed_is_never_wrong(tmp_path, run_folder, zygote):
    root = tmp_path / "store"
    store = ArtifactStore.from_url(str(root))
    order = {"kind": "file", "root": str(root), "folder": str(run_folder), "prefix": "kill/again"}
    zygote.start(**order)
    calls = zygote.ended()
    for moment in range(MOMENTS):
        for path in run_folder.glob("*.json"):
            path.write_text(f"new content {moment}")
        zygote.start(die_at=1 + calls * moment // MOMENTS, **order)
        zygote.ended()
        is_consistent(store, "kill/again")
        if moment % 3 == 0:
            store.store(run_folder, prefix="kill/again", size_limit_bytes=None)
