"""What of a folder is stored, and what is refused before anything is sent."""

import os
import socket
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dask_training.artifacts.collect import VanishedError, collect
from dask_training.errors import ArtifactError, SizeLimitError, UnsafeNameError


def read(source) -> bytes:
    with source.open() as reader:
        parts = []
        while data := reader.read(3):
            parts.append(data)
        return b"".join(parts)


def test_all_files_are_found_sorted_and_empty_folders_are_not(tmp_path):
    for path in ("b", "a/c", "a/.hidden", "a/d/e"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(path)
    (tmp_path / "empty").mkdir()
    sources = collect(tmp_path)
    assert [(source.path, source.size) for source in sources] == [("a/.hidden", 9), ("a/c", 3), ("a/d/e", 5), ("b", 1)]
    assert [read(source).decode() for source in sources] == [source.path for source in sources]


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ArtifactError, match="there is no such folder"):
        collect(tmp_path / "none")


def test_a_link_to_a_file_inside_is_stored_as_its_content(tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "3.joblib").write_text("three")
    (tmp_path / "best").symlink_to("models/3.joblib")
    (tmp_path / "models" / "absolute").symlink_to(tmp_path / "models" / "3.joblib")
    (tmp_path / "chain").symlink_to("best")
    assert {source.path: read(source) for source in collect(tmp_path)} == dict.fromkeys(
        ["best", "chain", "models/3.joblib", "models/absolute"], b"three"
    )


def test_the_folder_itself_may_be_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a").write_text("a")
    (tmp_path / "link").symlink_to("real")
    assert [read(source) for source in collect(tmp_path / "link")] == [b"a"]


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("/etc/passwd", "leads out of the folder"),
        ("../outside", "leads out of the folder"),
        ("sub/../../outside", "leads out of the folder"),
        ("/", "leads out of the folder"),
        ("nowhere", "link to nothing"),
        ("link", "something else than a regular file"),
        ("file/below", "link to nothing"),
        ("sub", "something else than a regular file"),
        (".", "something else than a regular file"),
    ],
)
def test_other_links_are_refused(tmp_path, target, says):
    (tmp_path / "outside").write_text("secret")
    folder = tmp_path / "run"
    (folder / "sub").mkdir(parents=True)
    (folder / "file").touch()
    (folder / "link").symlink_to(target)
    with pytest.raises(UnsafeNameError, match=says) as caught:
        collect(folder)
    assert "'link'" in str(caught.value)


def test_a_link_to_a_folder_with_the_same_beginning_leads_out(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run-other").mkdir()
    (tmp_path / "run-other" / "secret").write_text("secret")
    (tmp_path / "run" / "link").symlink_to("../run-other/secret")
    with pytest.raises(UnsafeNameError, match="leads out"):
        collect(tmp_path / "run")


def test_a_pipe_a_socket_and_a_device_are_refused(tmp_path, request):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UnsafeNameError, match=r"'pipe' .* is a named pipe"):
        collect(tmp_path)
    (tmp_path / "pipe").unlink()
    with socket.socket(socket.AF_UNIX) as made:
        folder = os.open(tmp_path, os.O_RDONLY)
        request.addfinalizer(lambda: os.close(folder))
        made.bind(f"/proc/self/fd/{folder}/socket")  # the paths of sockets are short
        with pytest.raises(UnsafeNameError, match=r"'socket' .* is a socket"):
            collect(tmp_path)
    (tmp_path / "socket").unlink()
    (tmp_path / "device").symlink_to("/dev/null")
    with pytest.raises(UnsafeNameError):
        collect(tmp_path)


@pytest.mark.parametrize("name", [b"new\nline", b"\xff\xfe", b"back\\slash", b"esc\x1b[2J", "x\u202ey".encode()])
def test_a_file_or_a_file_in_a_folder_with_an_unsafe_name_is_refused_and_an_empty_folder_is_not(tmp_path, name):
    path = tmp_path / os.fsdecode(name)
    path.mkdir()
    assert collect(tmp_path) == []
    (path / "file").touch()
    with pytest.raises(UnsafeNameError) as caught:
        collect(tmp_path)
    assert str(tmp_path) in str(caught.value)
    (path / "file").unlink()
    path.rmdir()
    path.touch()
    with pytest.raises(UnsafeNameError):
        collect(tmp_path)


@pytest.mark.parametrize("name", ["manifest.json", "manifest.json/inside"])
def test_a_manifest_of_the_folders_own_is_refused_and_one_in_a_folder_is_not(tmp_path, name):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "manifest.json").touch()
    assert [source.path for source in collect(tmp_path)] == ["sub/manifest.json"]
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    with pytest.raises(UnsafeNameError, match="name that is reserved"):
        collect(tmp_path)


def test_a_folder_nested_deeper_than_any_name_may_be_is_refused(tmp_path):
    folder = os.open(tmp_path, os.O_RDONLY)
    for _ in range(600):
        os.mkdir("aa", dir_fd=folder)
        inner = os.open("aa", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
    os.close(folder)
    with pytest.raises(UnsafeNameError, match="at most 1024"):
        collect(tmp_path)


def test_the_size_limit_counts_all_files_and_names_the_largest(tmp_path):
    (tmp_path / "small").write_bytes(b"x" * 10)
    (tmp_path / "large").write_bytes(b"x" * 90)
    assert len(collect(tmp_path, size_limit_bytes=100)) == 2
    with pytest.raises(SizeLimitError) as caught:
        collect(tmp_path, size_limit_bytes=99)
    assert "have 100 bytes, the limit is 99 (spec.artifacts.sizeLimit); the largest is 'large' with 90 bytes" in str(
        caught.value
    )


def test_a_sparse_file_counts_with_the_size_it_has_for_readers(tmp_path):
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(SizeLimitError):
        collect(tmp_path, size_limit_bytes=5 * 2**30)


def test_too_many_files_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("dask_training.artifacts.collect.MAX_FILES", 3)
    for number in range(4):
        (tmp_path / str(number)).touch()
    with pytest.raises(SizeLimitError, match="more than 3 files"):
        collect(tmp_path)


def test_a_file_that_grows_is_read_up_to_the_size_it_had(tmp_path):
    (tmp_path / "log").write_text("12345")
    [source] = collect(tmp_path)
    with (tmp_path / "log").open("a") as file:
        file.write("6789")
    assert read(source) == b"12345"


def test_a_file_that_is_cut_is_read_to_its_end(tmp_path):
    (tmp_path / "log").write_text("12345")
    [source] = collect(tmp_path)
    (tmp_path / "log").write_text("12")
    assert read(source) == b"12"


def test_a_file_that_is_removed_is_said_to_be_gone(tmp_path):
    (tmp_path / "a").touch()
    [source] = collect(tmp_path)
    (tmp_path / "a").unlink()
    with pytest.raises(VanishedError), source.open():
        pass


@pytest.mark.parametrize("where", ["file", "folder", "fifo"])
def test_what_takes_a_files_place_after_the_check_is_not_followed(tmp_path, where):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_text("secret")
    run = tmp_path / "run"
    (run / "sub").mkdir(parents=True)
    (run / "sub" / "file").write_text("mine")
    [source] = collect(run)
    (run / "sub" / "file").unlink()
    if where == "file":
        (run / "sub" / "file").symlink_to(tmp_path / "outside" / "file")
    elif where == "folder":
        (run / "sub").rmdir()
        (run / "sub").symlink_to(tmp_path / "outside")
    else:
        os.mkfifo(run / "sub" / "file")
    with pytest.raises(UnsafeNameError):
        read(source)


def test_a_race_of_links_never_gives_the_content_outside(tmp_path):
    (tmp_path / "secret").write_text("secret")
    run = tmp_path / "run"
    run.mkdir()
    (run / "file").write_text("mine")
    done = threading.Event()

    def swap():
        while not done.is_set():
            (run / "new").symlink_to(tmp_path / "secret")
            (run / "new").rename(run / "file")
            (run / "new").write_text("mine")
            (run / "new").rename(run / "file")

    swapping = threading.Thread(target=swap)
    swapping.start()
    seen = set()
    try:
        for _ in range(300):
            try:
                seen |= {read(source) for source in collect(run) if source.path == "file"}
            except (UnsafeNameError, VanishedError):
                continue
    finally:
        done.set()
        swapping.join()
    assert all(b"mine".startswith(content) for content in seen)


parts = st.sampled_from(["a", "b", ".", "..", "out", "run", "link"])


@given(st.lists(parts, min_size=1, max_size=5).map("/".join), st.booleans())
@settings(max_examples=150)
def test_no_link_gives_a_file_from_outside(tmp_path_factory, target, absolute):
    top = tmp_path_factory.mktemp("t")
    (top / "out").write_text("outside")
    run = top / "run"
    (run / "a" / "b").mkdir(parents=True)
    (run / "a" / "out").write_text("inside")
    (run / "a" / "link").symlink_to(f"{run}/{target}" if absolute else target)
    try:
        sources = collect(run)
    except UnsafeNameError:
        return
    assert {read(source) for source in sources} == {b"inside"}


def test_a_file_that_cant_be_opened_is_named(tmp_path, monkeypatch):
    (tmp_path / "a").touch()
    [source] = collect(tmp_path)
    really = os.open

    def refused(path, flags, *args, **kwargs):
        if path == "a":
            raise PermissionError(13, "Permission denied")
        return really(path, flags, *args, **kwargs)

    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(ArtifactError, match=r"can't read 'a' in .*: Permission denied"):
        read(source)


def test_what_the_disk_refuses_to_read_is_named(tmp_path, monkeypatch):
    (tmp_path / "a").write_text("x")
    [source] = collect(tmp_path)

    def broken(*_):
        raise OSError(5, "Input/output error")

    with source.open() as reader:
        monkeypatch.setattr(os, "read", broken)
        with pytest.raises(ArtifactError, match=r"can't read 'a' in .*: Input/output error"):
            reader.read(1)
