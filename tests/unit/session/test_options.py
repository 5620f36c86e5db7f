"""What `launch_cluster` may be asked for, and the job that it becomes."""

from __future__ import annotations

import inspect

import pytest

from dask_training import launch_cluster
from dask_training.errors import OptionError
from dask_training.model import TrainingJob
from dask_training.model.quantity import parse_memory, parse_quantity
from dask_training.session.manifest import adapt_patch, scale_patch, session_body
from dask_training.session.options import PARAMETERS, checked

REQUEST = "-----BEGIN CERTIFICATE REQUEST-----\nMAo=\n-----END CERTIFICATE REQUEST-----\n"


def options(**given):
    defaults = {name: each.default for name, each in inspect.signature(launch_cluster).parameters.items()}
    assert set(given) <= set(PARAMETERS) < set(defaults)
    return checked({name: given.get(name, defaults[name]) for name in PARAMETERS})


def body(owner=None, **given):
    return session_body(options(**given), name="mine", namespace="team-a", request=REQUEST, owner=owner)


def test_what_the_defaults_give():
    spec = body()["spec"]
    assert spec["mode"] == "Session"
    assert spec["workers"] == {
        "replicas": 2,
        "resources": {"requests": {"cpu": "1", "memory": "2Gi"}, "limits": {"memory": "2Gi"}},
    }
    assert (spec["idleTimeoutSeconds"], spec["startupDeadlineSeconds"]) == (1200, 610)
    assert spec["session"] == {
        "certificateSigningRequest": REQUEST,
        "noClientTimeoutSeconds": 120,
        "heartbeatTimeoutSeconds": 300,
    }
    assert spec["ttlSecondsAfterFinished"] <= 60
    assert TrainingJob.from_body(body()).spec.workers.nthreads == 1


@pytest.mark.parametrize("cpu", [1, 2, 1.5, "500m", 0.1, "3"])
def test_a_worker_has_as_many_threads_as_cpus(cpu):
    given = options(cpu=cpu)
    assert parse_quantity(given.cpu) == parse_quantity(str(cpu))
    assert given.nthreads == TrainingJob.from_body(body(cpu=cpu)).spec.workers.nthreads
    assert given.nthreads == {1: 1, 2: 2, 1.5: 2, "500m": 1, 0.1: 1, "3": 3}[cpu]


@pytest.mark.parametrize(
    ("memory", "size"),
    [("2Gi", 2**31), ("2 GiB", 2**31), ("512MiB", 2**29), ("2GB", 2 * 10**9), ("1.5Gi", 3 * 2**29), (2**30, 2**30)],
)
def test_memory_as_kubernetes_and_as_dask_write_it(memory, size):
    assert parse_memory(options(memory=memory).memory) == size


def test_everything_at_once():
    job = body(
        n_workers=(1, 5),
        gpu=1,
        threads=4,
        image="registry.example.com/mine:1",
        packages="lightgbm",
        env={"A": 1},
        secrets="s3",
        tags={"team": "fraud"},
        idle_timeout="1 hour",
        no_client_timeout=None,
        active_deadline="1 day",
        scheduler_cpu=2,
        scheduler_memory="4Gi",
        owner={"kind": "Pod", "name": "notebook", "uid": "u", "apiVersion": "v1"},
    )
    spec = job["spec"]
    assert {key: spec["workers"][key] for key in ("replicas", "minReplicas", "maxReplicas", "threads")} == {
        "replicas": 1,
        "minReplicas": 1,
        "maxReplicas": 5,
        "threads": 4,
    }
    assert spec["workers"]["resources"]["limits"] == {"memory": "2Gi", "nvidia.com/gpu": 1}
    assert (spec["image"], spec["packages"]) == ("registry.example.com/mine:1", ["lightgbm"])
    assert spec["env"] == [{"name": "A", "value": "1"}]
    assert spec["envFrom"] == [{"secretRef": {"name": "s3"}}]
    assert (spec["idleTimeoutSeconds"], spec["activeDeadlineSeconds"]) == (3600, 86400)
    assert "noClientTimeoutSeconds" not in spec["session"]
    assert spec["scheduler"]["resources"]["limits"] == {"memory": "4Gi"}
    assert job["metadata"]["labels"] == {"team": "fraud"}
    assert job["metadata"]["ownerReferences"][0]["name"] == "notebook"


def test_what_is_to_stay_has_neither_heartbeat_nor_a_time_out_without_clients():
    assert set(body(shutdown_on_close=False)["spec"]["session"]) == {"certificateSigningRequest"}
    kept = body(shutdown_on_close=False, no_client_timeout="5 minutes")["spec"]["session"]
    assert kept["noClientTimeoutSeconds"] == 300


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"n_workers": 0}, "n_workers: must be a whole number from 1"),
        ({"n_workers": True}, "n_workers: must be a whole number"),
        ({"n_workers": (3, 2)}, "n_workers: the minimum must not be above the maximum"),
        ({"n_workers": (1, 2, 3)}, r"n_workers: must be a number or \(minimum, maximum\)"),
        ({"cpu": "much"}, "cpu: must be a number of CPUs"),
        ({"cpu": 0}, "cpu: must be a number of CPUs"),
        ({"memory": 2}, "memory: must be a size such as '2Gi'"),
        ({"memory": "2 apples"}, "memory: must be a size"),
        ({"gpu": -1}, "gpu: must be a whole number"),
        ({"threads": 0}, "threads: must be a whole number from 1"),
        ({"name": "Mine"}, "name: must be at most 40 lower-case"),
        ({"image": "a b"}, "image: must be a text without spaces"),
        ({"packages": [1]}, "packages: must be a list of texts"),
        ({"packages": "--index-url=x"}, "packages: must be a package, not an option of pip"),
        ({"env": ["A"]}, "env: must be a mapping"),
        ({"env": {"A": None}}, "env: the value of A must be a text"),
        ({"env": {"1A": "x"}}, "env: '1A' is no name"),
        ({"env": {"DASK_TRAINING_ROLE": "x"}}, "env: is set by the system"),
        ({"secrets": 3}, "secrets: must be a list of texts"),
        ({"tags": {"a b": "c"}}, "tags: 'a b' is no label's name"),
        ({"tags": {"dask-training.io/job": "c"}}, "tags: 'dask-training.io/job' is set by the system"),
        ({"tags": {"a": "not a value"}}, "tags: the value of 'a' must be"),
        ({"idle_timeout": "soon"}, "idle_timeout: must be a time such as '20 minutes'"),
        ({"idle_timeout": "1 s"}, "idle_timeout: must be from 10 s"),
        ({"no_client_timeout": "1 s"}, "no_client_timeout: must be from 5 s"),
        ({"startup_timeout": "2 days"}, "startup_timeout: must be from 1 s to 86400 s"),
        ({"wait": 3}, "wait: must be a whole number from 0 to 2"),
        ({"code": "/nowhere/at/all"}, "code: there is no /nowhere/at/all"),
        ({"code": 3}, "code: must be a path"),
    ],
)
def test_what_is_wrong_is_said_of_the_parameter(given, said):
    with pytest.raises(OptionError, match=f"^{said}"):
        body(**given)


def test_code_is_imported_as_it_is_here(tmp_path):
    package, folder = tmp_path / "package", tmp_path / "modules"
    for place in (package, folder, folder / "sub"):
        place.mkdir()
    (package / "__init__.py").write_text("A = 1\n")
    (folder / "plain.py").write_text("B = 1\n")
    (folder / "sub" / "__init__.py").write_text("C = 1\n")
    assert set(options(code=package).code) == {"packages.zip"}
    assert set(options(code=folder).code) == {"plain.py", "packages.zip"}
    assert set(options(code=[package, folder / "plain.py"]).code) == {"plain.py", "packages.zip"}
    (tmp_path / "large.bin").write_bytes(bytes(2**20 + 1))
    with pytest.raises(OptionError, match=r"code: .*large\.bin has 1\.0 MiB"):
        options(code=tmp_path / "large.bin")


def test_scaling_keeps_to_the_rules_of_the_crd():
    job = body(n_workers=(2, 6))
    for count in (1, 3, 9):
        changed = job["spec"]["workers"] | scale_patch(count)["spec"]["workers"]
        changed = {key: value for key, value in changed.items() if value is not None}
        workers = TrainingJob.from_body(job | {"spec": job["spec"] | {"workers": changed}}).spec.workers
        assert (workers.replicas, workers.is_adaptive) == (count, False)
    for now in (1, 4, 9):
        changed = job["spec"]["workers"] | adapt_patch(2, 5, now)["spec"]["workers"]
        workers = TrainingJob.from_body(job | {"spec": job["spec"] | {"workers": changed}}).spec.workers
        assert (workers.min_replicas, workers.max_replicas, workers.is_adaptive) == (2, 5, True)
