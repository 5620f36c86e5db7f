"""The chart dask-training-job: any job there is can be written as values, and comes out as it went in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from dask_training.model import TrainingJob
from dask_training.model.schema import crd

CHART = "dask-training-job"
DATA = Path(__file__).parents[1] / "data"
GOOD = list(yaml.safe_load_all((DATA / "good_jobs.yaml").read_text()))
SPEC = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]


def without_nulls(value):
    """As the API server takes it: a null is nothing; Helm takes it for the removal of a value."""
    if isinstance(value, dict):
        return {key: without_nulls(below) for key, below in value.items() if below is not None}
    return [without_nulls(each) for each in value] if isinstance(value, list) else value


def job_of(documents):
    [job] = [each for each in documents if each["kind"] == "DaskTrainingJob"]
    return job


@pytest.mark.parametrize("body", GOOD, ids=lambda body: body["metadata"]["name"])
def test_every_good_job_comes_out_as_it_went_in(render_chart, body):
    """Between them they have every field that there is, which tests/unit/test_model_tables.py sees to."""
    metadata, spec = body["metadata"], without_nulls(body["spec"])
    values = spec | {key: metadata[key] for key in ("name", "labels", "annotations") if key in metadata}
    job = job_of(render_chart(CHART, values))
    assert job["spec"] == spec
    assert job["metadata"]["name"] == metadata["name"]
    assert job["metadata"]["labels"].items() >= metadata.get("labels", {}).items()
    assert job["metadata"].get("annotations", {}) == metadata.get("annotations", {})
    TrainingJob.from_body(job)


def test_defaults_are_left_to_the_api(render_chart, root):
    job = job_of(render_chart(CHART, {"runner": {"script": "print()"}}))
    assert job["spec"] == {"runner": {"script": "print()"}}
    schema = json.loads((root / "charts" / CHART / "values.schema.json").read_text())
    assert "default" not in set(keywords(schema))


def keywords(schema):
    """The words of JSON Schema that are used; names of properties are none."""
    if isinstance(schema, list):
        for each in schema:
            yield from keywords(each)
    elif isinstance(schema, dict):
        for word, below in schema.items():
            yield word
            yield from keywords(list(below.values()) if word == "properties" else below)


def test_every_field_of_the_spec_is_a_value(root):
    values = json.loads((root / "charts" / CHART / "values.schema.json").read_text())["properties"]
    assert set(values) - set(SPEC["properties"]) == {"global", "name", "labels", "annotations", "codeFiles"}
    assert set(SPEC["properties"]) <= set(values)


def test_the_script_is_taken_from_a_file_as_it_is(render_chart, tmp_path):
    script = 'print("""\n  {{ .Values }} ünïcode\t\n""")  # $HOME: no\n'
    (tmp_path / "train.py").write_text(script)
    (tmp_path / "helpers.py").write_text("A = 1\n")
    options = (
        "--set-file",
        f"runner.script={tmp_path}/train.py",
        "--set-file",
        f"codeFiles.helpers\\.py={tmp_path}/helpers.py",
        "--set",
        "workers.replicas=4",
    )
    documents = render_chart(CHART, options=options)
    spec = job_of(documents)["spec"]
    assert spec["runner"] == {"script": script}
    assert spec["workers"] == {"replicas": 4}
    [code] = [each for each in documents if each["kind"] == "ConfigMap"]
    assert code["data"] == {"helpers.py": "A = 1\n"}
    assert spec["code"] == {"configMap": {"name": code["metadata"]["name"]}}


def test_large_numbers_stay_whole(render_chart):
    """Helm reads numbers as floats: 315360000 must not come out as 3.1536e+08."""
    values = {"runner": {"script": "1"}, "ttlSecondsAfterFinished": 315360000, "activeDeadlineSeconds": 315360000}
    spec = job_of(render_chart(CHART, values))["spec"]
    assert (spec["ttlSecondsAfterFinished"], spec["activeDeadlineSeconds"]) == (315360000, 315360000)
    assert all(isinstance(spec[name], int) for name in ("ttlSecondsAfterFinished", "activeDeadlineSeconds"))


def test_zero_and_false_are_said(render_chart):
    values = {
        "runner": {"script": "1"},
        "ttlSecondsAfterFinished": 0,
        "suspend": False,
        "scheduler": {"dashboard": False},
    }
    assert job_of(render_chart(CHART, values))["spec"] == values


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"worker": {}}, "additional properties 'worker' not allowed"),
        ({"workers": {"replica": 2}}, "at '/workers': additional properties 'replica' not allowed"),
        ({"workers": {"replicas": 0}}, "at '/workers/replicas': minimum"),
        ({"workers": {"resources": {"limits": {"memory": "2 Gi"}}}}, "at '/workers/resources/limits/memory'"),
        ({"runner": {"scripts": ""}}, "at '/runner': additional properties 'scripts' not allowed"),
        ({"mode": "batch"}, "at '/mode': value must be one of"),
        ({"codeFiles": {"a.py": ""}, "code": {"configMap": {"name": "b"}}}, "codeFiles and code: give one of them"),
        ({"name": "a" * 41}, "at '/name': maxLength"),
    ],
)
def test_mistakes_are_named(render_chart, values, message):
    with pytest.raises(Exception, match=message):
        render_chart(CHART, values)


def test_a_release_s_name_that_is_too_long_for_a_job_is_refused(render_chart):
    with pytest.raises(Exception, match=r"a job's name may have 40 characters, and the release's, .* has 41"):
        render_chart(CHART, {"runner": {"script": "1"}}, release="a" * 41)
    assert job_of(render_chart(CHART, release="a" * 41, values={"name": "b"}))["metadata"]["name"] == "b"
