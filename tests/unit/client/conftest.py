from __future__ import annotations

from pathlib import Path

import pytest
from modules import load_module

HERE = Path(__file__).parent

load_module(HERE / "fake_forward.py", "fake_forward")  # which the next one imports
fake_api = load_module(HERE / "fake_api.py", "fake_api")


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
