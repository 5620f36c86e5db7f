"""The charts' values: closed, documented, and refused where they are wrong."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import yaml

CHARTS = ("dask-training-operator", "dask-training-job")


def schema_of(root, chart):
    return json.loads((root / "charts" / chart / "values.schema.json").read_text())


def mappings(schema, path=""):
    """Each mapping in a schema, with where it is."""
    if isinstance(schema, dict):
        if schema.get("type") == "object" or "properties" in schema:
            yield path, schema
        for name, below in schema.items():
            yield from mappings(below, f"{path}/{name}")
    elif isinstance(schema, list):
        for index, below in enumerate(schema):
            yield from mappings(below, f"{path}/{index}")


@pytest.mark.parametrize("chart", CHARTS)
def test_every_mapping_is_closed(root, chart):
    """Each has the keys that it lists and no others, or keys of the user's own with values of a known type."""
    found = dict(mappings(schema_of(root, chart)))
    assert len(found) > 25
    opened = {
        path
        for path, each in found.items()
        if each.get("additionalProperties") is not False and not isinstance(each.get("additionalProperties"), dict)
    }
    # What Helm gives to every chart below another one.
    assert opened == {"/properties/global"}


def test_an_unknown_key_is_refused_at_every_level(render_chart, all_on, root):
    schema = schema_of(root, "dask-training-operator")
    spoilt, expected = json.loads(json.dumps(all_on)), []  # a copy without what YAML's aliases share

    def spoil(value, schema_here, path):
        schema_here = schema["$defs"][schema_here["$ref"].rpartition("/")[2]] if "$ref" in schema_here else schema_here
        if isinstance(value, list):
            for index, item in enumerate(value):
                spoil(item, schema_here["items"], f"{path}/{index}")
        elif isinstance(value, dict) and "properties" in schema_here:
            for name, below in list(value.items()):
                spoil(below, schema_here["properties"][name], f"{path}/{name}")
            value["unheardOf"] = "x"
            expected.append(path)

    spoil(spoilt, schema, "")
    assert len(expected) > 30
    with pytest.raises(Exception, match="unheardOf") as raised:
        render_chart(values=spoilt)
    said = str(raised.value)
    assert [
        path for path in expected if f"- at '{path}': additional properties 'unheardOf' not allowed" not in said
    ] == []


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"rbac": {"scope": "Cluster"}}, "/rbac/scope"),
        ({"rbac": {"watchNamespaces": ["Team_A"]}}, "/rbac/watchNamespaces/0"),
        ({"operator": {"replicas": "two"}}, "/operator/replicas"),
        ({"operator": {"replicas": -1}}, "/operator/replicas"),
        ({"operator": {"image": {"digest": "sha256:123"}}}, "/operator/image/digest"),
        ({"operator": {"image": {"repository": "a b"}}}, "/operator/image/repository"),
        ({"operator": {"log": {"level": "debug"}}}, "/operator/log/level"),
        ({"jobs": {"image": {"pullPolicy": "always"}}}, "/jobs/image/pullPolicy"),
        ({"jobs": {"ttlSecondsAfterFinished": -1}}, "/jobs/ttlSecondsAfterFinished"),
        ({"jobs": {"maxWorkers": 1001}}, "/jobs/maxWorkers"),
        ({"jobs": {"prices": {"currency": "EUR", "cpuHour": "0.04"}}}, "/jobs/prices/cpuHour"),
        ({"jobs": {"prices": {"cpuHour": 0.04}}}, "/jobs/prices"),
        ({"store": {"persistence": {"size": "10 Gi"}}}, "/store/persistence/size"),
        ({"store": {"persistence": {"accessModes": []}}}, "/store/persistence/accessModes"),
        ({"userRole": {"bindings": [{"namespace": "a"}]}}, "/userRole/bindings/0"),
        ({"metrics": {"serviceMonitor": {"interval": "10"}}}, "/metrics/serviceMonitor/interval"),
        ({"fullnameOverride": "-x"}, "/fullnameOverride"),
        ({"global": {"anything": 1}}, ""),
    ],
)
def test_wrong_values_are_refused_with_their_place(render_chart, values, place):
    if not place:
        assert render_chart(values=values)
        return
    with pytest.raises(Exception, match=f"- at '{place}':"):
        render_chart(values=values)


def test_tables_and_the_job_s_schema_are_up_to_date(root):
    script = root / "docs" / "reference" / "charts.py"
    done = subprocess.run([sys.executable, script, "--check"], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_value_has_a_schema_and_the_other_way_round(root):
    """Else a value could be written down that nobody reads, or one be accepted that has no default."""
    schema = schema_of(root, "dask-training-operator")

    def compare(values, here, path):
        here = schema["$defs"][here["$ref"].rpartition("/")[2]] if "$ref" in here else here
        if not isinstance(values, dict) or "properties" not in here or not values:
            return set()
        names = {f"{path}{name}" for name in set(values) ^ set(here["properties"])}
        inner = [compare(values[name], here["properties"][name], f"{path}{name}.") for name in values]
        return names.union(*inner)

    values = yaml.safe_load((root / "charts/dask-training-operator/values.yaml").read_text())
    # Fields of Kubernetes' own types, of which a default need not have all.
    allowed = {
        "global",
        *(
            f"{part}.podSecurityContext.{field}"
            for part in ("operator", "store")
            for field in ("supplementalGroups", "seLinuxOptions", "seccompProfile.localhostProfile")
        ),
    }
    assert compare(values, schema, "") == allowed
