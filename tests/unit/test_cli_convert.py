"""`dask-training convert`: what a DaskJob says is in the job file, or is told of."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from dask_training.cli.app import run_command_line
from dask_training.cli.dask_jobs import convert
from dask_training.model import TrainingJob, load_job_file

DATA = Path(__file__).parents[1] / "data" / "dask_kubernetes"


@pytest.fixture
def run(capsys):
    """Runs the command; gives its exit code, what it wrote and the lines on standard error."""

    def run(*arguments):
        code = run_command_line(["convert", *map(str, arguments)])
        said = capsys.readouterr()
        return code, said.out, said.err.splitlines()

    return run


def test_the_documented_job_runs_its_code_as_a_script(run):
    code, written, said = run(DATA / "simple_job.yaml")
    assert code == 0
    assert "# From DaskJob simple-job" in written.splitlines()[0]
    job = load_job_file(written).job()
    assert (job.name, job.namespace, job.spec.mode) == ("simple-job", "default", "Batch")
    assert job.spec.runner.script.startswith("from dask.distributed import Client; client = Client()")
    assert job.spec.workers.replicas == 2
    assert {each.name: each.value for each in job.spec.env} == {
        "WORKER_ENV": "hello-world",
        "SCHEDULER_ENV": "hello-world",
    }
    assert job.spec.image == ""
    fields = [line.split(": ")[3] for line in said]
    assert fields == ["spec.job.spec.restartPolicy", "spec.job.spec.containers[0].image"]
    assert "spec.backoffLimit" in said[0]
    assert "has no dask-training in it" in said[1]


def test_what_a_job_can_not_have_is_told_field_by_field(run):
    code, written, said = run(DATA / "full_job.yaml")
    assert code == 0, said
    job_file = load_job_file(written)
    job = job_file.job()
    assert job_file.config_maps == {"settings": {"depth": "3"}}
    body = yaml.safe_load(written.split("---\n")[0])
    assert body == {
        "apiVersion": "dask-training.io/v1alpha1",
        "kind": "DaskTrainingJob",
        "metadata": {"name": "forest-2026", "namespace": "team-a", "labels": {"team": "forests"}},
        "spec": {
            "image": "team/train:1",
            "packages": ["lightgbm==4.7.0", "pandas<3"],
            "env": [{"name": "LEVEL", "value": "2"}],
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
            "serviceAccountName": "trainer",
            "nodeSelector": {"pool": "big"},
            "tolerations": [{"key": "spot", "operator": "Exists"}],
            "runner": {
                "command": ["python", "train.py", "--depth", "3"],
                "env": [{"name": "DEPTH", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "depth"}}}],
                "resources": {"requests": {"cpu": "1", "memory": "1Gi"}},
                "volumeMounts": [{"name": "data", "mountPath": "/data"}],
            },
            "scheduler": {"resources": {"limits": {"memory": "1Gi"}}},
            "workers": {
                "replicas": 3,
                "resources": {"limits": {"cpu": "4", "memory": "8Gi", "nvidia.com/gpu": 1}},
                "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                "threads": 4,
            },
            "activeDeadlineSeconds": 3600,
        },
    }
    assert job.spec.workers.nthreads == 4
    told = {line.split(": ")[3] for line in said}
    assert told == {
        "metadata.name",
        "metadata.annotations.owner",
        "spec.job.metadata.labels.role",
        "spec.job.spec.initContainers",
        "spec.job.spec.securityContext.runAsUser",
        "spec.job.spec.volumes[1].hostPath.path",
        "spec.job.spec.containers[0].workingDir",
        "spec.job.spec.containers[0].env[0]",
        "spec.job.spec.containers[0].env[3].valueFrom.resourceFieldRef.resource",
        "spec.job.spec.containers[0].resources.claims",
        "spec.job.spec.containers[0].volumeMounts[0].mountPropagation",
        "spec.job.spec.containers[1].name",
        "spec.job.spec.containers[1].image",
        "spec.cluster.spec.idleTimeout",
        "spec.cluster.spec.worker.metadata.annotations.prometheus",
        "spec.cluster.spec.worker.spec.serviceAccountName",
        "spec.cluster.spec.worker.spec.volumes[0]",
        "spec.cluster.spec.worker.spec.containers[0].image",
        "spec.cluster.spec.worker.spec.containers[0].args",
        "spec.cluster.spec.scheduler.spec.containers[0].image",
        "spec.cluster.spec.scheduler.spec.containers[0].args",
        "spec.cluster.spec.scheduler.spec.containers[0].env",
        "spec.cluster.spec.scheduler.service.type",
    }
    comments = [line for line in written.splitlines() if line.startswith("# Not carried over: ")]
    assert len(comments) == len(said)


def test_a_cluster_with_its_autoscaler_becomes_an_adaptive_session(run):
    code, written, said = run(DATA / "adaptive_cluster.yaml")
    assert code == 0
    job = load_job_file(written).job()
    assert (job.name, job.spec.mode, job.spec.idle_timeout_seconds) == ("shared", "Session", 600)
    workers = job.spec.workers
    assert (workers.replicas, workers.min_replicas, workers.max_replicas, workers.threads) == (3, 3, 10, 2)
    assert workers.is_adaptive
    assert [line.split(": ")[3] for line in said] == ["spec.worker.spec.containers[0].image"]


@pytest.mark.parametrize(
    ("args", "runner"),
    [
        (["python", "-c", "print(1)", "a"], {"script": "print(1)", "args": ["a"]}),
        (["/usr/bin/python3.11", "-m", "train", "--fast"], {"module": "train", "args": ["--fast"]}),
        (["python", "train.py"], {"command": ["python", "train.py"]}),
        (["bash", "-c", "python train.py"], {"command": ["bash", "-c", "python train.py"]}),
        (["papermill", 3], {"command": ["papermill", "3"]}),
    ],
)
def test_the_code_is_a_script_a_module_or_a_command(args, runner):
    body = yaml.safe_load((DATA / "simple_job.yaml").read_text())
    body["spec"]["job"]["spec"]["containers"][0]["args"] = args
    assert convert(body, {}).body["spec"]["runner"] == runner


def test_it_writes_a_file_that_is_not_there_yet_and_no_other(run, tmp_path):
    target = tmp_path / "job.yaml"
    code, out, _ = run(DATA / "simple_job.yaml", "-o", target)
    assert (code, out) == (0, "")
    assert load_job_file(target.read_text()).job().name == "simple-job"
    code, _, said = run(DATA / "simple_job.yaml", "-o", target)
    assert code == 2
    assert "can't be written: File exists" in said[-1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("apiVersion: apps/v1\nkind: Deployment\n", "in.yaml:2: kind: Deployment (apps/v1) can't be converted"),
        ("kind: DaskJob\n", "in.yaml:1: kind: DaskJob (no apiVersion) can't be converted"),
        ("apiVersion: dask-training.io/v1alpha1\nkind: DaskTrainingJob\n", "is a DaskTrainingJob already"),
        ("apiVersion: kubernetes.dask.org/v1\nkind: DaskWorkerGroup\n", "a job has one group of workers"),
        ("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n", "holds neither a DaskJob nor a DaskCluster"),
        ("a: [\n", "invalid YAML"),
        ("- 1\n", "nothing (no apiVersion) can't be converted"),
    ],
)
def test_other_kinds_are_named_with_their_line(run, tmp_path, monkeypatch, text, said):
    monkeypatch.chdir(tmp_path)
    Path("in.yaml").write_text(text)
    code, out, err = run("in.yaml")
    assert (code, out) == (65, "")
    assert said in "\n".join(err)


def test_what_is_not_valid_is_written_and_told_of(run, tmp_path):
    body = yaml.safe_load((DATA / "simple_job.yaml").read_text())
    container = body["spec"]["cluster"]["spec"]["worker"]["spec"]["containers"][0]
    container["resources"] = {"limits": {"memory": "1Gi"}, "requests": {"memory": "2Gi"}}
    (tmp_path / "in.yaml").write_text(yaml.safe_dump(body))
    code, out, err = run(tmp_path / "in.yaml")
    assert code == 65
    assert "memory: 2Gi" in out
    assert any("spec.workers.resources.requests: must not be above limits" in line for line in err)
    assert err[-1] == "Mend this in what was written: the original has it so."


# Nothing is lost in silence.

SAMPLES = [
    document
    for name in ("simple_job", "full_job")
    for document in yaml.safe_load_all((DATA / f"{name}.yaml").read_text())
]
JOBS = [document for document in SAMPLES if document["kind"] == "DaskJob"]


def mappings(value, path=()):
    if isinstance(value, dict):
        yield path
        for key, item in value.items():
            yield from mappings(item, (*path, key))
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from mappings(item, (*path, index))


PLACES = [(number, path) for number, job in enumerate(JOBS) for path in mappings(job) if path[:1] == ("spec",)]
QUIET = ("readinessProbe", "livenessProbe", "ports", "selector")  # what every DaskJob has, and no job needs


@settings(max_examples=150, deadline=None)
@given(place=st.sampled_from(PLACES), value=st.sampled_from(["x", 1, {"a": "b"}, ["c"]]))
def test_a_field_that_is_not_known_is_always_told_of(place, value):
    number, path = place
    body = copy.deepcopy(JOBS[number])
    target = body
    for step in path:
        target = target[step]
    if (
        path[-1] in ("limits", "requests", "nodeSelector")
        or any(step in QUIET for step in path)
        or "tolerations" in path
    ):
        return  # any key may stand there, or none matters
    if any(step in ("configMap", "secret", "emptyDir", "persistentVolumeClaim", "configMapKeyRef") for step in path):
        return  # taken over whole, and checked by the model
    target["surprise"] = value
    converted = convert(body, {})
    where = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).lstrip(".")
    assert any("surprise" in note.path or where.startswith(f"{note.path}[") for note in converted.notes), path


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(range(len(JOBS))), st.randoms(use_true_random=False))
def test_parts_may_be_missing(number, random):
    body = copy.deepcopy(JOBS[number])
    places = [path for path in mappings(body) if len(path) > 1]
    for path in random.sample(places, k=min(3, len(places))):
        target = body
        try:
            for step in path[:-1]:
                target = target[step]
            if isinstance(target, dict):
                target.pop(path[-1], None)
        except (KeyError, IndexError, TypeError):
            continue
    made = convert(body, {}).body
    assert made["kind"] == "DaskTrainingJob"


def test_what_is_made_of_the_samples_is_a_job():
    for body in JOBS:
        assert TrainingJob.from_body(convert(body, {}).body).spec.runner is not None
