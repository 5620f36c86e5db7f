"""The advisor: each rule fires just beyond its threshold and not before, and a run that went well gets no advice."""

from __future__ import annotations

import json
import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_training import api
from dask_training.api import ADVICE_ANNOTATION, Reason
from dask_training.manifests import job_document
from dask_training.model import TrainingJob
from dask_training.runner import advisor
from dask_training.runner.run_summary import (
    AttemptSummary,
    BytesMoved,
    JobIdentity,
    JoblibWork,
    Tasks,
    ThreadSeconds,
    Timings,
    WorkersUsed,
)
from dask_training.termination import MAX_ADVICE, Termination, encode, parse

GIB = 1 << 30
REPLICAS, THREADS = 4, 2
# A search of 80 fits on four workers of two threads: nothing to say.
GOOD = AttemptSummary(
    job=JobIdentity(name="search", namespace="default", uid="u", attempt=1),
    reason=Reason.COMPLETED,
    exit_code=0,
    start_time="2026-01-01T00:00:00Z",
    completion_time="2026-01-01T00:02:00Z",
    timings=Timings(startup=3.0, script=100.0, total=104.0),
    workers=WorkersUsed(replicas=REPLICAS, threads=THREADS, memory_limit=2 * GIB, restarts=0, lost=0),
    tasks=Tasks(done=80, seconds=700.0, mean_seconds=8.75),
    moved=BytesMoved(received=10_000_000, scattered=20_000_000, spilled=0, peak_worker_memory=GIB // 2),
    joblib=JoblibWork(calls=1, tasks=80, batches=80, seconds=700.0),
    thread_seconds=ThreadSeconds(available=824.0, busy=700.0),
)


def job(*, packages=(), backend="dask", guest=False, annotations=None, **workers) -> TrainingJob:
    spec = {
        "packages": list(packages),
        "runner": {"script": "pass", "joblib": {"backend": backend}},
        "workers": {"replicas": REPLICAS, "threads": THREADS, **workers},
    }
    if guest:
        spec["clusterRef"] = {"kind": "DaskCluster", "name": "shared"}
        del spec["workers"], spec["packages"]
    return TrainingJob.from_body(
        {
            "apiVersion": api.API_VERSION,
            "kind": api.KIND,
            "metadata": {"name": "search", "annotations": annotations or {}},
            "spec": spec,
        }
    )


def run(base: AttemptSummary = GOOD, **changes) -> AttemptSummary:
    """A summary with changed fields; those of its parts are given as `part__field`."""
    parts: dict[str, dict] = {}
    for name, value in changes.items():
        part, _, field = name.partition("__")
        parts.setdefault(part, {})[field] = value
    replaced = {
        part: fields[""] if "" in fields else msgspec.structs.replace(getattr(base, part), **fields)
        for part, fields in parts.items()
    }
    return msgspec.structs.replace(base, **replaced)


def rules(summary: AttemptSummary, the_job: TrainingJob | None = None, **more) -> list[str]:
    return [advice.rule for advice in advisor.advise(summary, the_job or job(), **more)]


def only(summary: AttemptSummary, the_job: TrainingJob | None = None, **more):
    (advice,) = advisor.advise(summary, the_job or job(), **more)
    return advice


UNUSED = run(
    tasks__done=0, tasks__seconds=0.0, joblib=JoblibWork(), thread_seconds__busy=0.0, moved__scattered=0
)  # nothing was sent to the workers
FEW = run(tasks__done=3, joblib=JoblibWork(calls=1, tasks=3, batches=3, seconds=260.0), thread_seconds__busy=260.0)
SERIAL = run(
    timings__script=200.0,
    thread_seconds__available=1700.0,
    joblib__seconds=80.0,
    tasks__seconds=80.0,
    thread_seconds__busy=80.0,
)


def test_a_run_that_went_well_gets_no_advice():
    assert advisor.advise(GOOD, job()) == ()


# rule, what is just beyond its threshold, what is just on the good side of it
EDGES = [
    (
        "tiny-tasks",
        run(joblib=JoblibWork(calls=1, tasks=100, batches=5, seconds=1.99)),
        run(joblib=JoblibWork(calls=1, tasks=100, batches=5, seconds=2.0)),
    ),
    (
        "tiny-tasks",
        run(joblib=JoblibWork(calls=1, tasks=100, batches=5, seconds=1.0)),
        run(joblib=JoblibWork(calls=1, tasks=99, batches=5, seconds=1.0)),
    ),
    (
        "tiny-tasks",
        run(tasks__done=1000, tasks__seconds=19.9, joblib=JoblibWork(), thread_seconds__busy=399.0),
        run(tasks__done=1000, tasks__seconds=19.9, joblib=JoblibWork(), thread_seconds__busy=400.0),
    ),
    (
        "tiny-tasks",
        run(tasks__done=1080, tasks__seconds=719.9, joblib=GOOD.joblib, thread_seconds__busy=399.0),
        run(tasks__done=1079, tasks__seconds=719.9, joblib=GOOD.joblib, thread_seconds__busy=399.0),
    ),
    ("nothing-on-workers", run(UNUSED, timings__script=10.0), run(UNUSED, timings__script=9.9)),
    ("nothing-on-workers", UNUSED, run(UNUSED, tasks__failed=1, timings__script=29.0)),
    ("nothing-on-workers", UNUSED, run(UNUSED, tasks=None, timings__script=29.0)),
    ("idle-workers", FEW, run(FEW, thread_seconds__busy=400.0)),
    ("idle-workers", FEW, run(FEW, joblib__tasks=8)),
    ("idle-workers", FEW, run(FEW, tasks__done=8)),  # five of them calls within tasks
    ("idle-workers", FEW, run(FEW, timings__script=29.9)),
    ("serial-part", SERIAL, run(SERIAL, thread_seconds__busy=480.0)),
    ("serial-part", run(SERIAL, timings__script=120.0), run(SERIAL, timings__script=119.9)),
    ("data-do-not-fit", run(moved__spilled=GIB), run(moved__spilled=GIB - 1)),
    (
        "data-do-not-fit",
        run(moved__scattered=GIB, moved__peak_worker_memory=1_300_000_000),
        run(moved__scattered=GIB - 1, moved__peak_worker_memory=1_300_000_000),
    ),
    (
        "data-do-not-fit",
        run(moved__scattered=GIB, moved__peak_worker_memory=1_288_490_189),
        run(moved__scattered=GIB, moved__peak_worker_memory=1_288_490_188),  # sent in pieces, one after the other
    ),
    ("data-do-not-fit", run(moved__peak_worker_memory=1_717_986_919), run(moved__peak_worker_memory=1_717_986_918)),
    ("worker-restarts", run(workers__lost=3), run(workers__lost=2)),
    ("worker-restarts", run(workers__restarts=3), run(workers__restarts=2)),
    (
        "unused-memory",
        run(workers__memory_limit=6 * GIB, moved__peak_worker_memory=GIB),
        run(workers__memory_limit=6 * GIB - 1, moved__peak_worker_memory=GIB),
    ),
    (
        "unused-memory",
        run(workers__memory_limit=16 * GIB, moved__peak_worker_memory=4 * GIB),
        run(workers__memory_limit=16 * GIB - 1, moved__peak_worker_memory=4 * GIB),
    ),
    (
        "unused-memory",
        run(workers__memory_limit=16 * GIB, timings__script=60.0),
        run(workers__memory_limit=16 * GIB, timings__script=59.0),
    ),
    (
        "unused-memory",
        run(workers__memory_limit=16 * GIB),
        run(workers__memory_limit=16 * GIB, resource_basis="used"),  # on this machine a limit reserves nothing
    ),
]


@pytest.mark.parametrize(("rule", "beyond", "within"), EDGES)
def test_a_rule_fires_just_beyond_its_threshold(rule, beyond, within):
    assert rules(beyond) == [rule]
    assert rules(within) == []


def test_slow_start_is_for_packages_that_take_longer_to_install_than_the_script_runs():
    slow, with_packages = run(timings__startup=101.0), job(packages=["lightgbm==4.7.0"])
    assert rules(slow, with_packages) == ["slow-start"]
    assert "spec.image" in only(slow, with_packages).fix
    assert "environment that dask-training runs in" in only(run(slow, resource_basis="used"), with_packages).fix
    assert rules(run(slow, timings__startup=100.0), with_packages) == []
    assert rules(run(slow, timings__startup=59.0, timings__script=20.0), with_packages) == []
    assert rules(slow) == []


def test_killed_for_memory_comes_first_with_a_limit_to_set():
    advice = only(run(moved__peak_worker_memory=2 * GIB), killed_for_memory=1)
    assert advice.rule == "killed-for-memory"
    assert advice.message.startswith("1 worker killed for going over the memory limit of 2.0 GiB")
    assert advice.fix.startswith("spec.workers.resources.limits.memory: 4Gi")
    assert "spec.workers.threads: 1" in advice.fix
    assert rules(run(reason=Reason.WORKER_OOM_KILLED)) == ["killed-for-memory"]
    assert rules(run(workers__restarts=4), killed_for_memory=4) == ["killed-for-memory"]


def test_who_did_not_use_the_workers_is_told_what_switches_them_on():
    assert "n_jobs=1 and joblib backends of your own" in only(UNUSED).fix
    assert only(UNUSED, job(backend="loky")).fix.startswith("set spec.runner.joblib.backend to dask")
    assert "for 100 s, and 4 workers had nothing" in only(UNUSED).message


def test_fewer_workers_are_named_where_they_take_as_long():
    assert only(FEW).fix.startswith("spec.workers.replicas: 2 takes as long")
    # 190 s alone and 80 s of work: with one worker of two threads 230 s, with two 210 s, as Amdahl has it.
    assert only(SERIAL).fix.startswith("spec.workers.replicas: 2 takes about as long")
    single = run(SERIAL, workers__replicas=1, thread_seconds__available=300.0)
    assert "replicas" not in only(single).fix


def test_adaptive_jobs_are_not_told_how_many_workers_to_have():
    adaptive = job(minReplicas=1, maxReplicas=8)
    assert rules(FEW, adaptive) == rules(SERIAL, adaptive) == []
    assert rules(UNUSED, adaptive) == ["nothing-on-workers"]


def test_on_somebody_elses_cluster_only_the_tasks_are_spoken_of():
    guest = job(guest=True)
    tiny = run(joblib=JoblibWork(calls=1, tasks=1000, batches=10, seconds=1.0), moved__spilled=9 * GIB, workers__lost=9)
    assert rules(tiny, guest) == ["tiny-tasks"]
    assert rules(UNUSED, guest) == []


@pytest.mark.parametrize("reason", [Reason.RUNNER_FAILED, Reason.INTERRUPTED, Reason.SCHEDULER_FAILED])
def test_a_run_that_was_cut_short_says_nothing_of_how_its_work_was_spread(reason):
    for summary in (UNUSED, FEW, SERIAL, run(workers__lost=9), run(joblib__seconds=0.1, joblib__tasks=1000)):
        assert rules(run(summary, reason=reason)) == []
    assert rules(run(moved__spilled=2 * GIB, reason=reason)) == ["data-do-not-fit"]


def test_at_most_three_are_given_the_weightiest_first():
    bad = run(
        moved__spilled=9 * GIB,
        joblib=JoblibWork(calls=1, tasks=10_000, batches=10, seconds=1.0),
        workers__lost=5,
        timings=Timings(startup=200.0, script=100.0, total=300.0),
    )
    assert rules(bad, job(packages=["lightgbm"])) == ["data-do-not-fit", "tiny-tasks", "worker-restarts"]
    assert rules(bad, job(packages=["lightgbm"]), killed_for_memory=1)[0] == "killed-for-memory"


@pytest.mark.parametrize("value", ["off", "Off", " false ", "0", "no"])
def test_an_annotation_turns_it_off_and_reaches_the_runner(value):
    quiet = job(annotations={ADVICE_ANNOTATION: value, "example.com/other": "x" * 1000})
    assert rules(UNUSED, quiet) == []
    in_the_pod = TrainingJob.from_body(
        json.loads(job_document(quiet)) | {"apiVersion": api.API_VERSION, "kind": api.KIND}
    )
    assert in_the_pod.metadata.annotations == {ADVICE_ANNOTATION: value}
    assert rules(UNUSED, in_the_pod) == []
    assert rules(UNUSED, job(annotations={ADVICE_ANNOTATION: "on"})) == ["nothing-on-workers"]


seconds = st.floats(0, 1e9)
counts = st.integers(0, 10**12)
sizes = st.integers(0, 1 << 50)


@st.composite
def summaries(draw):
    def maybe(strategy):
        return draw(st.none() | strategy)

    return AttemptSummary(
        job=GOOD.job,
        reason=draw(st.sampled_from(Reason)),
        exit_code=draw(st.integers(0, 255)),
        start_time="",
        completion_time="",
        timings=draw(st.builds(Timings, startup=seconds, script=st.none() | seconds, total=seconds)),
        workers=draw(
            st.builds(
                WorkersUsed,
                replicas=st.integers(0, 1000),
                threads=st.integers(1, 256),
                memory_limit=st.none() | sizes,
                restarts=counts,
                lost=st.none() | counts,
            )
        ),
        tasks=maybe(st.builds(Tasks, done=counts, failed=counts, seconds=seconds, mean_seconds=st.none() | seconds)),
        moved=maybe(
            st.builds(BytesMoved, received=sizes, scattered=sizes, spilled=sizes, peak_worker_memory=st.none() | sizes)
        ),
        joblib=maybe(st.builds(JoblibWork, calls=counts, tasks=counts, batches=counts, seconds=seconds)),
        thread_seconds=maybe(st.builds(ThreadSeconds, available=seconds, busy=seconds)),
        resource_basis=draw(st.sampled_from(["reserved", "used"])),
    )


JOBS = [job(), job(packages=["a", "b"]), job(minReplicas=1, maxReplicas=9), job(guest=True), job(backend="threading")]


@given(summary=summaries(), the_job=st.sampled_from(JOBS), killed=st.integers(0, 99))
def test_whatever_the_figures_advice_is_short_and_passes_the_pods_last_word(summary, the_job, killed):
    advice = advisor.advise(summary, the_job, killed_for_memory=killed)
    assert len(advice) <= MAX_ADVICE
    assert len({each.rule for each in advice}) == len(advice)
    for each in advice:
        assert each.message
        assert each.fix
        assert len(each.message) + len(each.fix) <= 500
        assert not re.search(r"\b(nan|inf|None)\b|-\d", each.message + each.fix)
    said = parse(encode(Termination(reason="Completed", advice=advice)).decode())
    assert said is not None
    assert said.advice == advice
