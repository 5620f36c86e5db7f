"""The tables of jobs against the API server: it sees what the model sees, at the same field."""

import json
import re
import time

import pytest
import yaml
from job_tables import BAD, GOOD, UPDATES, merged
from machine import give_up_at

from dask_training import api

UNKNOWN = re.compile(r'unknown field "([^"]+)"')
DRY = {"dryRun": "All", "fieldValidation": "Strict"}


def problems(answer: dict) -> list[tuple[str, str]]:
    """(field, message) of each problem in a refusal; the server names unknown fields in its message alone."""
    causes = [(cause.get("field", ""), cause["message"]) for cause in answer.get("details", {}).get("causes", ())]
    unknown = [(field, f"unknown field {field}") for field in UNKNOWN.findall(answer["message"])]
    return unknown or causes or [("", answer["message"])]


@pytest.fixture
def path(jobs):
    return f"/apis/{api.API_VERSION}/namespaces/{jobs.namespace}/{api.PLURAL}"


def test_the_server_refuses_each_bad_job_at_the_field_that_the_model_names(jobs, path):
    wrong = {}
    for row in (row for row in BAD["jobs"] if row["server"]):
        body = merged(BAD["base"], row["patch"])
        status, answer = jobs.api.send("POST", path, body, **DRY)
        if status == 201:
            wrong[row["name"]] = "accepted"
            continue
        found, field = problems(answer), row.get("serverPath", row["path"])
        if field not in {each for each, _ in found}:
            wrong[row["name"]] = f"not at {field} but {found}"
        elif row.get("cel") and not any(each == field and row["message"] in text for each, text in found):
            wrong[row["name"]] = f"in other words: {found}"
    assert wrong == {}


def test_the_server_takes_each_good_job_and_changes_nothing_but_defaults(jobs, path):
    for body in GOOD:
        status, answer = jobs.api.send("POST", path, merged(body, {"metadata": {"namespace": jobs.namespace}}), **DRY)
        assert status == 201, answer
        assert lost(body["spec"], answer["spec"]) == []


def lost(given, stored, path="spec"):
    """Fields that are not stored as they were given; null is as good as not there."""
    if isinstance(given, dict) and isinstance(stored, dict):
        parts = ((key, value, stored.get(key)) for key, value in given.items() if value is not None)
        return [each for key, value, kept in parts for each in lost(value, kept, f"{path}.{key}")]
    if isinstance(given, list) and isinstance(stored, list) and len(given) == len(stored):
        pairs = enumerate(zip(given, stored, strict=True))
        return [each for n, (value, kept) in pairs for each in lost(value, kept, f"{path}[{n}]")]
    return [] if given == stored else [f"{path}: {given!r} became {stored!r}"]


@pytest.fixture
def unwatched(jobs, root):
    """Path of a copy of the resource, in a group that no operator watches: its objects stay as they are made."""
    definition = yaml.safe_load((root / "charts/dask-training-operator/files/crd.yaml").read_text())
    group, names = f"{jobs.namespace}.{api.GROUP}", definition["spec"]["names"]
    definition["metadata"]["name"] = f"{api.PLURAL}.{group}"
    definition["spec"] |= {"group": group, "names": {**names, "shortNames": [], "categories": []}}
    definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    status, answer = jobs.api.send("POST", definitions, definition)
    assert status == 201, answer
    path = f"/apis/{group}/{api.VERSION}/namespaces/{jobs.namespace}/{api.PLURAL}"
    deadline = give_up_at(30)
    while jobs.api.get(path) is None:
        assert time.monotonic() < deadline, "the copy of the definition is not served"
        time.sleep(0.3)
    yield path
    jobs.api.send("DELETE", f"{definitions}/{api.PLURAL}.{group}")


def test_the_server_allows_and_refuses_each_change_as_the_model_does(jobs, unwatched):
    wrong = {}
    for number, row in enumerate(UPDATES):
        names = {"name": f"update-{number}", "namespace": None}
        kind = {"apiVersion": f"{jobs.namespace}.{api.API_VERSION}", "metadata": names}
        old, new = (merged(merged(GOOD[0], row[key]), kind) for key in ("old", "new"))
        found = change(jobs.api, unwatched, old, new, part="/status" if row.get("status") else "")
        if "path" not in row:
            right = not found
        else:
            right = any(field == row["path"] and row["message"] in text for field, text in found)
        if not right:
            wrong[row["name"]] = found
    assert wrong == {}


def change(server, path, old, new, *, part) -> list[tuple[str, str]]:
    """What the server says to the change of a job from `old` to `new`."""
    status, made = server.send("POST", path, {**old, "status": None}, fieldValidation="Strict")
    assert status == 201, made
    place = f"{path}/{old['metadata']['name']}"
    if part:
        status, made = server.send("PUT", place + part, made | {"status": old["status"]})
        assert status == 200, made
    new = {**new, "metadata": new["metadata"] | {"resourceVersion": made["metadata"]["resourceVersion"]}}
    status, answer = server.send("PUT", place + part, new, dryRun="All", fieldValidation="Strict")
    return [] if status == 200 else problems(answer)


def test_a_namespace_with_bad_jobs_refused_has_none(jobs, path):
    body = merged(BAD["base"], {"spec": {"workers": {"replicas": 0}}})
    with pytest.raises(AssertionError, match=r"spec\.workers\.replicas"):
        jobs.apply(body)
    assert json.loads(jobs.kubectl("get", "dtj", "-o", "json"))["items"] == []
