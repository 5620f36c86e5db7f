"""The list of kept files: what is written, and what is believed."""

import datetime
import hashlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dask_training.artifacts.manifest import ManifestEntry, build, parse
from dask_training.artifacts.names import problem_with
from dask_training.errors import ManifestError

DIGEST = hashlib.sha256(b"x").hexdigest()
NOW = datetime.datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=datetime.UTC)


def entry(path: str, size: int = 1) -> ManifestEntry:
    return ManifestEntry(path, size, DIGEST)


def document(**changes) -> dict:
    return {"version": 1, "storedAt": "2026-01-02T03:04:05Z", "info": {}, "files": []} | changes


def raw(**changes) -> bytes:
    return json.dumps(document(**changes)).encode()


def test_a_manifest_is_plain_json_and_comes_back_the_same():
    manifest = build([entry("b", 2), entry("a")], {"phase": "Succeeded", "metrics": {"accuracy": 0.9}}, now=NOW)
    assert json.loads(manifest.raw) == {
        "version": 1,
        "storedAt": "2026-01-02T03:04:05Z",
        "info": {"phase": "Succeeded", "metrics": {"accuracy": 0.9}},
        "files": [{"path": "a", "size": 1, "sha256": DIGEST}, {"path": "b", "size": 2, "sha256": DIGEST}],
    }
    assert manifest.sha256 == hashlib.sha256(manifest.raw).hexdigest()
    assert manifest.total_bytes == 3
    assert parse(manifest.raw, where="x") == manifest


def test_info_that_is_no_json_is_a_type_error():
    with pytest.raises(TypeError):
        build([], {"model": object()})


def test_fields_of_a_later_version_of_the_same_format_are_ignored():
    assert parse(raw(extra=1), where="x").files == ()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"\xff\xfe",
        b"{",
        b"{}",
        b"[" * 100_000,
        raw(version=2),
        raw(version="1"),
        raw(storedAt="yesterday"),
        raw(storedAt="2026-01-02T03:04:05"),
        raw(info=[]),
        raw(files={}),
        raw(files=[{"path": "a", "size": 1}]),
        raw(files=[{"path": 1, "size": 1, "sha256": DIGEST}]),
        raw(files=[{"path": "a", "size": -1, "sha256": DIGEST}]),
        raw(files=[{"path": "a", "size": 2**63, "sha256": DIGEST}]),
        raw(files=[{"path": "a", "size": 1.5, "sha256": DIGEST}]),
        raw(files=[{"path": "a", "size": 1, "sha256": DIGEST.upper()}]),
        raw(files=[{"path": "a", "size": 1, "sha256": DIGEST + "\n"}]),
        raw(files=[{"path": "a", "size": 1, "sha256": ""}]),
        raw(files=[{"path": "a", "size": 1, "sha256": DIGEST, "url": "http://elsewhere"}]),
    ],
)
def test_what_is_no_manifest_is_said_so_with_its_address(data):
    with pytest.raises(ManifestError, match=r"^s3://b/manifest.json is not a manifest of this version"):
        parse(data, where="s3://b/manifest.json")


@pytest.mark.parametrize(
    ("paths", "says"),
    [
        (["../a"], "'..'"),
        (["/a"], "absolute"),
        (["a\0"], "control character"),
        (["manifest.json"], "lists manifest.json itself"),
        (["manifest.json/a"], "lists manifest.json itself"),
        (["a", "a"], "'a' twice"),
        (["a", "a/b"], "'a' both as a file and as a folder"),
        (["a/b/c", "a/b", "x"], "'a/b' both as a file and as a folder"),
    ],
)
def test_paths_that_cant_all_be_files_of_one_folder_are_not_trusted(paths, says):
    with pytest.raises(ManifestError) as caught:
        parse(raw(files=[{"path": path, "size": 1, "sha256": DIGEST} for path in paths]), where="m")
    assert says in str(caught.value)
    assert str(caught.value).startswith("m can't be trusted: ")


def test_more_files_than_a_run_may_keep_are_not_trusted(monkeypatch):
    monkeypatch.setattr("dask_training.artifacts.manifest.MAX_FILES", 2)
    with pytest.raises(ManifestError, match="lists 3 files"):
        build([entry("a"), entry("b"), entry("c")], {})


@given(
    st.binary(max_size=60)
    | st.recursive(st.none() | st.text(max_size=5) | st.integers(), st.lists).map(str).map(str.encode)
)
def test_no_bytes_give_anything_but_a_manifest_or_a_manifest_error(data):
    try:
        parse(data, where="x")
    except ManifestError:
        return


components = st.sampled_from(["a", "b", "..", ".", "", "c\n", "manifest.json", "é", "x" * 256])


@given(st.lists(st.lists(components, min_size=1, max_size=4).map("/".join) | st.text(max_size=8), max_size=5))
@settings(max_examples=400)
def test_the_paths_of_a_believed_manifest_are_safe_and_distinct(paths):
    try:
        manifest = parse(raw(files=[{"path": path, "size": 0, "sha256": DIGEST} for path in paths]), where="x")
    except ManifestError:
        return
    believed = [found.path for found in manifest.files]
    assert believed == paths
    assert len(set(believed)) == len(believed)
    assert all(problem_with(path) is None for path in believed)
    assert not any(other.startswith(f"{path}/") for path in believed for other in believed)
