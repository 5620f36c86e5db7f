"""The rules between fields: the twins, in Python, of the CRD's CEL rules, with the same places and messages.

A test holds the two together, and the same table of bad jobs is put to both.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import Any, Final, TypeAlias

import msgspec

from dask_training.model.problems import Path
from dask_training.model.quantity import parse_memory, parse_quantity

Node: TypeAlias = Mapping[str, Any]


class Rule(msgspec.Struct, frozen=True):
    """`holds` of each value at one place of the schema, or the field `field` below it has the problem `message`."""

    message: str
    holds: Callable[[Any], bool]
    field: str = ""


def _given(node: Node, *names: str) -> int:
    return sum(name in node for name in names)


def _exactly_one(*names: str) -> Rule:
    return Rule(f"needs exactly one of {', '.join(names)}", lambda node: _given(node, *names) == 1)


def _mounts_known(part: str) -> Rule:
    def holds(spec: Node) -> bool:
        volumes = {volume["name"] for volume in spec.get("volumes", ())}
        return all(mount["name"] in volumes for mount in spec.get(part, {}).get("volumeMounts", ()))

    return Rule("each name must be that of a volume in spec.volumes", holds, f"{part}.volumeMounts")


def _of_session(field: str) -> Rule:
    return Rule(
        "is for mode Session only: mode Workers has no cluster that a client could connect to",
        lambda spec: spec["mode"] != "Workers" or field not in spec.get("session", {}),
        f"session.{field}",
    )


def _not_with_cluster_ref(part: str, field: str) -> Rule:
    def holds(spec: Node) -> bool:
        node = spec[part]
        given = _given(node[field], "requests", "limits") if field == "resources" else field in node
        return "clusterRef" not in spec or not given

    message = "must be left out with clusterRef: that cluster's scheduler and workers are not the job's"
    return Rule(message, holds, f"{part}.{field}")


def _requests_within_limits(resources: Node) -> bool:
    requests, limits = resources.get("requests", {}), resources.get("limits", {})
    return all(parse_quantity(requests[key]) <= parse_quantity(limits[key]) for key in requests if key in limits)


def _extended_requests_equal_limits(resources: Node) -> bool:
    requests, limits = resources.get("requests", {}), resources.get("limits", {})
    extended = [key for key in requests if "/" in key]
    return all(key in limits and parse_quantity(requests[key]) == parse_quantity(limits[key]) for key in extended)


_RESOURCE: Final = re.compile(r"cpu|memory|ephemeral-storage|[-.a-z0-9]+/[-._A-Za-z0-9]+")
_MIB: Final = 1024**2
_TOO_SMALL: Final = "must be at least 1Mi; write 512Mi or 2Gi (m means thousandths of a byte)"
_RUN_ONCE: Final = "in mode Workers: no worker runs its code twice"

_JOB: Final = (
    Rule(
        "must be at most 40 lower-case letters, digits and '-', begin with a letter and not end with '-'",
        lambda job: (
            len(job["metadata"]["name"]) <= 40
            and bool(re.fullmatch("[a-z]([-a-z0-9]*[a-z0-9])?", job["metadata"]["name"]))
        ),
        "metadata.name",
    ),
)
_SPEC: Final = (
    Rule(
        "is required in modes Batch and Workers: the code to run",
        lambda spec: spec["mode"] == "Session" or "runner" in spec,
        "runner",
    ),
    Rule(
        "must be left out in mode Session: its client runs the code",
        lambda spec: spec["mode"] != "Session" or "runner" not in spec,
        "runner",
    ),
    Rule(
        "is for modes Session and Workers only",
        lambda spec: spec["mode"] != "Batch" or "session" not in spec,
        "session",
    ),
    *(_of_session("certificateSigningRequest"), _of_session("noClientTimeoutSeconds")),
    Rule(
        "is for mode Workers only: elsewhere lower replicas",
        lambda spec: spec["mode"] == "Workers" or "stopped" not in spec["workers"],
        "workers.stopped",
    ),
    Rule(
        "must be 0 in mode Session: a lost cluster can't be replaced under its client",
        lambda spec: spec["mode"] != "Session" or spec["backoffLimit"] == 0,
        "backoffLimit",
    ),
    Rule(f"must be 0 {_RUN_ONCE}", lambda spec: spec["mode"] != "Workers" or spec["backoffLimit"] == 0, "backoffLimit"),
    Rule(
        f"must be left out {_RUN_ONCE}",
        lambda spec: spec["mode"] != "Workers" or "failurePolicy" not in spec,
        "failurePolicy",
    ),
    Rule("is for mode Batch only", lambda spec: spec["mode"] == "Batch" or "clusterRef" not in spec, "clusterRef"),
    Rule(
        "must be left out in mode Workers: no scheduler could tell how many are needed",
        lambda spec: spec["mode"] != "Workers" or "maxReplicas" not in spec["workers"],
        "workers.maxReplicas",
    ),
    *(_not_with_cluster_ref("workers", field) for field in ("maxReplicas", "threads", "volumeMounts")),
    *(_not_with_cluster_ref(part, "resources") for part in ("workers", "scheduler")),
    _mounts_known("runner"),
    _mounts_known("workers"),
)
_RUNNER: Final = (_exactly_one("script", "scriptFrom", "module", "command"),)
_WORKERS: Final = (
    Rule("must not be above replicas", lambda workers: workers["minReplicas"] <= workers["replicas"], "minReplicas"),
    Rule(
        "must not be below replicas",
        lambda workers: "maxReplicas" not in workers or workers["replicas"] <= workers["maxReplicas"],
        "maxReplicas",
    ),
)
_PACKAGE: Final = (
    Rule("must be a package, not an option of pip", lambda package: not package.lstrip(" ").startswith("-")),
)
_ENV: Final = (
    Rule(
        "is set by the system: choose another name than ARTIFACTS_DIR, DASK_SCHEDULER_ADDRESS and DASK_TRAINING_*",
        lambda env: not re.match(r"(ARTIFACTS_DIR|DASK_SCHEDULER_ADDRESS)\Z|DASK_TRAINING_", env["name"]),
        "name",
    ),
    Rule("must be left out where value is given", lambda env: _given(env, "value", "valueFrom") < 2, "valueFrom"),
)
_VALUE_FROM: Final = (_exactly_one("configMapKeyRef", "secretKeyRef", "fieldRef"),)
_ENV_FROM: Final = (_exactly_one("configMapRef", "secretRef"),)
_VOLUME: Final = (_exactly_one("configMap", "secret", "emptyDir", "persistentVolumeClaim"),)
_RELATIVE: Final = (
    Rule("must be a relative path without '..'", lambda path: not path.startswith("/") and ".." not in path.split("/")),
)
_TOLERATION: Final = (
    Rule(
        "must be left out where operator is Exists",
        lambda toleration: toleration["operator"] != "Exists" or not toleration.get("value"),
        "value",
    ),
    Rule(
        "is required where operator is not Exists",
        lambda toleration: toleration["operator"] == "Exists" or bool(toleration.get("key")),
        "key",
    ),
    Rule(
        "is for the effect NoExecute only",
        lambda toleration: "tolerationSeconds" not in toleration or toleration.get("effect") == "NoExecute",
        "tolerationSeconds",
    ),
)
_RESOURCES: Final = (
    Rule("must not be above limits", _requests_within_limits, "requests"),
    Rule(
        "extended resources such as nvidia.com/gpu go into limits; in requests the same number or nothing",
        _extended_requests_equal_limits,
        "requests",
    ),
)
_QUANTITIES: Final = (
    Rule(
        "knows cpu, memory, ephemeral-storage and extended resources such as nvidia.com/gpu alone",
        lambda quantities: all(_RESOURCE.fullmatch(key) for key in quantities),
    ),
    Rule(
        f"memory {_TOO_SMALL}",
        lambda quantities: "memory" not in quantities or parse_memory(quantities["memory"]) >= _MIB,
    ),
    Rule(
        "extended resources such as nvidia.com/gpu must be whole numbers",
        lambda quantities: all(re.fullmatch("[0-9]+", str(quantities[key])) for key in quantities if "/" in key),
    ),
)
_ARTIFACTS: Final = (Rule(_TOO_SMALL, lambda artifacts: parse_memory(artifacts["sizeLimit"]) >= _MIB, "sizeLimit"),)
_DESTINATION: Final = (
    _exactly_one("url", "persistentVolumeClaim"),
    Rule("is for a url only", lambda destination: "url" in destination or "secretRef" not in destination, "secretRef"),
    Rule(
        "must hold no credentials: put them into a Secret and name it in secretRef",
        lambda destination: not re.match("[a-z0-9]+://[^/]*:[^/]*@", destination.get("url", "")),
        "url",
    ),
)
_FAILURE_RULE: Final = (_exactly_one("onExitCodes", "onReasons"),)
_EXIT_CODES: Final = (
    Rule(
        "must not hold 0 where operator is In: it is no failure",
        lambda codes: codes["operator"] != "In" or 0 not in codes["values"],
        "values",
    ),
)

RULES: Final[Mapping[str, tuple[Rule, ...]]] = {
    "": _JOB,
    "spec": _SPEC,
    "spec.runner": _RUNNER,
    "spec.workers": _WORKERS,
    "spec.packages.[]": _PACKAGE,
    **dict.fromkeys(("spec.env.[]", "spec.runner.env.[]"), _ENV),
    **dict.fromkeys(("spec.env.[].valueFrom", "spec.runner.env.[].valueFrom"), _VALUE_FROM),
    "spec.envFrom.[]": _ENV_FROM,
    "spec.volumes.[]": _VOLUME,
    **dict.fromkeys(
        (
            "spec.volumes.[].configMap.items.[].path",
            "spec.volumes.[].secret.items.[].path",
            "spec.runner.volumeMounts.[].subPath",
            "spec.workers.volumeMounts.[].subPath",
            "spec.artifacts.destination.persistentVolumeClaim.subPath",
        ),
        _RELATIVE,
    ),
    "spec.tolerations.[]": _TOLERATION,
    **dict.fromkeys((f"spec.{part}.resources" for part in ("runner", "scheduler", "workers")), _RESOURCES),
    **dict.fromkeys(
        (
            f"spec.{part}.resources.{kind}"
            for part in ("runner", "scheduler", "workers")
            for kind in ("requests", "limits")
        ),
        _QUANTITIES,
    ),
    "spec.artifacts": _ARTIFACTS,
    "spec.artifacts.destination": _DESTINATION,
    "spec.failurePolicy.rules.[]": _FAILURE_RULE,
    "spec.failurePolicy.rules.[].onExitCodes": _EXIT_CODES,
}


class _Unknown(Exception):  # noqa: N818 - not an error: what a rule needs to know is wrong itself, and said already
    pass


class _Partial(dict[str, Any]):
    """A mapping of which some values are wrong: reading one of those ends the rule that does."""

    def __init__(self, items: Iterable[tuple[str, Any]], wrong: AbstractSet[str | int]) -> None:
        super().__init__(items)
        self._wrong = wrong

    def __getitem__(self, key: str) -> Any:
        if key in self._wrong:
            raise _Unknown
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        return self[key] if key in self or key in self._wrong else default


class _PartialList(list[Any]):
    """A list of which some items are wrong: a rule that goes through it ends."""

    def __init__(self, items: Iterable[Any], wrong: AbstractSet[str | int]) -> None:
        super().__init__(items)
        self._wrong = wrong

    def __iter__(self) -> Iterator[Any]:
        if self._wrong:
            raise _Unknown
        return super().__iter__()

    def right(self) -> Iterator[tuple[int, Any]]:
        return ((index, self[index]) for index in range(len(self)) if index not in self._wrong)


def check_rules(body: Mapping[str, Any], wrong: Iterable[Path] = ()) -> list[tuple[Path, str]]:
    """Which rules a job, defaults filled in, breaks; without those that read a field that is `wrong` already."""
    wrong_in: dict[Path, set[str | int]] = {}
    for *parent, last in wrong:
        wrong_in.setdefault(tuple(parent), set()).add(last)
    known = _partial(body, (), wrong_in)
    found: list[tuple[Path, str]] = []
    for place, rules in RULES.items():
        for path, value in values_at(known, place):
            for rule in rules:
                try:
                    holds = rule.holds(value)
                except _Unknown:
                    continue
                if not holds:
                    found.append(((*path, *filter(None, rule.field.split("."))), rule.message))
    return found


def _partial(value: Any, path: Path, wrong_in: Mapping[Path, AbstractSet[str | int]]) -> Any:
    wrong = wrong_in.get(path, frozenset())
    if isinstance(value, Mapping):
        return _Partial(((key, _partial(item, (*path, key), wrong_in)) for key, item in value.items()), wrong)
    if isinstance(value, list):
        return _PartialList((_partial(item, (*path, index), wrong_in) for index, item in enumerate(value)), wrong)
    return value


def values_at(node: Any, place: str, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Each value at a place of the schema such as "spec.env.[]"; nothing where it is not given or wrong."""
    if not place:
        yield path, node
        return
    first, _, rest = place.partition(".")
    if first == "[]":
        for index, item in node.right():
            yield from values_at(item, rest, (*path, index))
    elif first in node:
        try:
            below = node[first]
        except _Unknown:
            return
        yield from values_at(below, rest, (*path, first))
