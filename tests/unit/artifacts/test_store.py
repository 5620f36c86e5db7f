"""A store in a folder: what is kept, found, given back, and refused."""

import hashlib
import json
import os
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dask_training import artifacts
from dask_training.artifacts import ArtifactStore, manifest_of
from dask_training.artifacts.file_storage import FileStorage
from dask_training.artifacts.tree import Tree
from dask_training.errors import (
    ArtifactError,
    ManifestError,
    SizeLimitError,
    StoreDeniedError,
    StoreUnavailableError,
    UnsafeNameError,
)


@pytest.fixture
def store(tmp_path):
    return ArtifactStore.from_url(str(tmp_path / "store"))


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "run"
    (folder / "logs").mkdir(parents=True)
    (folder / "model").write_bytes(bytes(range(256)) * 10)
    (folder / "empty").touch()
    (folder / "logs" / "runner.log").write_text("hello")
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def write_manifest(folder: Path, *paths: str, content: bytes = b"x") -> None:
    digest = hashlib.sha256(content).hexdigest()
    entries = [{"path": path, "size": len(content), "sha256": digest} for path in paths]
    document = {"version": 1, "storedAt": "2026-01-01T00:00:00Z", "info": {}, "files": entries}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").write_text(json.dumps(document))


def test_the_public_names_are_these():
    assert sorted(artifacts.__all__) == artifacts.__all__
    assert {"ArtifactStore", "Manifest", "ManifestEntry", "RunSummary", "check_name", "key_prefix", "local_key_prefix",
            "manifest_of"} <= set(artifacts.__all__)  # fmt: skip


@pytest.mark.parametrize("form", ["{}", "file://{}", "file://localhost{}"])
def test_a_stored_folder_is_kept_as_it_is_with_a_manifest(tmp_path, folder, form):
    store = ArtifactStore.from_url(form.format(tmp_path / "a b" / "store"))
    manifest = store.store(folder, prefix="job/run", size_limit_bytes=None, info={"phase": "Succeeded"})
    kept = files(tmp_path / "a b" / "store" / "job" / "run")
    assert hashlib.sha256(kept.pop("manifest.json")).hexdigest() == manifest.sha256
    assert kept == files(folder)
    assert store.manifest("job/run") == manifest
    assert store.verify("job/run") == []
    assert store.url_of("job/run") == str(tmp_path / "a b" / "store" / "job" / "run")


def test_the_manifest_of_a_folder_is_the_one_that_storing_gives(store, folder):
    alone = manifest_of(folder, info={"a": 1})
    stored = store.store(folder, prefix="r", size_limit_bytes=None, info={"a": 1})
    assert (alone.files, alone.info, alone.total_bytes) == (stored.files, stored.info, stored.total_bytes)


def test_a_run_can_lie_at_the_stores_own_address(store, folder):
    store.store(folder, prefix="", size_limit_bytes=None)
    assert store.runs() == [""]
    assert store.verify("") == []


def test_an_empty_folder_is_a_run_without_files(store, tmp_path):
    (tmp_path / "run").mkdir()
    assert store.store(tmp_path / "run", prefix="r", size_limit_bytes=0).files == ()
    assert store.verify("r") == []


def test_nothing_is_written_when_anything_is_refused(store, folder, tmp_path):
    for refused, error in (
        ({"size_limit_bytes": 2560}, SizeLimitError),
        ({"prefix": "../elsewhere"}, UnsafeNameError),
        ({"prefix": "/absolute"}, UnsafeNameError),
        ({"prefix": "a//b"}, UnsafeNameError),
        ({"prefix": "x/" * 510 + "x"}, UnsafeNameError),
        ({"info": {"model": object()}}, TypeError),
    ):
        with pytest.raises(error):
            store.store(folder, **({"prefix": "r", "size_limit_bytes": None} | refused))
        assert not (tmp_path / "store").exists()
    (folder / "bad\nname").touch()
    with pytest.raises(UnsafeNameError):
        store.store(folder, prefix="r", size_limit_bytes=None)
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(("root", "prefix"), [("run", ""), ("run", "kept"), (".", ""), (".", "run"), (".", "run/kept")])
def test_a_folder_is_not_stored_into_itself_or_around_itself(tmp_path, folder, root, prefix):
    before = files(tmp_path)
    with pytest.raises(ArtifactError, match="into itself"):
        ArtifactStore.from_url(str(tmp_path / root)).store(folder, prefix=prefix, size_limit_bytes=None)
    assert files(tmp_path) == before


def test_a_link_in_the_stores_folders_is_not_followed(store, folder, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "store" / "job").mkdir(parents=True)
    (tmp_path / "store" / "job" / "run").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UnsafeNameError):
        store.store(folder, prefix="job/run", size_limit_bytes=None)
    assert files(tmp_path / "elsewhere") == {}


def test_a_run_stored_again_replaces_the_first(store, folder):
    store.store(folder, prefix="r", size_limit_bytes=None)
    (folder / "model").write_text("new")
    (folder / "empty").unlink()
    manifest = store.store(folder, prefix="r", size_limit_bytes=None)
    assert [entry.path for entry in manifest.files] == ["logs/runner.log", "model"]
    assert store.verify("r") == []


def test_a_removed_file_is_left_out_and_said_in_the_log(store, folder, monkeypatch, caplog):
    really = FileStorage.put

    def put(self, source, key, stop):
        if source.path == "empty":
            (folder / "empty").unlink()
        return really(self, source, key, stop)

    monkeypatch.setattr(FileStorage, "put", put)
    manifest = store.store(folder, prefix="r", size_limit_bytes=None)
    assert "empty" not in {entry.path for entry in manifest.files}
    assert store.verify("r") == []
    assert "'empty' was removed before it was stored" in caplog.text


def test_a_failure_in_between_leaves_no_manifest(store, folder, monkeypatch):
    store.store(folder, prefix="r", size_limit_bytes=None)
    really = os.rename

    def rename(source, target, **kwargs):
        if target == "runner.log":
            raise PermissionError(13, "Permission denied")
        return really(source, target, **kwargs)

    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(StoreDeniedError, match=r"can't store 'r/logs/runner.log' in .*Permission denied"):
        store.store(folder, prefix="r", size_limit_bytes=None)
    with pytest.raises(ManifestError, match="doesn't exist: the run isn't there, still runs"):
        store.manifest("r")


def test_a_network_folder_that_is_away_for_a_moment_is_tried_again(store, folder, monkeypatch):
    really, failures = os.fsync, [OSError(116, "Stale file handle")] * 3

    def fsync(descriptor):
        if failures:
            raise failures.pop()
        return really(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    store.store(folder, prefix="r", size_limit_bytes=None)
    assert failures == []
    assert store.verify("r") == []


def test_folders_that_could_not_be_flushed_are_flushed_by_the_next_call(tmp_path, monkeypatch):
    tree, really, flushed = Tree(tmp_path), os.fsync, []
    with tree.replace("a/b/file") as file:
        file.write(b"x")

    def fsync(descriptor):
        flushed.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        if len(flushed) == 2:
            raise OSError(116, "Stale file handle")
        return really(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="Stale"):
        tree.sync_folders()
    flushed.append("again")
    tree.sync_folders()
    assert flushed[3:] == [tmp_path.name, "a", "b"]
    tree.sync_folders()
    assert len(flushed) == 6, "flushed again for nothing"


def test_a_network_folder_that_stays_away_is_told_at_the_deadline(tmp_path, folder, monkeypatch):
    def fsync(_):
        raise OSError(116, "Stale file handle")

    monkeypatch.setattr(os, "fsync", fsync)
    store = ArtifactStore.from_url(str(tmp_path / "store"), retry_deadline_seconds=0.5)
    with pytest.raises(StoreUnavailableError, match="Stale file handle"):
        store.store(folder, prefix="r", size_limit_bytes=None)
    assert [name for name in files(tmp_path / "store") if ".tmp" in name] == []


def test_each_file_is_flushed_before_it_gets_its_name_and_the_manifest_is_last(store, folder, monkeypatch):
    happened = []
    fsync, rename = os.fsync, os.rename
    lock = threading.Lock()

    def note_fsync(descriptor):
        with lock:
            happened.append(("fsync", str(Path(f"/proc/self/fd/{descriptor}").readlink())))
        return fsync(descriptor)

    def note_rename(source, target, **kwargs):
        with lock:
            path = Path(f"/proc/self/fd/{kwargs['src_dir_fd']}").readlink()
            happened.append(("rename", f"{path}/{source}", target))
        return rename(source, target, **kwargs)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "rename", note_rename)
    store.store(folder, prefix="job/run", size_limit_bytes=None)
    renames = [(number, event) for number, event in enumerate(happened) if event[0] == "rename"]
    assert [event[2] for _, event in renames][-1] == "manifest.json"
    for number, (_, temporary, _) in renames:
        assert ("fsync", temporary) in happened[:number]
    last_file, manifest = renames[-2][0], renames[-1][0]
    flushed = {Path(event[1]).name for event in happened[last_file:manifest] if event[0] == "fsync"}
    assert {"store", "job", "run", "logs"} <= flushed, "names are not durable before the manifest says they are there"
    assert "run" in {Path(event[1]).name for event in happened[manifest:] if event[0] == "fsync"}


def test_what_a_killed_writer_left_is_removed_by_the_next(store, folder, tmp_path):
    left = tmp_path / "store" / "r" / "logs" / ".dask-training-0123456789abcdef.tmp"
    left.parent.mkdir(parents=True)
    left.touch()
    (tmp_path / "store" / "r" / "users.tmp").touch()
    store.store(folder, prefix="r", size_limit_bytes=None)
    assert not left.exists()
    assert (tmp_path / "store" / "r" / "users.tmp").exists()


def test_check_writable_makes_nothing(tmp_path):
    ArtifactStore.from_url(str(tmp_path / "a" / "b")).check_writable()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "there").mkdir()
    ArtifactStore.from_url(str(tmp_path / "there")).check_writable()
    assert files(tmp_path) == {}


def test_stop_ends_storing_and_getting(store, folder, tmp_path):
    stop = threading.Event()
    stop.set()
    with pytest.raises(ArtifactError, match="interrupted"):
        store.store(folder, prefix="r", size_limit_bytes=None, stop=stop)
    store.store(folder, prefix="r", size_limit_bytes=None)
    with pytest.raises(ArtifactError, match="interrupted"):
        store.get("r", tmp_path / "copy", stop=stop)
    with pytest.raises(ArtifactError, match="interrupted"):
        store.verify("r", stop=stop)


def test_damage_of_each_kind_is_one_line_each(store, folder, tmp_path):
    store.store(folder, prefix="r", size_limit_bytes=None)
    kept = tmp_path / "store" / "r"
    (kept / "model").write_bytes(b"y" * 2560)
    (kept / "empty").write_text("longer")
    (kept / "logs" / "runner.log").unlink()
    assert sorted(store.verify("r")) == [
        "'empty' has more than 0 bytes, the manifest says 0",
        "'logs/runner.log' is missing",
        "'model' has another content than the manifest says (SHA-256 differs)",
    ]
    (kept / "logs" / "runner.log").symlink_to(folder / "logs" / "runner.log")
    with pytest.raises(UnsafeNameError):
        store.verify("r")


def test_a_verified_copy_is_itself_a_run(store, folder, tmp_path):
    store.store(folder, prefix="r", size_limit_bytes=None)
    target = tmp_path / "new" / "copy"
    paths = store.get("r", target)
    assert sorted(paths) == sorted(target / name for name in files(folder))
    assert ArtifactStore.from_url(str(target)).verify("") == []


def test_some_files_can_be_had_alone(store, folder, tmp_path):
    store.store(folder, prefix="r", size_limit_bytes=None)
    assert store.get("r", tmp_path / "copy", only=["logs/runner.log"]) == [tmp_path / "copy" / "logs" / "runner.log"]
    assert files(tmp_path / "copy") == {"logs/runner.log": b"hello"}
    with pytest.raises(ManifestError, match="the run has no file 'other'"):
        store.get("r", tmp_path / "copy", only=["other"])


def test_a_file_that_does_not_agree_is_not_left_in_the_copy(store, folder, tmp_path):
    store.store(folder, prefix="r", size_limit_bytes=None)
    (tmp_path / "store" / "r" / "model").write_bytes(b"z" * 2560)
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "model").write_text("mine")
    with pytest.raises(ManifestError, match="'model' has another content"):
        store.get("r", tmp_path / "copy")
    assert (tmp_path / "copy" / "model").read_text() == "mine"
    assert "manifest.json" not in files(tmp_path / "copy")
    assert [name for name in files(tmp_path / "copy") if name.endswith(".tmp")] == []


@pytest.mark.parametrize("link", ["file", "folder"])
def test_links_in_the_target_lead_nowhere(store, tmp_path, link):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "x").write_text("untouched")
    kept = tmp_path / "store" / "r"
    write_manifest(kept, "sub/x")
    (kept / "sub").mkdir()
    (kept / "sub" / "x").write_text("x")
    target = tmp_path / "target"
    target.mkdir()
    if link == "folder":
        (target / "sub").symlink_to(tmp_path / "outside")
        with pytest.raises(UnsafeNameError):
            store.get("r", target)
    else:
        (target / "sub").mkdir()
        (target / "sub" / "x").symlink_to(tmp_path / "outside" / "x")
        store.get("r", target)
        assert not (target / "sub" / "x").is_symlink()
    assert (tmp_path / "outside" / "x").read_text() == "untouched"


components = st.sampled_from(["a", "b", "..", ".", "", "/", "link", "manifest.json", "c\0"])


@given(st.lists(st.lists(components, min_size=1, max_size=5).map("/".join), min_size=1, max_size=3))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_manifest_makes_get_write_outside_its_target(tmp_path_factory, paths):
    top = tmp_path_factory.mktemp("g")
    write_manifest(top / "store" / "r", *paths)
    (top / "outside").mkdir()
    (top / "target").mkdir()
    (top / "target" / "link").symlink_to(top / "outside")

    class Everything(FileStorage):
        """Has the content x under every key, as a hostile server might."""

        def read(self, key, limit, stop):
            if key == "r/manifest.json":
                yield from super().read(key, limit, stop)
            else:
                yield b"x"

    before = files(top / "store")
    store = ArtifactStore(Everything(top / "store", retry_deadline_seconds=1))
    try:
        written = store.get("r", top / "target")
        assert {str(path.relative_to(top / "target")) for path in written} == set(paths)
    except ArtifactError:
        pass
    assert files(top / "outside") == {}
    assert files(top / "store") == before
    assert {path.name for path in top.iterdir()} == {"store", "outside", "target"}


def test_a_target_that_cant_be_written_is_not_called_a_full_store(store, folder, tmp_path, monkeypatch):
    store.store(folder, prefix="r", size_limit_bytes=None)

    def write(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(ArtifactError, match=r"can't write .* in .*copy: No space left on device") as caught:
        store.get("r", tmp_path / "copy")
    assert type(caught.value) is ArtifactError


def test_a_huge_manifest_is_not_read_whole(store, tmp_path, monkeypatch):
    monkeypatch.setattr("dask_training.artifacts.store.MAX_MANIFEST_BYTES", 100)
    (tmp_path / "store").mkdir()
    with (tmp_path / "store" / "manifest.json").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(ManifestError, match="more than 100 bytes"):
        store.manifest("")


def test_runs_are_found_at_any_of_their_depths_and_the_rest_is_not(store, folder, tmp_path):
    for prefix in ("job/run1", "ns/job/uid/1", "ns/job/uid/2", "alone"):
        store.store(folder, prefix=prefix, size_limit_bytes=None)
    write_manifest(tmp_path / "store" / "job" / "run1" / "sub")
    write_manifest(tmp_path / "store" / "a" / "b" / "c" / "d" / "e")
    (tmp_path / "store" / "unfinished" / "run").mkdir(parents=True)
    assert store.runs() == ["alone", "job/run1", "ns/job/uid/1", "ns/job/uid/2"]
    assert store.runs("ns") == ["ns/job/uid/1", "ns/job/uid/2"]
    assert store.runs("none") == []
    assert ArtifactStore.from_url(str(tmp_path / "nowhere")).runs() == []


def test_summaries_say_what_there_is_and_what_is_damaged(store, folder, tmp_path):
    store.store(folder, prefix="job/1", size_limit_bytes=None, info={"phase": "Failed", "reason": "RunnerFailed"})
    first = tmp_path / "store" / "job" / "1" / "manifest.json"
    document = json.loads(first.read_text())
    first.write_text(json.dumps(document | {"storedAt": "2026-01-01T00:00:00Z"}))  # earlier than the next
    store.store(folder, prefix="job/0", size_limit_bytes=None, info={"phase": "Succeeded", "reason": "Completed"})
    store.store(folder, prefix="job/2", size_limit_bytes=None)
    (tmp_path / "store" / "job" / "bad").mkdir()
    (tmp_path / "store" / "job" / "bad" / "manifest.json").write_text("{")
    bad, first, second, third = store.summaries()
    assert bad.run == "job/bad"
    assert "is not a manifest" in bad.problem
    assert bad.stored_at is None
    assert [(run.run, run.verdict) for run in (first, second, third)] == [
        ("job/1", "Failed: RunnerFailed"),
        ("job/0", "Succeeded"),
        ("job/2", ""),
    ]
    assert (first.files, first.bytes, first.problem) == (3, 2565, None)


def test_a_tree_does_not_go_up_even_when_asked_to(tmp_path):
    """Names are checked before; this is the second line."""
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "up").symlink_to("..")
    with pytest.raises(UnsafeNameError):
        Tree(tmp_path / "root").open_file("up/secret")
