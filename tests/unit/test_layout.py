"""Where things are, who may import whom, and what is public."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import dask_training

PACKAGE = Path(dask_training.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

# The public names: adding one is a decision, removing one breaks somebody's script.
PUBLIC = {
    "dask_training": {
        "TrainingCluster",
        "__version__",
        "artifacts_dir",
        "client",
        "launch_cluster",
        "list_clusters",
        "report",
    },
    "dask_training.artifacts": {
        "ArtifactStore",
        "Manifest",
        "ManifestEntry",
        "RunSummary",
        "check_name",
        "key_prefix",
        "local_key_prefix",
        "manifest_of",
        "over_limit",
        "refused",
    },
    "dask_training.client": {"JobHandle", "TrainingClient"},
    "dask_training.session": {"ClusterSummary", "TrainingCluster", "launch_cluster", "list_clusters"},
    "dask_training.dask_ml_compat": {"install"},
    "dask_training.joblib_backend": {"DaskBackend", "register"},
    "dask_training.local": {"LocalOptions", "StopSignal", "run_locally"},
    "dask_training.manifests": {
        "Attempt",
        "SecretRequest",
        "engine_pod",
        "engines_network_policy",
        "engines_service",
        "job_document",
        "network_policy",
        "reader_pod",
        "runner_pod",
        "scheduler_pod",
        "runner_service",
        "scheduler_service",
        "scheduler_token",
        "secret_request",
        "selector",
        "session_status",
        "store_url",
        "worker_pod",
        "workers_selector",
    },
    "dask_training.reconcile": {
        "Delete",
        "JobEvent",
        "Plan",
        "SecretRequest",
        "WriteStatus",
        "plan",
        "plan_body",
        "stages",
    },
    "dask_training.status": {
        "AttemptRecord",
        "Blocker",
        "Change",
        "MemberRecord",
        "ProgressRecord",
        "Status",
        "blockers",
        "change",
        "events",
        "is_ready",
        "stamped",
        "timestamp",
        "with_mismatch",
        "with_telemetry",
        "with_workers",
    },
    "dask_training.model": {
        "JobFile",
        "JobFileError",
        "Problem",
        "Runner",
        "Spec",
        "TrainingJob",
        "Workers",
        "check_update",
        "load_job_file",
        "parse_memory",
        "parse_quantity",
    },
    "dask_training.cml.modules.cml": {"await_workers", "launch_workers", "list_workers", "stop_workers"},
    "dask_training.workers": {
        "await_workers",
        "configure",
        "launch_workers",
        "list_workers",
        "run_dask_cluster",
        "stop_workers",
    },
    "dask_training.kube": {"Connection", "KubeClient", "Limits", "NoClusterError", "Resource", "TokenBucket", "owners"},
}
# What an import must not cost where it is not needed: `dask-training --help` and `validate` have to be quick.
HEAVY = {"bokeh", "dask", "distributed", "joblib", "matplotlib", "numpy", "pandas", "scipy", "sklearn"}


def python(code: str, *, cwd: Path, **environment: str) -> str:
    """What a fresh interpreter prints for `code`."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# The source root is named like a module of the standard library.


def test_the_source_root_is_no_package(root):
    """With `operator/__init__.py`, every interpreter started in the project's folder would die importing `operator`."""
    assert not (root / "operator" / "__init__.py").exists()
    assert list((root / "operator").glob("*.py*")) == []


@pytest.mark.parametrize("folder", [".", "operator", "tests"])
def test_operator_is_the_standard_librarys_wherever_python_starts(root, folder):
    path = Path(python("import operator, collections; print(operator.__file__)", cwd=root / folder))
    assert path.samefile(os.__file__.replace("os.py", "operator.py"))


def test_no_module_of_the_package_has_a_name_that_hides_the_standard_librarys():
    hiding = {"operator", "signal", "types"}
    assert [path for path in PACKAGE.rglob("*") if path.stem in hiding] == []


def test_no_script_hides_a_module_of_the_standard_library(root):
    """A script's own folder comes first in sys.path, so a script must not sit beside a `profile.py` or `code/`."""
    folders = {path.parent for top in ("examples", "bench") for path in (root / top).rglob("*.py")}
    assert folders
    beside = [path for folder in folders for path in folder.iterdir() if path.suffix == ".py" or path.is_dir()]
    assert [path for path in beside if path.stem in sys.stdlib_module_names] == []


# What is public.


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names_are_those_decided_on(module):
    package = importlib.import_module(module)
    assert set(package.__all__) == PUBLIC[module]
    assert len(package.__all__) == len(PUBLIC[module])
    assert all(hasattr(package, name) for name in package.__all__)


def test_every_package_says_what_is_public():
    packages = {".".join(path.relative_to(PACKAGE.parent).parent.parts) for path in PACKAGE.rglob("__init__.py")}
    undecided = {name for name in packages if hasattr(importlib.import_module(name), "__all__")} - set(PUBLIC)
    assert undecided == set()


def test_every_public_name_is_documented():
    undocumented = [
        f"{module}.{name}"
        for module, names in PUBLIC.items()
        for name in names - {"__version__"}
        if not getattr(importlib.import_module(module), name).__doc__
    ]
    assert undocumented == []


# Who may import whom.


def lint_imports(cwd: Path, *, source: Path, config: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache", "--config", str(config)]
    environment = os.environ | {"PYTHONPATH": str(source), "COLUMNS": "200", "NO_COLOR": "1"}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def copy(root, tmp_path) -> Path:
    """A copy of the package, to be spoilt."""
    shutil.copytree(PACKAGE, tmp_path / "operator" / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(root / "pyproject.toml", tmp_path)
    return tmp_path


def test_imports_keep_to_the_contracts(root):
    done = lint_imports(root, source=root / "operator", config=root / "pyproject.toml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


@pytest.mark.parametrize(
    ("module", "line", "broken"),
    [
        ("model/__init__.py", "import dask_training.artifacts", "dask_training.model is not allowed to import"),
        ("artifacts/__init__.py", "import dask_training.joblib_backend", "dask_training.artifacts is not allowed to"),
        ("joblib_backend/__init__.py", "import dask_training.runner", "dask_training.joblib_backend is not allowed to"),
        ("runner/__init__.py", "def f():\n    import dask_training.local", "dask_training.runner is not allowed to"),
        ("local/__init__.py", "import dask_training.cli", "dask_training.local is not allowed to import"),
        ("api.py", "import dask_training.errors", "dask_training.api is not allowed to import dask_training.errors"),
        ("errors.py", "import distributed", "dask_training.errors is not allowed to import distributed"),
        ("model/__init__.py", "import pandas", "dask_training.model is not allowed to import pandas"),
        ("artifacts/__init__.py", "import numpy", "dask_training.artifacts is not allowed to import numpy"),
        ("cli/__init__.py", "def f():\n    import sklearn", "dask_training.cli is not allowed to import sklearn"),
    ],
)
def test_an_import_against_the_direction_breaks_a_contract(copy, module, line, broken):
    with (copy / "operator" / "dask_training" / module).open("a") as file:
        file.write(f"\n{line}\n")
    done = lint_imports(copy, source=copy / "operator", config=copy / "pyproject.toml")
    assert done.returncode == 1, done.stdout + done.stderr
    assert broken in " ".join(done.stdout.split())


@pytest.mark.parametrize("module", ["cli", "model", "artifacts", "api", "errors"])
def test_what_needs_no_dask_loads_none(tmp_path, module):
    loaded = python(f"import sys, dask_training.{module}; print(*sys.modules)", cwd=tmp_path).split()
    assert "dask_training" in loaded
    assert HEAVY & set(loaded) == set()


# Its size.


def test_no_module_has_outgrown_a_readers_patience():
    assert len(MODULES) > 20
    long = {str(path.relative_to(PACKAGE)): n for path in MODULES if (n := len(path.read_text().splitlines())) > 400}
    assert long == {}, "split it along what changes together"
