"""What `submit` is given, a job file or a script with options, as the bundle that is sent."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import msgspec
import yaml

from dask_training.api import API_VERSION, KIND
from dask_training.cli import hints
from dask_training.cli.imports import Proposal, needs_of, not_given
from dask_training.cli.init import read_script
from dask_training.cli.jobfiles import JobFileUnreadableError, read_job_file
from dask_training.cli.scaffold import INLINE_BYTES, config_map_key, job_name
from dask_training.client.jobs import bundle_of
from dask_training.client.packing import CONFIG_MAP_BYTES, pack_folder
from dask_training.client.submitting import Bundle
from dask_training.errors import CodeError
from dask_training.model import JobFileError, Problem, TrainingJob
from dask_training.model.schema import job_schema


@dataclass(frozen=True, kw_only=True)
class Overrides:
    """What the options say of the job; None or empty for what they don't."""

    name: str | None = None
    workers: int | None = None
    cpu: str | None = None
    memory: str | None = None
    packages: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    image: str | None = None
    code: Path | None = None
    sets: tuple[str, ...] = ()
    args: tuple[str, ...] = ()


def read_bundle(file: str, overrides: Overrides) -> tuple[str, Bundle]:
    """The text of *file* and what is to be sent; raises JobFileError, CodeError, or a ClickException."""
    if Path(file).suffix == ".py":
        return "", _from_script(Path(file), overrides)
    text, source = read_job_file(file)
    try:
        bundle = bundle_of(text, source=source)
        return text, _overridden(bundle, overrides, source)
    except JobFileError as error:
        error.text = text  # type: ignore[attr-defined]
        raise


def _overridden(bundle: Bundle, overrides: Overrides, source: str) -> Bundle:
    jobs = [job for job in bundle.jobs if overrides.name in {None, job["metadata"]["name"]}]
    if not jobs:
        names = ", ".join(str(job["metadata"]["name"]) for job in bundle.jobs)
        message = f"holds no job {overrides.name!r}; it has: {names}. Its name is in the file: metadata.name"
        raise JobFileError([Problem("", message, None, source)])
    if overrides == Overrides(name=overrides.name):
        return msgspec.structs.replace(bundle, jobs=tuple(jobs))
    if len(jobs) > 1:
        names = ", ".join(str(job["metadata"]["name"]) for job in jobs)
        raise click.UsageError(
            f"{source} holds several jobs: choose with --name the one that options are for ({names})"
        )
    code = pack_folder(overrides.code) if overrides.code else None
    job = _checked(_with(jobs[0], overrides), has_code=code is not None)
    name = job["metadata"]["name"]
    return msgspec.structs.replace(bundle, jobs=(job,), code={name: code} if code else {})


def _from_script(path: Path, overrides: Overrides) -> Bundle:
    if not path.exists():
        raise JobFileUnreadableError(hints.no_such_file(path))
    script = read_script(path)
    needs = needs_of(script, path.parent, name=path.name)
    name = overrides.name or job_name(path.stem)
    spec: dict[str, Any] = {"runner": {}, "workers": {"replicas": 2}}
    long = len(script.encode()) > INLINE_BYTES
    if not long:
        spec["runner"]["script"] = script
    code = _code_of(needs.modules, needs.folders, overrides, path)
    packages = _packages(needs.proposals, overrides)
    if packages:
        spec["packages"] = packages
    job = {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": name}, "spec": spec}
    job = _with(job, overrides)
    scripts = {name: (config_map_key(path.name), script.encode())} if long else {}
    if long and len(script.encode()) > CONFIG_MAP_BYTES:
        raise CodeError(f"{path} is too long: a script may have 1 MiB at most")
    return Bundle(
        jobs=(_checked(job, has_code=bool(code), has_script=long),), code={name: code} if code else {}, scripts=scripts
    )


def _code_of(modules: Any, folders: tuple[str, ...], overrides: Overrides, path: Path) -> dict[str, bytes] | None:
    """The files of --code, with the modules beside the script that it imports."""
    data = pack_folder(overrides.code) if overrides.code else {}
    beside = {name: text.encode() for name, text in modules.items()}
    missing = [] if overrides.code else list(folders)
    if missing:
        said = ", ".join(f"{path.parent / folder}" for folder in missing)
        raise CodeError(f"{path} imports {said}: send the folder that holds it along, with --code {path.parent}")
    data = beside | data
    total = sum(len(content) for content in data.values())
    if total > CONFIG_MAP_BYTES:
        raise CodeError(f"the modules that {path} imports have {total:,} bytes; a ConfigMap holds {CONFIG_MAP_BYTES:,}")
    return data or None


def _packages(proposals: Iterable[Proposal], overrides: Overrides) -> list[str]:
    """Those of --packages and, said aloud, those that the script imports in the versions that are installed here."""
    added = []
    for proposal in not_given(proposals, overrides.packages):
        if overrides.code and any(
            (overrides.code / name).exists() for name in (f"{proposal.module}.py", proposal.module)
        ):
            continue
        if proposal.requirement:
            added.append(proposal.requirement)
            click.echo(
                f"note: packages: {proposal.requirement} (line {proposal.line} imports {proposal.module})", err=True
            )
        else:
            hint = f"--packages {proposal.guess or proposal.module}"
            click.echo(
                f"note: line {proposal.line} imports {proposal.module}, which the runtime image lacks: {hint}?",
                err=True,
            )
    return added


def _with(job: dict[str, Any], overrides: Overrides) -> dict[str, Any]:
    """*job* with what the options say."""
    job = copy.deepcopy(job)
    spec = job["spec"]
    if overrides.workers is not None:
        spec.setdefault("workers", {})["replicas"] = overrides.workers
        minimum = spec["workers"].get("minReplicas", 1)
        if minimum > overrides.workers > 0:
            spec["workers"]["minReplicas"] = overrides.workers
    resources = spec.setdefault("workers", {}).setdefault("resources", {}) if overrides.cpu or overrides.memory else {}
    if overrides.cpu:
        resources.setdefault("requests", {})["cpu"] = overrides.cpu
    if overrides.memory:
        resources.setdefault("requests", {})["memory"] = overrides.memory
        resources.setdefault("limits", {})["memory"] = overrides.memory
    if overrides.packages:
        spec["packages"] = [*spec.get("packages", []), *overrides.packages]
    if overrides.env:
        spec["env"] = _env(spec.get("env", []), overrides.env)
    if overrides.image:
        spec["image"] = overrides.image
    if overrides.args:
        spec.setdefault("runner", {})["args"] = list(overrides.args)
    for each in overrides.sets:
        _set(job, each)
    return job


def _env(there: list[dict[str, Any]], given: tuple[str, ...]) -> list[dict[str, Any]]:
    values: dict[str, str] = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not equals or not name:
            raise click.UsageError(f"--env {each}: write NAME=VALUE")
        values[name] = value
    kept = [each for each in there if each.get("name") not in values]
    return [*kept, *({"name": name, "value": value} for name, value in values.items())]


def _set(job: dict[str, Any], assignment: str) -> None:
    """One --set: the value is read as YAML; fields are those of the API."""
    path, equals, text = assignment.partition("=")
    parts = path.split(".")
    if not equals or len(parts) < 2 or parts[0] != "spec" or not all(parts):
        raise click.UsageError(f"--set {assignment}: write spec.FIELD=VALUE, such as spec.backoffLimit=2")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        value = text
    schema, place = job_schema(), job
    for number, part in enumerate(parts):
        fields = schema.get("properties")
        if fields is None:  # a map of the user's own keys, such as nodeSelector: what is left is one key
            place[".".join(parts[number:])] = value if isinstance(value, str) else text
            return
        if part not in fields:
            near = difflib.get_close_matches(part, fields, n=1)
            said = f"; did you mean {near[0]}?" if near else f"; there are: {', '.join(sorted(fields))}"
            raise click.UsageError(f"--set {assignment}: {'.'.join(parts[:number])} has no field {part}{said}")
        schema = fields[part]
        if number == len(parts) - 1:
            place[part] = text if schema.get("type") == "string" else value
        elif schema.get("type") == "array":
            raise click.UsageError(f"--set {assignment}: {part} is a list; give it whole, as YAML: {part}=[...]")
        else:
            place = place.setdefault(part, {})


def _checked(job: dict[str, Any], *, has_code: bool, has_script: bool = False) -> dict[str, Any]:
    """*job*, if it is right with the ConfigMaps that will be made for it; raises JobFileError."""
    body = copy.deepcopy(job)
    if has_code:
        body["spec"]["code"] = {"configMap": {"name": "code"}}
    if has_script:
        source = {"configMap": {"name": "script", "key": "script.py"}}
        body["spec"]["runner"] = body["spec"]["runner"] | {"scriptFrom": source}
    TrainingJob.from_body(body)
    return job
