"""What code can be: script, scriptFrom, module, command; and what it finds where it runs."""

import json
import zipfile

import pytest

from dask_training.runner import run_summary

CONFIG_MAP = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "my-code"}}

PIDS = """
import os
from joblib import Parallel, delayed
pids = set(Parallel(n_jobs=-1)(delayed(os.getpid)() for _ in range(200)))
assert os.getpid() not in pids, "ran in the runner"
print("processes", len(pids))
"""


def test_a_plain_scikit_learn_script_runs_on_more_than_one_worker_process(run_job, make_job):
    script = """
import os, time
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score

def process_id(estimator, X, y):
    time.sleep(0.05)
    return os.getpid()

X, y = load_iris(return_X_y=True)
pids = set(cross_val_score(LogisticRegression(max_iter=200), X, y, cv=12, scoring=process_id))
print("runner", os.getpid() in pids, "workers", len(pids))
"""
    run = run_job(make_job(script=script, replicas=2, minReplicas=2))
    assert run.exit_code == 0, run.finished
    assert "runner False workers 2" in run.output
    assert run.finished["tasks"] == 12
    assert run.of("progress")[-1]["done"] == run.of("progress")[-1]["total"] == 12


def test_one_worker_of_one_thread_gets_the_tasks(run_job, make_job):
    run = run_job(make_job(script=PIDS))
    assert run.exit_code == 0, run.finished
    assert "processes 1" in run.output


def test_arguments_environment_and_code_are_there(run_job, make_job):
    script = """
import os, sys
from joblib import Parallel, delayed
import helpers

print(sys.argv[1:], os.environ["COLOUR"], os.environ["SHAPE"], os.environ["FROM_SECRET"], os.environ["PRE_key"])
print(Parallel()(delayed(helpers.twice)(i) for i in range(4)))
"""
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "token"}, "stringData": {"key": "s3cret"}}
    code = {**CONFIG_MAP, "data": {"helpers.py": "def twice(x):\n    return 2 * x\n"}}
    spec = {
        "code": {"configMap": {"name": "my-code"}},
        "env": [
            {"name": "COLOUR", "value": "red"},
            {"name": "FROM_SECRET", "valueFrom": {"secretKeyRef": {"name": "token", "key": "key"}}},
        ],
        "envFrom": [{"prefix": "PRE_", "secretRef": {"name": "token"}}],
        "runner": {"script": script, "args": ["--rows", "10"], "env": [{"name": "SHAPE", "value": "round"}]},
    }
    run = run_job(make_job(spec), code, secret)
    assert run.exit_code == 0, run.finished
    assert "['--rows', '10'] red round s3cret s3cret" in run.output
    assert "[0, 2, 4, 6]" in run.output
    kept = "".join(path.read_text(errors="replace") for path in run.folder.rglob("*") if path.is_file())
    assert kept.count("s3cret") == 2  # where the script printed it, and nowhere else


def test_arguments_on_the_command_line_replace_those_of_the_job(run_job, make_job):
    spec = {"runner": {"script": "import sys; print(sys.argv[1:])", "args": ["a"]}}
    run = run_job(make_job(spec), options=("--", "--full", "-x"))
    assert "['--full', '-x']" in run.output


def test_the_script_may_stand_in_a_config_map(run_job, make_job):
    spec = {"runner": {"scriptFrom": {"configMap": {"name": "my-code", "key": "train.py"}}}}
    run = run_job(make_job(spec), {**CONFIG_MAP, "data": {"train.py": "print('from the map', __file__)\n1/0\n"}})
    assert run.exit_code == 1
    assert "from the map" in run.output
    assert "ZeroDivisionError: division by zero, line 2 of train.py" in run.finished["message"]


def test_a_module_runs_as_with_python_m(run_job, make_job):
    code = {
        **CONFIG_MAP,
        "data": {"training.py": "import sys\nif __name__ == '__main__':\n    print('main', sys.argv[1:])\n"},
    }
    spec = {"code": {"configMap": {"name": "my-code"}}, "runner": {"module": "training", "args": ["7"]}}
    run = run_job(make_job(spec), code)
    assert run.exit_code == 0, run.finished
    assert "main ['7']" in run.output


def test_a_command_runs_plain_scripts_on_the_workers_too(run_job, make_job):
    code = {**CONFIG_MAP, "data": {"pids.py": PIDS + "import dask_training; dask_training.report(answer=42)\n"}}
    spec = {
        "code": {"configMap": {"name": "my-code"}},
        "runner": {"command": ["bash", "-c", 'python -c "import pids"; exit $?']},
    }
    run = run_job(make_job(spec), code)
    assert run.exit_code == 0, run.output
    assert "processes 1" in run.output
    assert run.finished["metrics"] == {"answer": 42}


def test_a_command_that_is_not_there_says_so(run_job, make_job):
    run = run_job(make_job({"runner": {"command": ["no-such-command"]}}))
    assert run.exit_code == 127
    assert "can't start no-such-command: No such file or directory" in run.finished["message"]
    assert "Traceback" not in run.output


def test_a_script_may_use_the_client_scatter_and_the_old_backend_name(run_job, make_job):
    script = """
import os
import numpy as np
from joblib import Parallel, delayed, parallel_backend, parallel_config
import dask_training

client = dask_training.client()
print("sum", client.submit(sum, [1, 2, 3]).result())
X = np.arange(100_000.0)
with parallel_config("dask", scatter=[X]):
    print("scattered", sum(Parallel()(delayed(np.sum)(X) for _ in range(2))))
with parallel_backend("dask.distributed", scheduler_host=os.environ["DASK_SCHEDULER_ADDRESS"]):
    print("old name", Parallel()(delayed(abs)(-i) for i in range(3)))
with parallel_config("threading", n_jobs=2):
    print("threads", set(Parallel()(delayed(os.getpid)() for i in range(3))) == {os.getpid()})
"""
    run = run_job(make_job(script=script))
    assert run.exit_code == 0, run.output
    assert [line for line in run.output.splitlines() if " " in line][:4] == [
        "sum 6",
        "scattered 9999900000.0",
        "old name [0, 1, 2]",
        "threads True",
    ]


@pytest.mark.parametrize("backend", ["loky", "threading", "none"])
def test_another_joblib_backend_is_used_where_the_job_says_so(run_job, make_job, backend):
    script = """
import joblib, os, threading
from joblib import Parallel, delayed
print("backend", type(joblib.parallel.get_active_backend()[0]).__name__)
print(Parallel(n_jobs=2)(delayed(abs)(-i) for i in range(3)))
"""
    run = run_job(make_job({"runner": {"script": script, "joblib": {"backend": backend}}}))
    names = {"loky": "LokyBackend", "threading": "ThreadingBackend", "none": "LokyBackend"}
    assert run.exit_code == 0, run.finished
    assert f"backend {names[backend]}" in run.output
    assert run.finished["tasks"] == 0


def test_metrics_are_reported_and_kept(run_job, make_job):
    script = """
import json, os, numpy
import dask_training
dask_training.report(accuracy=numpy.float64(0.9), rows=numpy.int64(10), note="ok", bad=float("nan"))
dask_training.report(accuracy=0.95)
(dask_training.artifacts_dir() / "metrics.json").write_text(json.dumps({"own": 1, "accuracy": 0.1, "deep": [1]}))
try:
    dask_training.report(model=object())
except TypeError as error:
    print(error)
"""
    run = run_job(make_job(script=script))
    expected = {"own": 1, "accuracy": 0.95, "rows": 10, "note": "ok", "bad": None}
    assert run.finished["metrics"] == expected
    assert json.loads((run.folder / "metrics.json").read_text()) == {**expected, "deep": [1]}
    assert "dask_training.report(model=...): must be a number" in run.output


def test_clients_without_the_runs_certificate_are_refused(run_job, make_job):
    script = """
import os
from pathlib import Path
from distributed import Client
from distributed.security import Security
from dask_training.runner.dask_environment import write_certificates
from dask_training.certificates import make_certificates

address = os.environ["DASK_SCHEDULER_ADDRESS"]
folder = Path("other").absolute()
write_certificates(make_certificates("other", ("client",), lifetime_seconds=60), folder)
ca, leaf = os.environ["DASK_DISTRIBUTED__COMM__TLS__CA_FILE"], str(folder / "client.pem")
others = {
    "plain": (address.replace("tls://", "tcp://"), Security(require_encryption=False)),
    "another job's": (address, Security(tls_ca_file=ca, tls_client_cert=leaf, tls_client_key=leaf)),
}
for name, (place, security) in others.items():
    try:
        Client(place, security=security, timeout=2)
        print(name, "accepted")
    except OSError as error:
        print(name, "refused")
print("own", Client(address, set_as_default=False).submit(sum, [1, 2]).result())
"""
    run = run_job(make_job(script=script))
    assert run.exit_code == 0, run.output
    assert run.output.splitlines()[-3:] == ["plain refused", "another job's refused", "own 3"]


def wheel(folder, name, version, value):
    """A wheel of one module, `<name>.VALUE`."""
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{name}.py", f"VALUE = {value!r}\n")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")


def test_packages_are_there_for_script_and_workers_and_only_for_this_run(run_job, make_job, tmp_path):
    wheel(tmp_path, "dt_example", "1.2", "from the layer")
    wheel(tmp_path, "iniconfig", "9.9", "newer than the environment's")
    script = """
from joblib import Parallel, delayed
import dt_example, iniconfig

def value(_):
    import dt_example, iniconfig, numpy
    return dt_example.VALUE, iniconfig.VALUE

print(set(Parallel()(delayed(value)(i) for i in range(3))), iniconfig.VALUE)
"""
    spec = {"packages": ["dt_example==1.2", "iniconfig>=9"], "runner": {"script": script}}
    env = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path)}
    run = run_job(make_job(spec), env=env)
    assert run.exit_code == 0, run.finished
    assert "{('from the layer', \"newer than the environment's\")} newer" in run.output
    packages = json.loads((run.folder / "environment.json").read_text())["packages"]
    assert (packages["dt_example"], packages["iniconfig"]) == ("1.2", "9.9")
    with pytest.raises(ModuleNotFoundError):
        import dt_example  # noqa: F401
    import iniconfig

    assert not hasattr(iniconfig, "VALUE")


def test_what_is_kept_of_a_run(run_job, make_job):
    run = run_job(make_job(script="import os; open(os.environ['ARTIFACTS_DIR'] + '/model.bin', 'w').write('m')"))
    records = {"metrics.json", "summary.json", "environment.json", "performance_report.html", "profile.html"}
    logs = {"logs/runner.log", "logs/scheduler.log", "logs/worker-0.log"}
    assert run.kept() == {"model.bin"} | records | logs
    for name in ("performance_report.html", "profile.html"):
        text = (run.folder / name).read_text()
        assert "bokeh" in text
        assert "Not available" not in text
    environment = json.loads((run.folder / "environment.json").read_text())
    assert environment["packages"]["scikit-learn"]
    assert environment["cluster"]["scheduler"]["packages"]["distributed"] == environment["packages"]["distributed"]
    assert "Registered to" in (run.folder / "logs" / "worker-0.log").read_text()
    assert environment["spec"]["workers"]["replicas"] == 1
    assert environment["spec"]["runner"]["script"].startswith("sha256:")
    summary = run_summary.read((run.folder / "summary.json").read_bytes())
    used = summary.resource_seconds
    assert summary.resource_basis == "used"
    assert used.by_role.keys() == {"scheduler", "workers", "runner"}
    assert min(min(each.cpu, each.memory_gib) for each in used.by_role.values()) > 0
    assert used.cpu == pytest.approx(run.finished["cpuSeconds"], abs=0.01)
    assert summary.timings.total >= summary.timings.startup + summary.timings.script
    assert summary.cost is None, "nobody said what an hour costs"


def test_names_that_are_the_runs_own_are_made_way_for(run_job, make_job):
    script = """
import os
os.chdir(os.environ["ARTIFACTS_DIR"])
for name in ("manifest.json", "profile.html", "metrics.json", "summary.json"):
    open(name, "w").write("mine")
os.mkdir("logs")
open("logs/own.log", "w").write("mine")
"""
    run = run_job(make_job(script=script))
    assert run.exit_code == 0, run.finished
    users = {"manifest.user.json", "summary.user.json", "profile.user.html", "metrics.user.json", "logs.user/own.log"}
    assert users <= run.kept()
    assert "manifest.json is kept as manifest.user.json" in run.notices
