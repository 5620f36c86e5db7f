"""Addresses of stores, and the libraries they need."""

import importlib

import pytest

from dask_training.artifacts import ArtifactStore
from dask_training.artifacts.destinations import Destination, parse
from dask_training.errors import ArtifactError


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("artifacts", ("file", "", "artifacts")),
        ("/data/a b%20c", ("file", "", "/data/a b%20c")),
        ("file:///data/a%20b", ("file", "", "/data/a b")),
        ("s3://bucket", ("s3", "bucket", "")),
        ("s3://bucket/", ("s3", "bucket", "")),
        ("S3://bucket/a/b/", ("s3", "bucket", "a/b")),
        ("s3a://bucket/a", ("s3a", "bucket", "a")),
        ("gs://bucket/a", ("gs", "bucket", "a")),
        ("abfs://container@account.dfs.core.windows.net/a", ("abfs", "container@account.dfs.core.windows.net", "a")),
    ],
)
def test_an_address_is_taken_apart(url, parts):
    assert parse(url) == Destination(*parts)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "use a path, file:///path"),
        ("a\0b", "use a path"),
        ("file://data/x", "needs three slashes"),
        ("http://example.com/x", "can't be kept at a 'http' address: use a path"),
        ("hdfs://x", "can't be kept at a 'hdfs' address"),
        ("s3:///prefix", "go on with the name of a bucket"),
        ("s3://a/b?versionId=x", "must end before any"),
        ("s3://a/b#c", "must end before any"),
        ("s3://[x/y", "can't be kept at this 's3' address"),
        ("s3://bucket/a/../b", "'..'"),
        ("s3://bucket/a//b", "empty component"),
        ("s3://bucket/a%0ab\x7f", "control character"),
        ("s3://key:canary@bucket/a", "credentials belong into destination.secretRef"),
        ("s3://bucket/a?sig=canary", "must end before any"),
        ("file://canary:canary@host/x", "needs three slashes"),
    ],
)
def test_an_address_that_cant_be_is_refused_and_secrets_in_it_are_not_repeated(url, says):
    with pytest.raises(ArtifactError) as caught:
        ArtifactStore.from_url(url)
    assert says in str(caught.value)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "module", "extra"),
    [("gs://bucket/a", "gcsfs", "gs"), ("abfs://container/a", "adlfs", "abfs"), ("s3://bucket/a", "s3fs", "s3")],
)
def test_a_missing_library_is_named_with_the_command_that_installs_it(monkeypatch, url, module, extra):
    really = importlib.import_module

    def without(name, package=None):
        if name == module:
            raise ModuleNotFoundError(f"No module named {name!r}")
        return really(name, package)

    monkeypatch.setattr(importlib, "import_module", without)
    with pytest.raises(ArtifactError, match=rf"pip install 'dask-training\[{extra}\]'$"):
        ArtifactStore.from_url(url)


@pytest.mark.parametrize(
    ("credentials", "says"),
    [
        ({"AWS_ACCESS_KEY_ID": "canary"}, "have AWS_ACCESS_KEY_ID without AWS_SECRET_ACCESS_KEY"),
        ({"AWS_SECRET_ACCESS_KEY": "canary"}, "have AWS_SECRET_ACCESS_KEY without AWS_ACCESS_KEY_ID"),
        ({"AWS_ENDPOINT_URL": "http://canary:canary@host"}, "AWS_ENDPOINT_URL must not hold credentials"),
        ({"AWS_ENDPOINT_URL": "s3.example.com"}, "must be an address like https://s3.example.com, got"),
        ({"AWS_ENDPOINT_URL": "http://[x"}, "must be an address like"),
    ],
)
def test_credentials_that_cant_be_right_are_refused_before_anything_is_sent(credentials, says):
    with pytest.raises(ArtifactError) as caught:
        ArtifactStore.from_url("s3://bucket/a", credentials=credentials)
    assert says in str(caught.value)
    assert "canary" not in str(caught.value)


def test_a_store_shows_its_address_alone():
    known = {"AWS_ACCESS_KEY_ID": "canary", "AWS_SECRET_ACCESS_KEY": "canary", "AWS_SESSION_TOKEN": "canary"}
    store = ArtifactStore.from_url("s3://bucket/a", credentials=known)
    assert repr(store) == "ArtifactStore('s3://bucket/a')"
    assert store.url_of("job/1") == "s3://bucket/a/job/1"
    assert "canary" not in repr(store._storage) + repr(store._storage._connection)
