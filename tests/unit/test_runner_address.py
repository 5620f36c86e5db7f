"""Waiting for the scheduler, and for nothing else that may answer at its address."""

import socket
import ssl
import threading

import pytest

from dask_training.certificates import make_certificates
from dask_training.errors import StartupDeadlineError
from dask_training.runner.address import listens, scheduler_address
from dask_training.runner.dask_environment import tls_variables, write_certificates


@pytest.fixture
def serve():
    """Called with a TLS context or None: a server at a new address of this machine; ended after the test."""
    sockets = []

    def serve(context):
        listener = socket.create_server(("127.0.0.1", 0))
        sockets.append(listener)

        def accept():
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    try:
                        if context is not None:
                            context.wrap_socket(connection, server_side=True).close()
                    except OSError:
                        continue

        threading.Thread(target=accept, daemon=True).start()
        return f"tls://127.0.0.1:{listener.getsockname()[1]}"

    yield serve
    for each in sockets:
        each.shutdown(socket.SHUT_RDWR)
        each.close()


@pytest.fixture
def scheduler_of(tmp_path):
    """Called with a name: the TLS context of that job's scheduler, and the variables of its runner."""

    def scheduler_of(name):
        write_certificates(make_certificates(name, ("scheduler", "client"), lifetime_seconds=60), tmp_path / name)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=tmp_path / name / "ca.pem")
        context.load_cert_chain(tmp_path / name / "scheduler.pem")
        context.verify_mode = ssl.CERT_REQUIRED
        return context, tls_variables("client", tmp_path / name)

    return scheduler_of


def test_only_the_jobs_own_scheduler_is_taken_for_it(serve, scheduler_of, monkeypatch):
    mine, variables = scheduler_of("mine")
    other, _ = scheduler_of("other")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    address = serve(mine)
    assert any(listens(address) for _ in range(5))  # a busy machine may need more than the second that it waits
    assert not listens(serve(other))  # as a proxy does that accepts connections for an address which is not there yet
    assert not listens(serve(None))


def test_a_scheduler_is_waited_for_until_the_deadline(serve, scheduler_of, monkeypatch):
    mine, variables = scheduler_of("mine")
    other, _ = scheduler_of("other")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    address = serve(other)
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", address)
    with pytest.raises(StartupDeadlineError, match="no scheduler answers at tls://127"):
        scheduler_address(None, timeout=0.2)
    address = serve(mine)
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", address)
    assert scheduler_address(None, timeout=60) == address
