"""What an installation of the operator is set to: read from its environment once, checked, and frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from dask_training.costs import Prices
from dask_training.errors import DaskTrainingError

PREFIX: Final = "DASK_TRAINING_OPERATOR_"
_DEFAULT_IMAGE: Final = "dask-training-runtime:latest"
_TRUE: Final = ("true", "1", "yes")
_FALSE: Final = ("false", "0", "no", "")


class SettingsError(DaskTrainingError):
    """A variable of the operator's environment has a value that can't be used; the message names it."""


@dataclass(frozen=True)
class OperatorSettings:
    """How the operator works; each field is the environment variable DASK_TRAINING_OPERATOR_<FIELD>.

    `key` is the content of the file that KEY_FILE names: what tokens are derived from. `scale_down_seconds`: for
    so long an adaptive job must have needed fewer workers before it gets fewer.
    """

    namespace: str = "dask-training"
    scope: str = "cluster"
    watch_namespaces: tuple[str, ...] = ()
    runtime_image: str = _DEFAULT_IMAGE
    image_pull_policy: str = ""
    key: bytes = field(default=b"", repr=False)
    default_ttl_seconds: int | None = None
    max_workers: int = 1000
    max_concurrent_jobs: int = 50
    scale_down_seconds: int = 30
    image_pull_deadline_seconds: int = 300
    network_policy: bool = True
    log_format: str = "text"
    log_level: str = "INFO"
    health_port: int = 8080
    lease_name: str = ""
    priority_class: str = ""
    prices: Prices | None = None
    store_endpoint: str = ""
    store_admin_endpoint: str = ""
    store_credentials_dir: str = ""
    store_region: str = "us-east-1"

    @property
    def has_store(self) -> bool:
        """Whether there is an artifact store for jobs that name none."""
        return bool(self.store_endpoint)

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> OperatorSettings:
        """The settings in `environ`; raises SettingsError naming the first variable that is not right."""
        read = _Reader(environ)
        default = cls()
        scope = read.one_of("SCOPE", ("cluster", "namespaces"), default.scope)
        namespaces = tuple(name for name in read.text("WATCH_NAMESPACES").replace(" ", "").split(",") if name)
        if scope == "namespaces" and not namespaces:
            raise SettingsError(f"{PREFIX}WATCH_NAMESPACES is empty: name the namespaces, or set {PREFIX}SCOPE=cluster")
        return cls(
            namespace=read.text("NAMESPACE", default.namespace),
            scope=scope,
            watch_namespaces=namespaces,
            runtime_image=read.text("RUNTIME_IMAGE", default.runtime_image),
            image_pull_policy=read.one_of("IMAGE_PULL_POLICY", ("", "Always", "IfNotPresent", "Never"), ""),
            key=read.file("KEY_FILE"),
            default_ttl_seconds=read.whole_or_none("DEFAULT_TTL_SECONDS"),
            max_workers=read.whole("MAX_WORKERS", default.max_workers, least=1),
            max_concurrent_jobs=read.whole("MAX_CONCURRENT_JOBS", default.max_concurrent_jobs, least=1),
            scale_down_seconds=read.whole("SCALE_DOWN_SECONDS", default.scale_down_seconds),
            image_pull_deadline_seconds=read.whole("IMAGE_PULL_DEADLINE_SECONDS", default.image_pull_deadline_seconds),
            network_policy=read.boolean("NETWORK_POLICY", default=default.network_policy),
            log_format=read.one_of("LOG_FORMAT", ("text", "json"), default.log_format),
            log_level=read.one_of("LOG_LEVEL", ("DEBUG", "INFO", "WARNING", "ERROR"), default.log_level),
            health_port=read.whole("HEALTH_PORT", default.health_port, least=1, most=65535),
            lease_name=read.text("LEASE_NAME"),
            priority_class=read.text("PRIORITY_CLASS"),
            prices=read.prices("PRICES"),
            store_endpoint=read.text("STORE_ENDPOINT"),
            store_admin_endpoint=read.text("STORE_ADMIN_ENDPOINT"),
            store_credentials_dir=read.text("STORE_CREDENTIALS_DIR"),
            store_region=read.text("STORE_REGION", default.store_region),
        )


@dataclass(frozen=True)
class _Reader:
    environ: Mapping[str, str]

    def text(self, name: str, default: str = "") -> str:
        return self.environ.get(PREFIX + name, "").strip() or default

    def one_of(self, name: str, choices: tuple[str, ...], default: str) -> str:
        value = self.text(name, default)
        if value not in choices:
            known = ", ".join(choice or "nothing" for choice in choices)
            raise SettingsError(f"{PREFIX}{name} is {value!r}: must be one of {known}")
        return value

    def boolean(self, name: str, *, default: bool) -> bool:
        value = self.text(name, str(default)).lower()
        if value not in (*_TRUE, *_FALSE):
            raise SettingsError(f"{PREFIX}{name} is {value!r}: must be true or false")
        return value in _TRUE

    def whole(self, name: str, default: int, *, least: int = 0, most: int = 2**31 - 1) -> int:
        value = self.text(name, str(default))
        if not (value.isascii() and value.isdigit() and least <= int(value) <= most):
            raise SettingsError(f"{PREFIX}{name} is {value!r}: must be a whole number from {least} to {most}")
        return int(value)

    def whole_or_none(self, name: str) -> int | None:
        return self.whole(name, 0) if self.text(name) else None

    def prices(self, name: str) -> Prices | None:
        try:
            return Prices.read(self.text(name))
        except ValueError as error:
            raise SettingsError(f"{PREFIX}{name} can't be used: {error}") from error

    def file(self, name: str) -> bytes:
        path = self.text(name)
        if not path:
            return b""
        try:
            content = Path(path).read_bytes().strip()
        except OSError as error:
            raise SettingsError(f"{PREFIX}{name} is {path!r}, which can't be read: {error.strerror}") from error
        if len(content) < 16:
            raise SettingsError(f"{PREFIX}{name} is {path!r}, which holds {len(content)} bytes: at least 16 are needed")
        return content
