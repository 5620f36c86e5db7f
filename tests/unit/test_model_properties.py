"""What holds of any job and of any input."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import msgspec
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dask_training.model import JobFileError, TrainingJob, check_update, load_job_file
from dask_training.model import job as model
from dask_training.model.documents import read_documents
from dask_training.model.job import check_body

DATA = Path(__file__).parents[1] / "data"
GOOD = [document.value for document in read_documents((DATA / "good_jobs.yaml").read_text(), source="")]

# Other work may slow this machine down.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=50)

names = st.from_regex(r"[a-z]([-a-z0-9]{0,20}[a-z0-9])?", fullmatch=True)
texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)
cpu = st.integers(1, 64) | st.integers(1, 64000).map("{}m".format) | st.sampled_from(["1", "0.5", "1e1"])
memory = st.integers(1, 512).map("{}Gi".format) | st.integers(2**20, 2**40)
resources = st.builds(
    model.Resources,
    requests=st.fixed_dictionaries({}, optional={"cpu": cpu}),
    limits=st.fixed_dictionaries({}, optional={"memory": memory, "nvidia.com/gpu": st.integers(0, 8)}),
)
env = st.lists(
    st.builds(
        model.EnvVar,
        name=st.from_regex(r"[A-Z][A-Z0-9_]{0,8}", fullmatch=True).filter(
            lambda name: not name.startswith(("DASK", "ARTI"))
        ),
        value=texts,
    ),
    unique_by=lambda variable: variable.name,
    max_size=3,
).map(tuple)
runners = st.builds(
    model.Runner,
    module=st.from_regex(r"[a-z_]+(\.[a-z_]+)?", fullmatch=True),
    args=st.lists(texts, max_size=3).map(tuple),
    env=env,
    resources=resources,
    joblib=st.builds(model.Joblib, backend=st.sampled_from(["dask", "loky", "threading", "none"])),
)
workers = st.integers(1, 20).flatmap(
    lambda replicas: st.builds(
        model.Workers,
        replicas=st.just(replicas),
        min_replicas=st.integers(1, replicas),
        max_replicas=st.none() | st.integers(replicas, 1000),
        adaptive=st.booleans(),
        threads=st.none() | st.integers(1, 256),
        resources=resources,
    )
)
specs = st.builds(
    model.Spec,
    packages=st.lists(names, max_size=2).map(tuple),
    env=env,
    runner=runners,
    workers=workers,
    node_selector=st.dictionaries(names, names, max_size=2),
    suspend=st.booleans(),
    backoff_limit=st.integers(0, 100),
    active_deadline_seconds=st.integers(1, 10**6),
    code=st.none() | st.builds(model.Code, config_map=st.builds(model.ObjectRef, name=names)),
)
jobs = st.builds(
    TrainingJob,
    metadata=st.builds(model.Metadata, name=names, namespace=names, labels=st.dictionaries(names, names, max_size=2)),
    spec=specs,
)


@unhurried
@given(jobs)
def test_a_job_is_the_same_after_writing_and_reading(job):
    body = job.to_body()
    assert TrainingJob.from_body(body) == job
    assert TrainingJob.from_body(body).to_body() == body


@unhurried
@given(jobs)
def test_a_job_is_the_same_after_writing_and_reading_a_file(job):
    assert load_job_file(json.dumps(job.to_body())).job() == job


@unhurried
@given(jobs)
def test_filling_in_defaults_twice_changes_nothing(job):
    complete, problems = check_body(job.to_body())
    assert problems == []
    assert check_body(complete) == (complete, [])


@unhurried
@given(jobs, jobs)
def test_what_may_be_changed_is_what_the_design_says(old, new):
    numbers = {"replicas": new.spec.workers.replicas, "min_replicas": new.spec.workers.min_replicas}
    allowed = msgspec.structs.replace(
        old.spec,
        suspend=new.spec.suspend,
        ttl_seconds_after_finished=new.spec.ttl_seconds_after_finished,
        workers=msgspec.structs.replace(old.spec.workers, max_replicas=new.spec.workers.max_replicas, **numbers),
    )
    change = msgspec.structs.replace(new, spec=allowed)
    assert check_update(check_body(old.to_body())[0], check_body(change.to_body())[0]) == []
    other = msgspec.structs.replace(
        new, spec=msgspec.structs.replace(allowed, backoff_limit=old.spec.backoff_limit + 1)
    )
    assert [problem.path for problem in check_update(old.to_body(), other.to_body())] == ["spec.backoffLimit"]


def places(value, path=()):
    """Each place within a body."""
    if path:
        yield path
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(item, (*path, key))


scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | texts | st.sampled_from(["Session", "2Gi", "../x", "-x"])
)
anything = st.recursive(
    scalars, lambda below: st.lists(below, max_size=3) | st.dictionaries(texts, below, max_size=3), max_leaves=6
)


@st.composite
def spoilt(draw):
    """A good job of which some values are replaced, removed or given another name."""
    body = copy.deepcopy(draw(st.sampled_from(GOOD)))
    for _ in range(draw(st.integers(1, 3))):
        *above, last = draw(st.sampled_from(sorted(places(body), key=str)))
        node = body
        for key in above:
            node = node[key]
        match draw(st.sampled_from(["replace", "remove", "rename"])):
            case "remove":
                del node[last]
            case "rename" if isinstance(node, dict):
                node[draw(texts)] = node.pop(last)
            case _:
                node[last] = draw(anything)
        if not list(places(body)):
            break
    return body


def outcome(read, *arguments):
    """What was read, or None, and the problems."""
    try:
        return read(*arguments), ()
    except JobFileError as error:
        return None, error.problems


@settings(unhurried, max_examples=300)
@given(spoilt())
def test_any_body_is_a_job_or_has_problems_and_is_left_as_it_is(body):
    before = repr(body)
    job, problems = outcome(TrainingJob.from_body, body)
    assert repr(body) == before
    if job:
        assert TrainingJob.from_body(job.to_body()) == job
    else:
        assert problems
        assert all(problem.message for problem in problems)


@settings(unhurried, max_examples=200)
@given(spoilt() | anything)
def test_any_document_is_a_job_file_or_has_problems(body):
    file, problems = outcome(load_job_file, yaml.safe_dump(body, allow_unicode=True))
    assert (file is None) == bool(problems)
    for job in file.jobs if file else ():
        assert all(problem.path for problem in file.check_local(job))
        assert all(sentence.endswith(".") for sentence in file.ignored_locally(job))


@unhurried
@given(st.text(max_size=200))
def test_any_text_is_a_job_file_or_has_problems(text):
    file, problems = outcome(load_job_file, text)
    assert (file is None) == bool(problems)


@unhurried
@given(st.binary(max_size=60).map(lambda noise: noise.decode("latin-1")), st.integers(0, 2000))
def test_a_good_file_with_noise_in_it_is_a_job_file_or_has_problems(noise, at):
    text = (DATA / "good_jobs.yaml").read_text()
    file, problems = outcome(load_job_file, text[:at] + noise + text[at:])
    assert (file is None) == bool(problems)
