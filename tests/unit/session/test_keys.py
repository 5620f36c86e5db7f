"""A session's key: what is asked to be certified, what is kept, and what Dask's configuration says meanwhile."""

from __future__ import annotations

import os
import stat

import dask
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from dask_training.certificates import make_certificates
from dask_training.errors import NotAttachableError
from dask_training.session import keys


@pytest.fixture
def credentials():
    made = make_certificates("mine", ["client"], lifetime_seconds=60)
    leaf = made.leaves["client"]
    return keys.Credentials(leaf.certificate.decode(), leaf.key.decode(), made.ca.decode())


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path / "dask-training" / "sessions"


def test_the_request_is_for_the_key_s_public_half():
    made = keys.make_key("mine")
    request = x509.load_pem_x509_csr(made.request.encode())
    key = load_pem_private_key(made.key.encode(), None)
    assert request.is_signature_valid
    assert request.public_key() == key.public_key()
    assert isinstance(key.curve, ec.SECP256R1)
    assert made.key not in repr(made)


def test_the_security_has_all_in_memory(credentials):
    security = credentials.security
    assert security.require_encryption is True
    arguments = security.get_connection_args("client")
    assert arguments["ssl_context"].get_ca_certs()
    assert credentials.key not in repr(credentials)


def test_what_is_kept_is_for_this_user_alone(credentials, state):
    path = keys.keep("uid-1", credentials)
    assert path.parent == state
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert keys.kept("uid-1", "mine") == credentials
    keys.forget("uid-1")
    assert list(state.iterdir()) == []
    with pytest.raises(NotAttachableError, match="the key of cluster mine is not on this machine"):
        keys.kept("uid-1", "mine")


def test_keys_of_clusters_that_are_long_gone_are_not_kept(credentials, state):
    old = keys.keep("old", credentials)
    os.utime(old, (1, 1))
    keys.keep("new", credentials)
    assert [path.name for path in state.iterdir()] == ["new.pem"]


def test_a_file_that_holds_something_else_is_named(state):
    state.mkdir(parents=True)
    (state / "uid-1.pem").write_text("hello")
    with pytest.raises(NotAttachableError, match=r"uid-1\.pem does not hold the key of cluster mine"):
        keys.kept("uid-1", "mine")


def test_the_configuration_says_the_last_cluster_and_then_what_it_said_before(credentials):
    def said():
        return dask.config.get("distributed.comm.tls.ca-file", None), dask.config.get("distributed.comm.tls.client.key")

    config, other = keys.TLSConfig(), keys.Credentials("c", "k", "a")
    with dask.config.set({"distributed.comm.tls.ca-file": "mine.pem", "distributed.comm.tls.client.key": None}):
        config.enter("one", credentials)
        assert said() == (credentials.authority, credentials.key)
        config.enter("two", other)
        assert said() == ("a", "k")
        config.leave("one")
        assert said() == ("a", "k")
        config.leave("two")
        config.leave("two")
        assert said() == ("mine.pem", None)
