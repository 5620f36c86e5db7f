"""What `launch_cluster` was asked for, checked and in Kubernetes' units. Pure but for reading local code."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, TypeAlias

from dask_training.api import GROUP
from dask_training.client.packing import pack_files, pack_folder
from dask_training.errors import CodeError, OptionError
from dask_training.model.quantity import parse_quantity

Duration: TypeAlias = str | float | int | None
Quantity: TypeAlias = str | float | int

NO_CLIENT_SECONDS: Final = 120
MAX_WORKERS: Final = 1000
_MIB: Final = 1024**2
_NAME: Final = re.compile("[a-z]([-a-z0-9]*[a-z0-9])?")
_VARIABLE: Final = re.compile("[A-Za-z_][A-Za-z0-9_]*")
_LABEL_PART: Final = re.compile(r"[A-Za-z0-9]([-._A-Za-z0-9]{0,61}[A-Za-z0-9])?")
_DOMAIN: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
# As Dask writes sizes: "2 GiB", "500 MB".
_BYTES: Final = re.compile(r"([0-9.]+)\s*([KMGTP]i?)B?", re.IGNORECASE)


# The parameters of `launch_cluster` that describe the cluster.
PARAMETERS: Final = (
    *("n_workers", "cpu", "memory", "gpu", "threads", "name", "image", "packages", "code", "env", "secrets", "tags"),
    *("idle_timeout", "no_client_timeout", "active_deadline", "shutdown_on_close", "scheduler_cpu", "scheduler_memory"),
    *("startup_timeout", "wait"),
)


@dataclass(frozen=True, kw_only=True)
class Options:
    """A cluster to be made; seconds for durations, None where the operator's default holds."""

    minimum: int
    maximum: int
    replicas: int
    cpu: str
    memory: str
    gpu: int
    threads: int | None
    name: str
    image: str
    packages: tuple[str, ...]
    code: Mapping[str, bytes] = field(repr=False)
    env: Mapping[str, str]
    secrets: tuple[str, ...]
    tags: Mapping[str, str]
    idle_seconds: int | None
    no_client_seconds: int | None
    deadline_seconds: int | None
    startup_seconds: int
    shutdown_on_close: bool
    scheduler_cpu: str
    scheduler_memory: str
    wait: int

    @property
    def is_adaptive(self) -> bool:
        """Whether the number of workers follows the work."""
        return self.maximum > self.minimum

    @property
    def nthreads(self) -> int:
        """Tasks at a time of each worker: as many as it has CPUs, rounded up."""
        return self.threads or max(1, math.ceil(parse_quantity(self.cpu)))


def checked(given: Mapping[str, Any]) -> Options:
    """The options that the parameters of `launch_cluster` ask for; raises OptionError, naming the parameter."""
    minimum, maximum = _range(given["n_workers"])
    shutdown = bool(given["shutdown_on_close"])
    no_client = given["no_client_timeout"]
    if no_client == "auto":
        # What is to stay without its process stays without a client.
        no_client = NO_CLIENT_SECONDS if shutdown else None
    return Options(
        minimum=minimum,
        maximum=maximum,
        replicas=minimum,
        cpu=_cpu("cpu", given["cpu"]),
        memory=_memory("memory", given["memory"]),
        gpu=_whole("gpu", given["gpu"], 0, 64),
        threads=None if given["threads"] is None else _whole("threads", given["threads"], 1, 256),
        name=_name(given["name"]),
        image=_text("image", given["image"]),
        packages=_texts("packages", given["packages"]),
        code=_code(given["code"]),
        env=_env(given["env"]),
        secrets=_texts("secrets", given["secrets"]),
        tags=_tags(given["tags"]),
        idle_seconds=_seconds("idle_timeout", given["idle_timeout"], 10, 2592000),
        no_client_seconds=_seconds("no_client_timeout", no_client, 5, 2592000),
        deadline_seconds=_seconds("active_deadline", given["active_deadline"], 1, 315360000),
        startup_seconds=_seconds("startup_timeout", given["startup_timeout"], 1, 86400) or 86400,
        shutdown_on_close=shutdown,
        scheduler_cpu=_cpu("scheduler_cpu", given["scheduler_cpu"]),
        scheduler_memory=_memory("scheduler_memory", given["scheduler_memory"]),
        wait=_wait(given["wait"], maximum),
    )


def worker_range(minimum: Any, maximum: Any) -> tuple[int, int]:
    """The bounds of an adaptive cluster; raises OptionError."""
    if maximum is None:
        raise OptionError("maximum: say how many workers there may be at most, such as adapt(minimum=1, maximum=10)")
    low = _whole("minimum", minimum, 1, MAX_WORKERS)
    high = _whole("maximum", maximum, 1, MAX_WORKERS)
    if low > high:
        raise OptionError(f"minimum: must not be above maximum, got {low} and {high}")
    return low, high


def worker_count(name: str, count: Any) -> int:
    """A number of workers; raises OptionError."""
    return _whole(name, count, 1, MAX_WORKERS)


def _range(given: Any) -> tuple[int, int]:
    if isinstance(given, (tuple, list)):
        if len(given) != 2:
            raise OptionError(f"n_workers: must be a number or (minimum, maximum), got {given!r}")
        low, high = (_whole("n_workers", each, 1, MAX_WORKERS) for each in given)
        if low > high:
            raise OptionError(f"n_workers: the minimum must not be above the maximum, got {given!r}")
        return low, high
    count = _whole("n_workers", given, 1, MAX_WORKERS)
    return count, count


def _wait(given: Any, maximum: int) -> int:
    """The number of workers to wait for; 0: for the scheduler alone."""
    if isinstance(given, bool):
        return int(given)
    return _whole("wait", given, 0, maximum)


def _whole(name: str, given: Any, low: int, high: int) -> int:
    try:
        value = given.__index__()
    except (AttributeError, TypeError):
        value = None
    if value is None or isinstance(given, bool) or not low <= value <= high:
        raise OptionError(f"{name}: must be a whole number from {low} to {high}, got {given!r}")
    return int(value)


def _cpu(name: str, given: Any) -> str:
    if given is None:
        return ""
    text = str(given).strip()
    try:
        number = None if isinstance(given, bool) else parse_quantity(text)
    except ValueError:
        number = None
    if number is None or not Decimal("0.001") <= number <= 4096:
        raise OptionError(f"{name}: must be a number of CPUs such as 1, 0.5 or '500m', got {given!r}")
    return text if text.endswith("m") or number == int(number) else f"{math.ceil(number * 1000)}m"


def _memory(name: str, given: Any) -> str:
    if given is None:
        return ""
    text = str(given).strip()
    if (match := _BYTES.fullmatch(text)) is not None:
        unit = match[2][0].upper() + match[2][1:].lower()
        text = f"{match[1]}{'k' if unit == 'K' else unit}"
    try:
        number = None if isinstance(given, bool) else parse_quantity(text)
    except ValueError:
        number = None
    if number is None or number < _MIB:
        raise OptionError(f"{name}: must be a size such as '2Gi' or '512Mi', got {given!r}")
    return text


def _seconds(name: str, given: Duration, low: int, high: int) -> int | None:
    if given is None:
        return None
    from dask.utils import parse_timedelta  # noqa: PLC0415 - takes a while; --help need not wait

    try:
        seconds = None if isinstance(given, bool) else math.ceil(parse_timedelta(given, default="seconds"))
    except (KeyError, ValueError, TypeError, OverflowError, AttributeError):
        seconds = None
    if seconds is None:
        raise OptionError(f"{name}: must be a time such as '20 minutes', '90 s' or None, got {given!r}")
    if not low <= seconds <= high:
        raise OptionError(f"{name}: must be from {low} s to {high} s, got {given!r}")
    return seconds


def _name(given: Any) -> str:
    if given is None:
        return ""
    if not isinstance(given, str) or len(given) > 40 or not _NAME.fullmatch(given):
        raise OptionError(
            "name: must be at most 40 lower-case letters, digits and '-', begin with a letter and not end with '-', "
            f"got {given!r}"
        )
    return given


def _text(name: str, given: Any) -> str:
    if given is None:
        return ""
    if not isinstance(given, str) or re.search(r"\s", given):
        raise OptionError(f"{name}: must be a text without spaces, got {given!r}")
    return given


def _texts(name: str, given: Any) -> tuple[str, ...]:
    values: Iterable[Any] = (given,) if isinstance(given, str) else (given or ())
    try:
        texts = tuple(values)
    except TypeError:
        texts = (None,)
    if not all(isinstance(each, str) and each.strip() for each in texts):
        raise OptionError(f"{name}: must be a list of texts, got {given!r}")
    return texts


def _mapping(name: str, given: Any) -> dict[Any, Any]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise OptionError(f"{name}: must be a mapping such as {{'KEY': 'value'}}, got {given!r}")
    return dict(given)


def _env(given: Any) -> dict[str, str]:
    env = {}
    for key, value in _mapping("env", given).items():
        if not isinstance(key, str) or not _VARIABLE.fullmatch(key):
            raise OptionError(f"env: {key!r} is no name of a variable")
        if not isinstance(value, (str, int, float)):
            raise OptionError(f"env: the value of {key} must be a text, got {type(value).__name__}")
        env[key] = str(value)
    return env


def _tags(given: Any) -> dict[str, str]:
    tags = {}
    for key, value in _mapping("tags", given).items():
        domain, _, last = str(key).rpartition("/")
        if not _LABEL_PART.fullmatch(last) or (domain and not _DOMAIN.fullmatch(domain)):
            raise OptionError(f"tags: {key!r} is no label's name: at most 63 letters, digits, '-', '_' and '.'")
        if domain in {GROUP, "app.kubernetes.io"}:
            raise OptionError(f"tags: {key!r} is set by the system: leave out {domain}/")
        if not isinstance(value, (str, int, float)) or not (str(value) == "" or _LABEL_PART.fullmatch(str(value))):
            raise OptionError(
                f"tags: the value of {key!r} must be at most 63 letters, digits, '-', '_' and '.', got {value!r}"
            )
        tags[str(key)] = str(value)
    return tags


def _code(given: Any) -> dict[str, bytes]:
    """Of one folder its content, else the files and folders by their names: as they are imported."""
    if given is None:
        return {}
    try:
        places = [Path(each).expanduser() for each in ([given] if isinstance(given, (str, Path)) else given)]
    except TypeError:
        raise OptionError(f"code: must be a path, or a list of paths, got {given!r}") from None
    if not places:
        return {}
    missing = next((place for place in places if not place.exists()), None)
    if missing is not None:
        raise OptionError(f"code: there is no {missing}")
    pack: Callable[[], dict[str, bytes]]
    if len(places) == 1 and places[0].is_dir():
        folder = places[0]
        # A package is imported by its name, a mere folder's modules by theirs.
        pack = (lambda: pack_files(places)) if (folder / "__init__.py").exists() else (lambda: pack_folder(folder))
    else:
        pack = lambda: pack_files(places)  # noqa: E731 - as above
    try:
        return pack()
    except CodeError as error:
        raise OptionError(f"code: {error}") from error
