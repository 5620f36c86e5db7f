from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest


def load(name):
    """A module beside this one, by its path: tests are no packages."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


load("fake_forward")
fake_api = load("fake_api")


@pytest.fixture
def api(tmp_path, monkeypatch):
    """A fake API server, with a kubeconfig that leads to it."""
    server = fake_api.FakeAPI()
    config = tmp_path / "kubeconfig"
    config.write_text(
        f"""\
apiVersion: v1
kind: Config
current-context: here
clusters: [{{name: fake, cluster: {{server: "{server.url}"}}}}]
users: [{{name: me, user: {{token: t}}}}]
contexts:
- {{name: here, context: {{cluster: fake, user: me}}}}
- {{name: lab, context: {{cluster: fake, user: me, namespace: lab}}}}
"""
    )
    monkeypatch.setenv("KUBECONFIG", str(config))
    yield server
    server.close()


@pytest.fixture
def log_script():
    return fake_api.LogScript


@pytest.fixture
def client(api):
    from dask_training.client import TrainingClient

    with TrainingClient() as client:
        yield client
