"""The startup benchmark reads right what it has seen; that it measures is test_bench.py's in tests/e2e."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2]))  # bench is no package of the distribution

from bench.startup.contenders import CONTENDERS, DOCUMENTED, OURS, SCRIPT, TUNED
from bench.startup.record import STAGE, _seconds
from bench.startup.report import markdown, milestones, timeline
from bench.startup.stages import STAGES, ended, figures, missing, operator_writes, p95, stages, whole
from bench.startup.writes import COUNT, SYSTEM, _schema, difference

from dask_training.model import TrainingJob


def pod(at, name, role, *, change="MODIFIED", phase="Pending", containers=(), ids=()):
    return {
        "at": at,
        "source": "pod",
        "change": change,
        "pod": name,
        "role": role,
        "phase": phase,
        "conditions": [],
        "containers": list(containers),
        "ids": list(ids),
        "deleting": False,
    }


PODS = (("s", "scheduler"), ("r", "runner"), ("w0", "worker"), ("w1", "worker"))


def seen(*, keeps_runner=False, told=("artifacts", "verdict", "complete")):
    """A job applied at 1000: pods made from 0.1 s on, running from 1 s on, fitted at 3 s, gone from 5 s on."""
    found = [
        {"at": 1000.0, "source": "bench", "stage": "apply"},
        {"at": 1000.05, "source": "bench", "stage": "applied"},
    ]
    for number, (name, role) in enumerate(PODS):
        found.append(pod(1000.1 + number / 100, name, role, change="ADDED"))
        found.append({"at": 1001 + number / 20, "source": "containerd", "container": f"id-{name}", "what": "start"})
        found.append(pod(1001 + number / 10, name, role, phase="Running", containers=["running"], ids=[f"id-{name}"]))
    script = {"script": 1.5, "workers": 2.0, "fit": 2.1, "fitted": 3.0, "task": 2.2, "done": 3.1}
    found += [{"at": 1000 + at, "source": "script", "stage": stage} for stage, at in script.items()]
    found.append({"at": 1003.2, "source": "containerd", "container": "id-r", "what": "exit"})
    found.append({"at": 1004.0, "source": "containerd", "container": "id-w0", "what": "exit"})
    found.append(pod(1003.9, "r", "runner", phase="Succeeded", containers=["terminated"], ids=["id-r"]))
    for number in range(len(told)):
        status = {"source": "status", "change": "MODIFIED", "stages": list(told[: number + 1]), "status": {}}
        found.append({"at": 1004 + number / 10, **status})
    for number, (name, role) in enumerate(PODS):
        if not (keeps_runner and role == "runner"):
            found.append(pod(1004.9, name, role, phase="Running") | {"deleting": True})
            found.append(pod(1005 + number / 10, name, role, change="DELETED", phase="Succeeded"))
    return found


def test_stages_are_seconds_after_the_request_was_sent():
    found = stages(seen(), CONTENDERS[OURS])
    wanted = {
        "applied": 0.05,
        "created": 0.13,
        "running": 1.3,
        "script": 1.5,
        "workers": 2.0,
        "task": 2.2,
        "fitted": 3.0,
    }
    wanted |= {
        "started": 1.15,
        "deleting": 4.9,
        "stopped": 4.0,
        "exit": 3.2,
        "exit seen": 3.9,
        "artifacts": 4.0,
        "verdict": 4.1,
        "gone": 5.3,
    }
    assert {stage: found[stage] for stage in wanted} == pytest.approx(wanted)
    assert missing(found, CONTENDERS[OURS]) == set()
    assert whole(found) == pytest.approx(5.3)


def test_a_runner_pod_that_stays_is_not_waited_for():
    peer = CONTENDERS[TUNED]
    entries = seen(keeps_runner=True, told=("verdict",))
    assert ended(entries, peer)
    assert stages(entries, peer)["gone"] == pytest.approx(5.3)
    assert not ended(entries, CONTENDERS[OURS])


def test_a_job_has_not_ended_while_a_pod_is_left_or_its_last_status_is_not_there():
    ours = CONTENDERS[OURS]
    assert ended(seen(), ours)
    assert not ended([each for each in seen() if each.get("change") != "DELETED"], ours)
    assert not ended(seen(told=("artifacts", "verdict")), ours)
    assert not ended([each for each in seen() if each["source"] != "pod"], ours)


def test_a_failed_job_has_ended_at_once():
    entries = [{"at": 1.0, "source": "status", "change": "MODIFIED", "stages": ["failed"], "status": {}}]
    assert ended(entries, CONTENDERS[OURS])


def test_stages_that_were_not_seen_are_named():
    entries = [each for each in seen() if each.get("stage") != "task" and each["source"] != "containerd"]
    found = stages(entries, CONTENDERS[OURS])
    assert missing(found, CONTENDERS[OURS]) == {"task", "exit"}
    assert missing(stages(seen(keeps_runner=True, told=("verdict",)), CONTENDERS[TUNED]), CONTENDERS[TUNED]) == set()


def test_what_a_status_tells():
    ours, peer = CONTENDERS[OURS].reached, CONTENDERS[DOCUMENTED].reached
    condition = {"type": "SuccessCriteriaMet", "status": "True"}
    assert ours({}) == set()
    assert ours({"conditions": [condition, {"type": "Complete", "status": "False"}]}) == {"verdict"}
    assert ours({"conditions": [{"type": "FailureTarget", "status": "True"}]}) == {"failed"}
    assert peer({"jobStatus": "Running"}) == set()
    assert peer({"jobStatus": "Successful"}) == {"verdict"}
    assert peer({"jobStatus": "Failed"}) == {"failed"}


def test_our_job_is_one_that_the_model_takes():
    job = TrainingJob.from_body(CONTENDERS[OURS].make("r01-ours", "runtime:1"))
    assert job.spec.workers.replicas == 2
    assert job.spec.runner.script == SCRIPT


def test_the_peers_jobs_differ_in_the_readiness_probe_alone():
    documented, tuned = (CONTENDERS[name].make("job", "image") for name in (DOCUMENTED, TUNED))
    probes = []
    for body in (documented, tuned):
        [container] = body["spec"]["cluster"]["spec"]["scheduler"]["spec"]["containers"]
        probe = container["readinessProbe"]
        probes.append((probe.pop("initialDelaySeconds"), probe.pop("periodSeconds")))
    assert probes == [(5, 10), (0, 1)]
    assert documented == tuned


def test_the_scripts_lines_are_read():
    line = "2026-11-21T07:00:00.5Z runner | bench-stage fitted 1790000000.125000"
    assert STAGE.search(line).groups() == ("fitted", "1790000000.125000")
    assert _seconds("2026-11-21T07:00:00.123456789Z") == pytest.approx(1795244400.123456789, abs=1e-6)
    assert _seconds("2026-11-21T07:00:00Z") == 1795244400


def test_the_api_servers_counters_are_read():
    counter = "apiserver_flowcontrol_dispatched_requests_total"
    schemas = {"startup-bench-ours-create": "7", "startup-bench-ours-patch": "1e+06", "service-accounts": "99"}
    lines = [f'{counter}{{flow_schema="{name}",priority_level="x"}} {count}\n' for name, count in schemas.items()]
    text = "".join(lines)
    assert COUNT.findall(text) == [("ours-create", "7"), ("ours-patch", "1e+06")]
    assert difference({"a": 1, "b": 2}, {"a": 1, "b": 5, "c": 4}) == {"b": 3, "c": 4}


def test_a_flow_schema_counts_in_the_benchmarks_namespace_alone():
    schema = _schema(SYSTEM[0], "patch", 60, ["patch"], ["*"], "here")
    [rule] = schema["spec"]["rules"]
    assert rule["resourceRules"] == [
        {"verbs": ["patch"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["here"]}
    ]
    assert schema["spec"]["priorityLevelConfiguration"] == {"name": "workload-high"}


def test_p95_lies_between_those_that_were_measured():
    assert p95([1.0]) == 1.0
    assert p95(range(1, 11)) == pytest.approx(9.55)
    assert p95([3.0, 1.0, 2.0]) == pytest.approx(2.9)


WHERE = {
    "time": "2026-11-21T07:00:00+00:00",
    "cores": 2,
    "processor": "a",
    "system": "b",
    "kubernetes": "v1",
    "python": "3",
    "packages": {"distributed": "1"},
}


def rounds():
    counts = {"ours-create": 7, "ours-patch": 4, "ours-deletecollection": 1, "ours-delete": 1, "ours-events": 9}
    ours = {
        "contender": OURS,
        "busyBefore": 0.25,
        "writes": counts | {"kubelet-patch": 20},
        "stages": stages(seen(), CONTENDERS[OURS]),
    }
    entries = [each | {"at": each["at"] - 1000} for each in seen()]
    slow = {stage: 3 * at for stage, at in stages(seen(told=("verdict",)), CONTENDERS[TUNED]).items()}
    tuned = {"contender": TUNED, "busyBefore": 0.05, "writes": {"peer-create": 9, "peer-patch": 30}, "stages": slow}
    return [ours | {"seen": entries, "operatorLog": ["noted"]}, tuned]


def test_figures_are_of_our_job_and_its_operator():
    found = {what: (round(value, 2), limit) for what, value, limit, _ in figures(rounds())}
    assert list(found.values()) == [(2.2, 3.0), (1.1, 2.0), (2.3, 3.5), (0.33, 0.5), (13, 14)]
    assert operator_writes(rounds()[1]) == 39


def test_the_page_has_all_stages_and_says_what_is_reached():
    page = markdown(rounds(), WHERE, "the command", "")
    assert all(title in page for title in STAGES.values())
    assert "| the whole job against the tuned DaskJob | <= 0.5x | 0.33x | yes |" in page
    assert "| **the operator** | 13 | 39 |" in page
    assert "the cores 15% busy before a job (median; at most 25%)" in page
    assert "| end of fit | 3.00 / 3.00 | 9.00 / 9.00 | 0.33x |" in page
    late = rounds()
    late[0]["stages"]["task"] = 3.01
    assert "| apply -> first scikit-learn task on a worker | <= 3 s | 3.01 s | no |" in markdown(late, WHERE, "", "")


def test_the_page_shows_a_trace_of_our_job():
    trace = rounds()[0]
    told = milestones(trace)
    assert told == sorted(told)
    assert (pytest.approx(2.2), "first scikit-learn task on a worker") in told
    assert told[-2:] == [
        (pytest.approx(5.3), "last pod of the cluster gone"),
        (pytest.approx(5.3), "the worker's pod is gone"),
    ]
    page = markdown(rounds(), WHERE, "", "", traces=[trace])
    assert "of the runner's container |" in page


def test_a_timeline_names_what_was_seen():
    lines = list(timeline(rounds()[0]))
    assert any(line.endswith("containerd: exit r") for line in lines)
    assert any("pod w1: ADDED Pending" in line for line in lines)
    assert lines[-1] == "operator  noted"
