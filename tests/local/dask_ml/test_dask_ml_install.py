"""How the repairs come into a process: by `install`, or by the runner; and what old tutorials import."""

import json
import sys
import types
from pathlib import Path

import pytest

from dask_training.dask_ml_compat import columns, failures, incremental, metrics, tags, versions


def test_installing_imports_nothing_of_dask(run_python):
    code = """
import sys
from dask_training import dask_ml_compat
dask_ml_compat.install()
import json.tool
print([name for name in sys.modules if name.split(".")[0] in ("dask", "dask_ml", "distributed", "joblib", "sklearn")])
print(sum(type(finder).__module__ == "dask_training.dask_ml_compat.hook" for finder in sys.meta_path))
"""
    assert run_python("-c", code).split("\n")[:2] == ["[]", "1"]


def test_installing_late_repairs_what_has_been_imported(run_python):
    code = """
import inspect, warnings
import dask_ml.compose, dask_ml.linear_model.glm, dask_ml.metrics, dask_ml.model_selection._search as search
from dask_training import dask_ml_compat
dask_ml_compat.install()
dask_ml_compat.install()
places = [dask_ml.metrics.r2_score, dask_ml.linear_model.glm.r2_score, dask_ml.metrics.scorer.SCORERS["r2"][0],
          dask_ml.metrics.log_loss, search.score, search.fit_and_score, search.as_completed, search.create_cv_results,
          dask_ml.compose.ColumnTransformer.transform]
print({place.__module__.rpartition(".")[0] for place in places})
print(type(dask_ml.model_selection._incremental.dask).__name__)
print("n_samples" in inspect.signature(dask_ml.compose.ColumnTransformer._hstack).parameters)
print(inspect.getsource(dask_ml.metrics.scorer)[:4])
"""
    printed = run_python("-W", "ignore", "-c", code).splitlines()
    assert printed == ["{'dask_training.dask_ml_compat'}", "_Dask", "True", "from"]


OLD_NAMES = """
import json, sys, warnings
said = {}
def attempt(code):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            exec(code, names := {})
            result = "fine"
        except ImportError as error:
            result = str(error)
    told = [str(each.message) for each in caught if issubclass(each.category, FutureWarning)]
    said[code] = [result, *told[:1]]
import joblib
for code in (
    "import distributed.joblib",
    "import dask_ml.joblib",
    "from sklearn.externals import joblib; import joblib as real; assert joblib is real",
    "from sklearn.externals.joblib import Parallel; import joblib as real; assert Parallel is real.Parallel",
    "import joblib.parallel as real; import sklearn.externals.joblib.parallel as p; assert p is real",
    "import dask_searchcv as old, dask_ml.model_selection as new; assert old is new",
    "import dask_ml.xgboost",
    "import dklearn",
    "from dklearn.grid_search import GridSearchCV",
):
    attempt(code)
from joblib.parallel import BACKENDS
said["backend"] = [getattr(BACKENDS.get("dask.distributed"), "__module__", None)]
said["spec"] = [joblib.__spec__.name]
print(json.dumps(said))
"""


def test_old_names_work_or_say_what_to_write(run_python):
    before = json.loads(run_python("-c", OLD_NAMES))
    after = json.loads(
        run_python("-c", f"from dask_training import dask_ml_compat; dask_ml_compat.install()\n{OLD_NAMES}")
    )
    joblib_said = " is gone: write `import joblib`"
    backend_said = " and `joblib.parallel_config('dask')`"
    xgboost = "dask-xgboost is part of XGBoost now: write `from xgboost import dask as dxgb`"
    xgboost = f"No module named 'dask_xgboost': {xgboost}"
    dklearn = "dask-learn is dask-ml now: write `from dask_ml.model_selection import GridSearchCV`"
    dklearn = f"No module named 'dklearn': {dklearn}"
    wanted = [
        ["fine", f"distributed.joblib{joblib_said}{backend_said}"],
        ["fine", f"dask_ml.joblib{joblib_said}{backend_said}"],
        ["fine", f"sklearn.externals.joblib{joblib_said}"],
        ["fine"],  # the second time it is there
        ["fine", "sklearn.externals.joblib.parallel is gone: write `import joblib.parallel`"],
        ["fine", "dask_searchcv is gone: write `import dask_ml.model_selection`"],
        [xgboost],
        [dklearn],
        [dklearn],
        ["dask_training.joblib_backend.backend"],
        ["joblib"],
    ]
    assert list(after.values()) == wanted
    assert all("No module named" in said[0] or "cannot import name" in said[0] for said in list(before.values())[:-2])


def test_a_module_that_is_there_is_not_hidden(run_python, tmp_path):
    (tmp_path / "dklearn.py").write_text("mine = True\n")
    code = "from dask_training import dask_ml_compat; dask_ml_compat.install(); import dklearn; print(dklearn.mine)"
    assert run_python("-c", code, PYTHONPATH=str(tmp_path)) == "True\n"


@pytest.mark.parametrize(
    ("here", "needed"),
    [
        ({}, True),
        ({"dask-ml": "2025.2.0"}, False),  # not looked at yet
        ({"dask": "2025.1.0", "distributed": "2025.1.0", "scikit-learn": "1.4.2"}, None),
    ],
)
def test_other_versions_are_left_alone(monkeypatch, here, needed):
    found = {"dask-ml": "2025.1.0", "dask": "2026.8.0", "distributed": "2026.8.0", "scikit-learn": "1.9.1"} | here
    monkeypatch.setattr(versions, "version", found.__getitem__)
    places = {
        (incremental, "dask_ml.model_selection._incremental"): ["dask"],
        (metrics, "dask_ml.metrics.regression"): ["r2_score"],
        (metrics, "dask_ml.metrics.classification"): ["log_loss"],
        (failures, "dask_ml.model_selection._search"): ["as_completed"],
        (failures, "dask_ml.model_selection.methods"): ["score", "fit_and_score", "create_cv_results", "_store"],
    }
    for (repairing, name), attributes in places.items():
        upstream = object()
        module = types.ModuleType(name)
        module.__dict__.update(dict.fromkeys(attributes, upstream))
        repairing.repair(module)
        changed = [getattr(module, attribute) is not upstream for attribute in attributes]
        # What fails with every version is repaired with every version.
        assert set(changed) == {(repairing is failures) if needed is None else needed}, name
    for repairing, name, owner in (
        (tags, "dask_ml.wrappers", "ParallelPostFit"),
        (columns, "dask_ml.compose._column_transformer", "ColumnTransformer"),
    ):
        module = types.ModuleType(name)
        setattr(module, owner, type(owner, (), {"_hstack": lambda self, outputs: outputs}))
        before = set(vars(getattr(module, owner)))
        repairing.repair(module)
        assert (set(vars(getattr(module, owner))) != before) == bool(needed), name


IN_A_JOB = """
import numpy as np
from sklearn.externals import joblib
import dask_ml_cases as cases

print("search", cases.inverse_decay()[1])
try:
    cases.picky_search([0, 13])
except ValueError as error:
    print("ended:", error)
with joblib.parallel_backend("dask.distributed"):
    print("old", joblib.Parallel()(joblib.delayed(abs)(-i) for i in range(3)))
"""


def test_a_script_has_the_repairs_and_so_have_its_workers(run_job, make_job):
    run = run_job(make_job(script=IN_A_JOB), env={"PYTHONPATH": str(Path(__file__).parent)})
    assert run.exit_code == 0, run.output
    assert [line for line in run.output.splitlines() if line.startswith(("search", "ended", "old"))] == [
        "search 0.85",
        "ended: 13 is not for me",
        "old [0, 1, 2]",
    ]


@pytest.mark.parametrize("backend", ["dask", "none"])
def test_a_command_has_the_repairs_in_all_its_processes(run_job, make_job, backend):
    code = "from sklearn.externals import joblib; print('this is', joblib.__name__)"
    command = ["sh", "-c", f'"{sys.executable}" -c "{code}" && exec "{sys.executable}" -c "{code}"']
    run = run_job(make_job({"runner": {"command": command, "joblib": {"backend": backend}}}))
    assert run.exit_code == 0, run.output
    assert run.output.count("this is joblib") == 2
