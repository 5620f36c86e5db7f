"""What an API server's refusals mean to a user: verb, resource and what to do, in plain words."""

from __future__ import annotations

import json
import re
from typing import Any

from dask_training.api import GROUP, PLURAL
from dask_training.errors import (
    AlreadyExistsError,
    DaskTrainingError,
    ForbiddenError,
    KubernetesError,
    NotFoundError,
    NotInstalledError,
    UnreachableError,
)
from dask_training.model.problems import JobFileError, Problem, plain

NOT_INSTALLED = (
    "the cluster does not know training jobs: is the operator installed?\n"
    "  helm install dask-training-operator charts/dask-training-operator"
    " --namespace dask-training-system --create-namespace"
)
_CANNOT = re.compile(
    r'(?:User "(?P<user>[^"]*)" )?cannot (?P<verb>\S+) resource "(?P<resource>[^"]*)" in API group "[^"]*"'
    r'(?: in the namespace "(?P<namespace>[^"]*)")?'
)
# The API server's causes begin with the value, whole: `Invalid value: "...": must be at most 40`.
_VALUE = re.compile(
    r"^(Invalid value|Unsupported value|Required value|Forbidden|Too long|Too many|Duplicate value)", re.DOTALL
)
_STRICT = re.compile(r'(unknown|duplicate) field "([^"]*)"')
_STRICT_MESSAGES = {
    "unknown": "is no field that the cluster knows: its operator may be of another version",
    "duplicate": "is given twice",
}
_LONGEST = 400


def refusal(status: int, data: bytes, *, method: str, path: str, server: str) -> DaskTrainingError:  # noqa: PLR0911
    """The error for an answer with *status*; JobFileError if an object was not right."""
    answer = _status_object(data)
    message = _shortened(str(answer.get("message") or data.decode("utf-8", "replace").strip() or f"HTTP {status}"))
    details = answer.get("details") or {}
    if status == 401:
        return ForbiddenError(f"{server} does not accept your credentials (401 Unauthorized): log in again")
    if status == 403:
        return _forbidden(message)
    if status == 404:
        return _missing(message, details, path)
    if status == 409 and answer.get("reason") == "AlreadyExists":
        return AlreadyExistsError(message)
    if status == 409:
        return KubernetesError(f"somebody else has changed it at the same time; try again ({message})")
    if status in {400, 422}:
        return _invalid(message, details)
    if status == 429 or status >= 500:
        return UnreachableError(f"{server} can't answer now ({status}: {message}); try again")
    return KubernetesError(f"{server} refused {method} {path}: {status}: {message}")


def _status_object(data: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(data)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _forbidden(message: str) -> DaskTrainingError:
    found = _CANNOT.search(message)
    if found is None:  # a quota, an admission policy: their words are the user's business
        return ForbiddenError(f"the cluster forbids it: {message}")
    user = f" (you are {found['user']})" if found["user"] else ""
    where = f"in namespace {found['namespace']}" if found["namespace"] else "in all namespaces"
    return ForbiddenError(
        f"you may not {found['verb']} {found['resource']} {where}{user}: "
        "ask whoever runs the cluster to bind the user role of the operator's chart to you there (userRole.bindings)"
    )


def _missing(message: str, details: dict[str, Any], path: str) -> DaskTrainingError:
    if f"/apis/{GROUP}/" in path and not details.get("name"):
        return NotInstalledError(NOT_INSTALLED)
    if details.get("kind") == "namespaces":
        return NotFoundError(
            f"there is no namespace {details.get('name')}: kubectl create namespace {details.get('name')}"
        )
    if details.get("kind") == PLURAL:
        return NotFoundError(f"there is no job {details.get('name')}")
    return NotFoundError(message)


def _invalid(message: str, details: dict[str, Any]) -> DaskTrainingError:
    problems = [
        Problem(str(cause.get("field") or ""), _cause(str(cause.get("message") or "")))
        for cause in details.get("causes") or ()
        if cause.get("field") not in {"<nil>", None} or "must be" in str(cause.get("message"))
    ]
    if not problems and "strict decoding error" in message:
        problems = [Problem(path, _STRICT_MESSAGES[kind]) for kind, path in _STRICT.findall(message)]
    unique = list(dict.fromkeys(problems))
    return JobFileError(unique or [Problem("", message)])


def _cause(message: str) -> str:
    """Without the value where it is the whole object, as the rules over `spec` have it."""
    kind, _, rest = message.partition(": ")
    if not _VALUE.match(message) or not rest:
        return plain(message)
    value, _, said = rest.rpartition(": ")
    if value in {"", '"object"'} or len(value) > 80:
        return plain(said or rest)
    return plain(f"{said}, got {value}") if kind == "Invalid value" else plain(f"{kind.lower()}: {rest}")


def _shortened(message: str) -> str:
    return message if len(message) <= _LONGEST else message[: _LONGEST - 1] + "…"
