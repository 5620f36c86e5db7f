"""The session's example where there is no Kubernetes: the notebook as Jupyter runs it."""

import os
from pathlib import Path

import nbclient
import nbformat
import psutil

NOTEBOOK = Path(__file__).parents[2] / "examples" / "session" / "session.ipynb"


def test_the_notebook_runs_on_this_machine(tmp_path, monkeypatch):
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    before = _children()
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    printed = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", ()))
    for line in (
        "accuracy 0.97",
        "2 workers have ended well, 0 have failed",
        "hello from",
        "the master says: hello",
        "0 failures",
        "best of 4: C = 10.0",
    ):
        assert line in printed, printed
    assert _children() <= before


def _children() -> set[psutil.Process]:
    return {each for each in psutil.Process(os.getpid()).children(recursive=True) if each.is_running()}
