"""The model against its tables: bad jobs, good jobs, and changes of jobs."""

from __future__ import annotations

import copy

import pytest
import yaml
from job_tables import BAD, GOOD, UPDATES, merged

from dask_training.model import JobFileError, TrainingJob, check_update, load_job_file
from dask_training.model.job import check_body
from dask_training.model.rules import RULES
from dask_training.model.schema import fields, job_schema
from dask_training.model.update_rules import UPDATE_RULES

MINIMAL = GOOD[0]


def named(rows):
    return [pytest.param(row, id=row["name"]) for row in rows]


def test_the_base_of_the_bad_jobs_is_a_good_one():
    assert load_job_file(yaml.safe_dump(BAD["base"])).job().name == "small"


@pytest.mark.parametrize("row", named(BAD["jobs"]))
def test_a_bad_job_gets_exactly_its_problems(row):
    body = merged(BAD["base"], row["patch"])
    with pytest.raises(JobFileError) as caught:
        load_job_file(yaml.safe_dump(body), source="bad.yaml")
    found = {(problem.path, problem.message) for problem in caught.value.problems}
    assert found == {(each["path"], each["message"]) for each in [row, *row.get("also", ())]}


@pytest.mark.parametrize("row", named(BAD["jobs"]))
def test_each_problem_names_its_line(row):
    text = yaml.safe_dump(merged(BAD["base"], row["patch"]), sort_keys=False)
    with pytest.raises(JobFileError) as caught:
        load_job_file(text, source="bad.yaml")
    lines = text.splitlines()
    for problem in caught.value.problems:
        assert 1 <= problem.line <= len(lines)
        last = problem.path.rpartition(".")[2].partition("[")[0]
        if any(line.lstrip(" -").startswith(f"{last}:") for line in lines) and "[" not in problem.path:
            assert f"{last}:" in lines[problem.line - 1]
    assert str(caught.value).startswith("bad.yaml:")


def test_the_table_of_bad_jobs_is_large_and_well_formed():
    rows = BAD["jobs"]
    assert len(rows) >= 60
    assert len({row["name"] for row in rows}) == len(rows)
    assert all(
        row.keys() <= {"name", "patch", "path", "message", "also", "server", "serverPath", "cel"} for row in rows
    )
    assert all(isinstance(row["server"], bool) for row in rows)
    assert sum(row["server"] for row in rows) >= 60


def test_each_rule_between_fields_is_broken_by_a_bad_job():
    broken = {row["message"] for row in BAD["jobs"]}
    assert {rule.message for rules in RULES.values() for rule in rules} <= broken


def test_what_is_said_to_be_a_cel_rule_is_one():
    rules = {rule.message for rules in RULES.values() for rule in rules}
    assert all(row["message"] in rules for row in BAD["jobs"] if row.get("cel"))


@pytest.mark.parametrize("body", [pytest.param(body, id=body["metadata"]["name"]) for body in GOOD])
def test_a_good_job_is_read_and_written_without_loss(body):
    before = copy.deepcopy(body)
    job = TrainingJob.from_body(body)
    assert body == before
    assert TrainingJob.from_body(job.to_body()) == job
    assert check_body(job.to_body())[0]["spec"] == check_body(body)[0]["spec"]


def test_the_good_jobs_have_every_field_that_there_is():
    def shapes_given(schema, value):
        yield id(schema)
        if isinstance(value, dict):
            for key, item in value.items():
                yield from shapes_given(schema.get("properties", {}).get(key) or schema["additionalProperties"], item)
        elif isinstance(value, list):
            for item in value:
                yield from shapes_given(schema["items"], item)

    spec = job_schema()["properties"]["spec"]
    given = {shape for body in GOOD for shape in shapes_given(spec, body["spec"])}
    # A shape that is used in several places (an alias in the YAML, one object here) is to be in one of them.
    assert [".".join(path) for path, shape in fields(spec) if id(shape) not in given] == []


@pytest.mark.parametrize("row", named(UPDATES))
def test_a_change_is_allowed_or_gets_its_problem(row):
    old, new = (check_body(merged(MINIMAL, row[key]))[0] for key in ("old", "new"))
    found = [(problem.path, problem.message) for problem in check_update(old, new)]
    assert found == ([(row["path"], row["message"])] if "path" in row else [])


def test_each_update_rule_is_broken_by_a_change():
    broken = {(row["path"], row["message"]) for row in UPDATES if "path" in row}
    rules = {
        (f"{place}.{rule.field}".removeprefix("."), rule.message)
        for place, rules in UPDATE_RULES.items()
        for rule in rules
    }
    assert rules == broken


def test_every_field_of_the_spec_is_immutable_or_known_not_to_be():
    immutable = {rule.field for rule in UPDATE_RULES["spec"]}
    spec = job_schema()["properties"]["spec"]["properties"]
    assert set(spec) - immutable == {"suspend", "ttlSecondsAfterFinished", "workers"}
    of_workers = {rule.field for rule in UPDATE_RULES["spec.workers"]}
    assert set(spec["workers"]["properties"]) - of_workers == {"replicas", "minReplicas", "maxReplicas"}
