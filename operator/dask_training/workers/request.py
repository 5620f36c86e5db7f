"""What `launch_workers` was asked for, checked. Pure but for looking at the script."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

GIBIBYTE = 1024**3
KERNELS = ("python3", "r")
MAX_WORKERS = 1000
_NAME = re.compile(r"[^a-z0-9]+")
_LONGEST_NAME = 20
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """*n* workers of one kind; `script` is relative to the project, and "" where `code` is to be run."""

    n: int
    cpu: float
    memory_bytes: int
    nvidia_gpu: int
    kernel: str
    script: str
    code: str
    name: str
    env: dict[str, str]

    @property
    def threads(self) -> int:
        """CPUs as whole threads."""
        return max(1, math.ceil(self.cpu))


def checked(
    *,
    n: object,
    cpu: object,
    memory: object,
    nvidia_gpu: object,
    kernel: str,
    script: str,
    code: str,
    name: str | None,
    env: object,
    project: Path,
) -> Request:
    """The request for these arguments. Raises ValueError or TypeError, and FileNotFoundError for the script."""
    count = _whole("n", n, least=1)
    if count > MAX_WORKERS:
        raise ValueError(f"n must be at most {MAX_WORKERS}, got {count}")
    if kernel not in KERNELS:
        raise ValueError(f"kernel must be 'python3' or 'r', got {kernel!r}: engines for other languages are not there")
    if not script and not code.strip():
        raise ValueError("give script=, a file of the project, or code=, the text to run")
    return Request(
        n=count,
        cpu=_positive("cpu", cpu, "cores"),
        memory_bytes=int(_positive("memory", memory, "GB") * GIBIBYTE),
        nvidia_gpu=_whole("nvidia_gpu", nvidia_gpu, least=0),
        kernel=kernel,
        script=_script(script, project) if script else "",
        code="" if script else code,
        name=plain_name(name or "worker"),
        env=_variables(env or {}),
    )


def plain_name(text: str) -> str:
    """*text* as a part of a Kubernetes name."""
    plain = _NAME.sub("-", str(text).lower()).strip("-")[:_LONGEST_NAME].strip("-")
    return plain if plain[:1].isalpha() else f"w-{plain}".strip("-")


def refuse_cloudera(**given: object) -> None:
    """Raise ValueError for arguments that name things of a Cloudera workbench."""
    names = [name for name, value in given.items() if value is not None]
    if names:
        raise ValueError(
            f"{', '.join(names)} names something of a Cloudera workbench, which this cluster does not have: "
            "leave it out, and say with cpu, memory and nvidia_gpu what a worker needs"
        )


def _whole(name: str, value: object, *, least: int) -> int:
    number = _number(name, value)
    if number != int(number) or number < least:
        raise ValueError(f"{name} must be a whole number, at least {least}, got {value!r}")
    return int(number)


def _positive(name: str, value: object, unit: str) -> float:
    number = _number(name, value)
    if number <= 0:
        raise ValueError(f"{name} must be more than 0 ({unit}), got {value!r}")
    return number


def _number(name: str, value: object) -> float:
    """Text too: scripts pass on what they find in the environment."""
    try:
        number = float(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else math.nan
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{name} must be a number, got {value!r}")
    return number


def _script(script: str, project: Path) -> str:
    path = (project / script).resolve()
    if not path.is_file():
        raise FileNotFoundError(f"there is no script {script} in {project}, the session's working directory")
    try:
        return path.relative_to(project.resolve()).as_posix()
    except ValueError:
        raise ValueError(f"the script {script} is outside of {project}: it must be a file of the project") from None


def _variables(env: object) -> dict[str, str]:
    if not isinstance(env, Mapping):
        raise TypeError(f"env must be a dict of names and values, got {env!r}")
    for name, value in env.items():
        if not _VARIABLE.fullmatch(str(name)):
            raise ValueError(f"env has {name!r}, which is no name of an environment variable")
        if value is None:
            raise ValueError(f"env[{name!r}] is None: give text, or leave it out")
    return {str(name): str(value) for name, value in env.items()}
