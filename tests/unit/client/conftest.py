from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

# By path: tests are no packages.
_spec = importlib.util.spec_from_file_location("fake_api", Path(__file__).with_name("fake_api.py"))
fake_api = importlib.util.module_from_spec(_spec)
sys.modules["fake_api"] = fake_api
_spec.loader.exec_module(fake_api)


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
