"""The chart's Grafana dashboard: a ConfigMap for the sidecar, about the figures that the operator has."""

import json
import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from dask_training.handlers.metrics import Metrics

ON = {"metrics": {"grafanaDashboard": {"enabled": True}}}


@pytest.fixture
def config_map(render_chart):
    [found] = render_chart(values=ON, show_only=("grafana.yaml",))
    return found


@pytest.fixture
def dashboard(config_map):
    [(name, text)] = config_map["data"].items()
    assert name.endswith(".json")
    return json.loads(text)


@pytest.fixture
def queries(dashboard):
    return [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]


def known_series():
    """What the operator tells Prometheus, each with the names of its labels."""
    metrics = Metrics()
    metrics.request("GET", "pods", 200)
    metrics.phases({})
    metrics.finished.labels("Failed", "OOMKilled").inc()
    samples = [
        sample
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
        if not sample.name.endswith("_created")
    ]
    return {sample.name: {*sample.labels, "namespace", "service"} for sample in samples}  # two from Prometheus


def test_it_is_there_where_it_is_asked_for_and_found_by_the_sidecar(render_chart, config_map):
    assert not [each for each in render_chart() if each["metadata"]["name"].endswith("-grafana")]
    assert config_map["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert len(json.dumps(config_map)) < 2**18  # kubectl apply keeps a copy in an annotation


def test_every_query_asks_for_what_the_operator_has(queries):
    known = known_series()
    asked = set()
    for query in queries:
        names = re.findall(r"dasktraining_\w+", query)
        assert names, query
        asked |= set(names)
        assert set(names) <= known.keys(), query
        labels = set().union(*(known[name] for name in names))
        assert set(re.findall(r"[{,] ?(\w+) ?=", query)) <= labels, query
        for grouped in re.findall(r"by \(([^)]+)\)", query):
            assert set(grouped.replace(" ", "").split(",")) <= labels, query
        assert query.count("(") == query.count(")")
    families = {re.sub(r"_(total|bucket|sum|count)$", "", name) for name in known}
    assert {re.sub(r"_(total|bucket)$", "", name) for name in asked} == families, "all that there is can be seen"


def test_panels_do_not_overlap_and_say_what_they_show(dashboard):
    taken = {}
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        assert panel["type"] == "row" or panel["description"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert x < 24
                assert taken.setdefault((x, y), panel["title"]) == panel["title"]
    numbers = [panel["id"] for panel in dashboard["panels"]]
    assert len(numbers) == len(set(numbers))
    assert {panel.get("datasource", {}).get("uid", "${datasource}") for panel in dashboard["panels"]} == {
        "${datasource}"
    }
