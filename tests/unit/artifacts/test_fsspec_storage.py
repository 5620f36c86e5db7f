"""The way to gs and abfs, with fsspec's own file system in memory, made to fail as theirs do."""

import errno
import os

import fsspec
import pytest

from dask_training.artifacts import ArtifactStore
from dask_training.artifacts.faults import Secrets
from dask_training.artifacts.fsspec_storage import FsspecStorage, open_fsspec
from dask_training.errors import ArtifactError, ManifestError, StoreDeniedError, StoreFullError, StoreUnavailableError


class AnswerError(Exception):
    """As gcsfs's HttpError: `code` is the status."""

    def __init__(self, code: int) -> None:
        super().__init__(f"canary-secret, {code}")
        self.code = code


class File:
    """Whole when it is closed, as an object is."""

    closed = False

    def __init__(self, memory, path: str) -> None:
        self._memory, self._path, self._data = memory, path, b""

    def write(self, data: bytes) -> None:
        self._memory.fail("write")
        self._data += data

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._memory.fail("close")
            self._memory.inner.pipe_file(self._path, self._data)

    def discard(self) -> None:
        self._memory.discarded.append(self._path)

    def __del__(self) -> None:
        self.close()  # as fsspec's own does


class Memory:
    """A file system in memory that raises what it is told."""

    def __init__(self) -> None:
        self.inner = fsspec.filesystem("memory", skip_instance_cache=True)
        self.failures: dict[str, list[Exception]] = {}
        self.discarded: list[str] = []

    def fail(self, what: str) -> None:
        if self.failures.get(what):
            raise self.failures[what].pop(0)

    def open(self, path, mode, **kwargs):
        self.fail(f"open {mode}")
        return File(self, path) if mode == "wb" else self.inner.open(path, mode)

    def __getattr__(self, name):
        def call(*args, **kwargs):
            self.fail(name)
            return getattr(self.inner, name)(*args, **kwargs)

        return call


@pytest.fixture
def memory():
    memory = Memory()
    memory.inner.store.clear()
    yield memory
    memory.inner.store.clear()


@pytest.fixture
def store(memory):
    secrets = Secrets(["canary-secret"])
    return ArtifactStore(
        FsspecStorage(lambda: memory, "/bucket/p", url="gs://bucket/p", secrets_=secrets, retry_deadline_seconds=60)
    )


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "run"
    (folder / "sub").mkdir(parents=True)
    (folder / "large").write_bytes(os.urandom(3 * 2**20 + 1))
    (folder / "sub" / "empty").touch()
    return folder


def test_a_run_comes_back_and_is_listed(store, folder, tmp_path):
    store.check_writable()
    manifest = store.store(folder, prefix="job/1", size_limit_bytes=None)
    assert store.verify("job/1") == []
    assert store.runs() == ["job/1"]
    store.get("job/1", tmp_path / "copy")
    assert (tmp_path / "copy" / "large").read_bytes() == (folder / "large").read_bytes()
    assert store.store(folder, prefix="job/1", size_limit_bytes=None).files == manifest.files
    assert store.verify("job/1") == []


@pytest.mark.parametrize("where", ["open wb", "write", "close", "open rb", "rm_file"])
def test_failures_that_pass_are_tried_again(store, memory, folder, where):
    memory.failures[where] = [AnswerError(503), AnswerError(429), ConnectionResetError(errno.ECONNRESET, "reset")]
    store.store(folder, prefix="job/1", size_limit_bytes=None)
    assert store.verify("job/1") == []
    assert memory.failures[where] == []


@pytest.mark.parametrize(
    ("error", "kind"),
    [(AnswerError(403), StoreDeniedError), (AnswerError(507), StoreFullError), (ValueError("bug"), ArtifactError)],
)
@pytest.mark.parametrize("where", ["write", "close"])
def test_others_are_not_and_leave_nothing_of_the_file(store, memory, folder, where, error, kind):
    (folder / "sub" / "empty").unlink()
    memory.failures[where] = [error]
    with pytest.raises(kind) as caught:
        store.store(folder, prefix="job/1", size_limit_bytes=None)
    assert "canary" not in str(caught.value)
    assert memory.inner.find("/bucket/p") == []
    with pytest.raises(ManifestError):
        store.manifest("job/1")


def test_a_store_that_never_answers_is_told_at_the_deadline(memory, monkeypatch):
    monkeypatch.setattr("dask_training.artifacts.store.PROBE_SECONDS", 0.3)
    memory.failures["pipe_file"] = [AnswerError(503)] * 999
    storage = FsspecStorage(lambda: memory, "/b", url="gs://b", secrets_=Secrets(()), retry_deadline_seconds=0.3)
    with pytest.raises(StoreUnavailableError):
        ArtifactStore(storage).check_writable()


def test_a_damaged_run_is_found(store, memory, folder):
    store.store(folder, prefix="job/1", size_limit_bytes=None)
    memory.inner.pipe_file("/bucket/p/job/1/large", b"x")
    memory.inner.rm_file("/bucket/p/job/1/sub/empty")
    assert len(store.verify("job/1")) == 2


@pytest.mark.parametrize(
    ("protocol", "bucket", "credentials", "arguments"),
    [
        ("gs", "b", {"GOOGLE_APPLICATION_CREDENTIALS": "/key.json"}, {"token": "/key.json"}),
        ("abfs", "c", {"AZURE_STORAGE_ACCOUNT_KEY": "canary"}, {"account_key": "canary"}),
        ("abfs", "c@acct.dfs.core.windows.net", {}, {"account_name": "acct"}),
    ],
)
def test_credentials_reach_the_library_and_nothing_else(monkeypatch, protocol, bucket, credentials, arguments):
    made = {}
    monkeypatch.setattr(fsspec, "filesystem", lambda name, **kwargs: made.update(kwargs, name=name))
    storage = open_fsspec(protocol, bucket, "p", credentials, 1)
    assert made == {}, "connected too early"
    _ = storage._filesystem
    assert made == {"name": protocol, "skip_instance_cache": True, "use_listings_cache": False} | arguments
    assert "canary" not in repr(storage)
    assert storage.url == f"{protocol}://{bucket}/p"
