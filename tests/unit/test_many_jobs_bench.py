"""The benchmark of many jobs says of its figures what they are."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2]))  # bench is no package of the distribution

from bench.many_jobs.measure import PLACE, _job
from bench.many_jobs.nodes import TAINT, _node
from bench.many_jobs.report import figures, markdown, percentile

from dask_training.model import TrainingJob


@pytest.fixture
def found():
    return {
        "machine": {
            "time": "2026-11-21T12:00:00+00:00",
            "cores": 2,
            "processor": "some",
            "system": "Linux",
            "python": "3.11.7",
            "packages": {"dask-training": "0.1.0"},
            "kubernetes": "v1.34.4",
        },
        "jobs": 1000,
        "suspended": 4000,
        "busyBefore": 0.02,
        "idle": {"latencies": [number / 1000 for number in range(1, 101)], "memory": 100e6, "peakMemory": 101e6},
        "many": {"latencies": [0.1] * 99 + [9.0], "memory": 200e6, "peakMemory": 210e6},
        "most": {"latencies": [], "memory": 300e6, "peakMemory": 310e6},
        "burst": {
            "appliedSeconds": 20.0,
            "requestsAtOnce": 16,
            "podsSeconds": 59.9,
            "latencies": [1.0, 2.0, 3.0],
            "cpuSeconds": {"etcd": 20.0, "kube-apiserver": 60.0, "the operator": 15.0, "sshd": 0.1},
            "podsAfter": [(each / 4, 17 * each) for each in range(1, 240)] + [(59.9, 4000)],
        },
        "goneSeconds": 80.0,
        "restarts": 0,
    }


def test_a_percentile_is_one_of_the_values():
    values = list(range(1, 101))
    assert [percentile(values, share) for share in (0.01, 0.5, 0.99, 1)] == [1, 50, 99, 100]
    assert percentile([7], 0.99) == 7


def test_each_figure_is_held_against_its_limit(found):
    assert [(value <= limit, value, unit) for _, value, limit, unit in figures(found)] == [
        (False, pytest.approx(99), "ms"),
        (True, pytest.approx(100), "ms"),
        (True, 59.9, "s"),
        (True, 100, "MB"),
        (False, 200, "MB"),
        (True, 300, "MB"),
    ]


def test_the_page_has_all_figures_and_how_they_came_about(found):
    page = markdown(found, "python -m bench.many_jobs --jobs 1000", "Nothing ran beside it.")
    assert "| 1,000 jobs applied at once -> all 4,000 pods made | 60 s | 60 s | yes |" in page
    assert "| the operator's memory with 1,000 running | 180 MB | 200 MB | no |" in page
    assert "| 59.9 | 4,000 |" in page
    assert "95 of 120 that 2 cores have in that time: kube-apiserver 60, etcd 20, the operator 15." in " ".join(
        page.split()
    )
    assert "held 310 MB at the most, and was started again 0 times" in " ".join(page.split())
    assert page.endswith("Nothing ran beside it.\n")
    assert max(len(line) for line in page.splitlines()) <= 120


def test_the_jobs_are_valid_and_come_to_kwoks_nodes_alone():
    for more in ({}, {"suspend": True}):
        TrainingJob.from_body(_job("many-1", **more))
    [node, [toleration]] = [_node("kwok-0"), PLACE["tolerations"]]
    assert PLACE["nodeSelector"].items() <= node["metadata"]["labels"].items()
    assert node["spec"]["taints"] == [TAINT]
    assert toleration["key"] == TAINT["key"]
