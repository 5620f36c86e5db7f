"""A training job as a frozen value: the fields of the CRD's spec, in snake_case, with all defaults filled in.

What only Kubernetes reads (volumes, mounts, tolerations, affinity) stays as it stands in the body, checked by the
CRD's schema.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeAlias

import msgspec

from dask_training import api
from dask_training.model.problems import JobFileError, Problem, path_text
from dask_training.model.quantity import parse_memory, parse_quantity
from dask_training.model.rules import check_rules
from dask_training.model.schema import job_schema, with_defaults, without_nulls
from dask_training.model.structure import check_structure

Quantity: TypeAlias = str | int
PodField: TypeAlias = dict[str, Any]


class Model(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """Base of all parts of a job."""


class ObjectRef(Model, frozen=True):
    """An object of the job's namespace, by name."""

    name: str


class KeyRef(Model, frozen=True):
    """One key of a ConfigMap or Secret."""

    name: str
    key: str
    optional: bool = False


class EnvSource(Model, frozen=True):
    """A whole ConfigMap or Secret, as environment variables."""

    name: str
    optional: bool = False


class FieldRef(Model, frozen=True):
    """A field of the pod."""

    field_path: str


class ValueFrom(Model, frozen=True):
    """Where an environment variable's value is taken from: exactly one of these."""

    config_map_key_ref: KeyRef | None = None
    secret_key_ref: KeyRef | None = None
    field_ref: FieldRef | None = None


class EnvVar(Model, frozen=True):
    """An environment variable."""

    name: str
    value: str | None = None
    value_from: ValueFrom | None = None


class EnvFrom(Model, frozen=True):
    """A ConfigMap or Secret whose keys become environment variables, `prefix` put before each."""

    prefix: str = ""
    config_map_ref: EnvSource | None = None
    secret_ref: EnvSource | None = None


class Resources(Model, frozen=True):
    """Requests and limits of a container, as quantities."""

    requests: dict[str, Quantity] = {}
    limits: dict[str, Quantity] = {}

    @property
    def memory_limit_bytes(self) -> int | None:
        """The memory limit in bytes; None if there is none."""
        return parse_memory(self.limits["memory"]) if "memory" in self.limits else None

    @property
    def cpu_request(self) -> float | None:
        """The CPUs requested, or else the limit, as Kubernetes does; None if neither is given."""
        cpu = self.requests.get("cpu", self.limits.get("cpu"))
        return None if cpu is None else float(parse_quantity(cpu))


class ScriptKey(Model, frozen=True):
    """The key of a ConfigMap that holds a script."""

    name: str
    key: str


class ScriptFrom(Model, frozen=True):
    """A script that is kept elsewhere."""

    config_map: ScriptKey


class Code(Model, frozen=True):
    """Modules that are importable in every pod."""

    config_map: ObjectRef


class Joblib(Model, frozen=True):
    """What joblib uses in the code: backend dask, loky, threading or none; scatter auto."""

    backend: str = "dask"
    scatter: str = "auto"


class Runner(Model, frozen=True):
    """The code to run: exactly one of script, script_from, module and command."""

    script: str | None = None
    script_from: ScriptFrom | None = None
    module: str | None = None
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    env: tuple[EnvVar, ...] = ()
    volume_mounts: tuple[PodField, ...] = ()
    resources: Resources = Resources()
    joblib: Joblib = Joblib()


class Session(Model, frozen=True):
    """Whose session the job serves: a client's certificate signing request in PEM, and when the job ends without it.

    No client for `no_client_timeout_seconds`, or no heartbeat (api.HEARTBEAT_ANNOTATION) for
    `heartbeat_timeout_seconds`, ends the job; None: that does not.
    """

    certificate_signing_request: str = ""
    no_client_timeout_seconds: int | None = None
    heartbeat_timeout_seconds: int | None = None


class Scheduler(Model, frozen=True):
    """The Dask scheduler."""

    dashboard: bool = True
    resources: Resources = Resources()


class Workers(Model, frozen=True):
    """The Dask workers; in mode Workers what runs the code, but for the numbers in `stopped`."""

    replicas: int = 2
    min_replicas: int = 1
    max_replicas: int | None = None
    adaptive: bool = True
    threads: int | None = None
    loss_grace_seconds: int = 300
    resources: Resources = Resources()
    volume_mounts: tuple[PodField, ...] = ()
    stopped: tuple[int, ...] = ()

    @property
    def nthreads(self) -> int:
        """Tasks at a time of each worker: `threads`, or the CPU request rounded up, or 1."""
        return self.threads or math.ceil(self.resources.cpu_request or 1)

    @property
    def is_adaptive(self) -> bool:
        """Whether the number of workers follows the work, between min_replicas and max_replicas."""
        return self.adaptive and self.max_replicas is not None and self.max_replicas > self.min_replicas


class ClaimDestination(Model, frozen=True):
    """A folder of a PersistentVolumeClaim."""

    claim_name: str
    sub_path: str = ""


class Destination(Model, frozen=True):
    """Where artifacts are stored: a url (with the Secret of its credentials) or a claim."""

    url: str | None = None
    secret_ref: ObjectRef | None = None
    persistent_volume_claim: ClaimDestination | None = None


class Artifacts(Model, frozen=True):
    """What becomes of the files that the code leaves; upload_policy Always or OnSuccess."""

    destination: Destination | None = None
    upload_policy: str = "Always"
    size_limit: Quantity = "5Gi"

    @property
    def size_limit_bytes(self) -> int:
        """The most that an attempt may keep, in bytes."""
        return parse_memory(self.size_limit)


class OnExitCodes(Model, frozen=True):
    """Matches by exit code: operator In or NotIn `values`."""

    operator: str
    values: tuple[int, ...]


class FailureRule(Model, frozen=True):
    """What a kind of failure leads to: action FailJob, Ignore or Count."""

    action: str
    on_exit_codes: OnExitCodes | None = None
    on_reasons: tuple[str, ...] = ()


class FailurePolicy(Model, frozen=True):
    """Which failures are retried and which count; the first rule that matches decides."""

    rules: tuple[FailureRule, ...] = ()


class ClusterRef(Model, frozen=True):
    """A cluster of dask-kubernetes to train on."""

    name: str
    kind: str = "DaskCluster"


class Spec(Model, frozen=True):
    """What to run, and on what; `kubectl explain dtj.spec` has the fields."""

    mode: api.Mode = api.Mode.BATCH
    image: str = ""
    image_pull_policy: str | None = None
    image_pull_secrets: tuple[ObjectRef, ...] = ()
    packages: tuple[str, ...] = ()
    code: Code | None = None
    env: tuple[EnvVar, ...] = ()
    env_from: tuple[EnvFrom, ...] = ()
    volumes: tuple[PodField, ...] = ()
    service_account_name: str = ""
    priority_class_name: str = ""
    node_selector: dict[str, str] = {}
    tolerations: tuple[PodField, ...] = ()
    affinity: PodField = {}
    runner: Runner | None = None
    session: Session | None = None
    scheduler: Scheduler = Scheduler()
    workers: Workers = Workers()
    artifacts: Artifacts = Artifacts()
    suspend: bool = False
    backoff_limit: int = 0
    failure_policy: FailurePolicy = FailurePolicy()
    active_deadline_seconds: int = 86400
    startup_deadline_seconds: int = 600
    idle_timeout_seconds: int = 1200
    ttl_seconds_after_finished: int = 86400
    cluster_ref: ClusterRef | None = None


class Metadata(Model, frozen=True, forbid_unknown_fields=False):
    """Who a job is; `uid`, `generation` and the timestamps are empty until the API server gives them."""

    name: str
    namespace: str = "default"
    uid: str = ""
    generation: int = 0
    creation_timestamp: str = ""
    deletion_timestamp: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class TrainingJob(Model, frozen=True, forbid_unknown_fields=False):
    """A checked job: the spec with all defaults filled in."""

    metadata: Metadata
    spec: Spec

    @property
    def name(self) -> str:
        """The job's name."""
        return self.metadata.name

    @property
    def namespace(self) -> str:
        """The job's namespace."""
        return self.metadata.namespace

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> TrainingJob:
        """The job that a Kubernetes object describes; raises JobFileError with all that is wrong with it."""
        complete, problems = check_body(body)
        if problems:
            raise JobFileError(Problem(path_text(path), message) for path, message in problems)
        return msgspec.convert(complete, cls)

    def to_body(self) -> dict[str, Any]:
        """The job as a Kubernetes object, without what equals its default; `from_body` gives an equal job."""
        return {"apiVersion": api.API_VERSION, "kind": api.KIND, **_without_defaults(self)}


def check_body(body: Mapping[str, Any]) -> tuple[dict[str, Any], list[tuple[tuple[str | int, ...], str]]]:
    """The body with its defaults filled in, and all problems with it; `body` itself stays as it is."""
    schema = job_schema()
    given = without_nulls(schema, body)
    problems = check_structure(given)
    complete = with_defaults(schema, given)
    problems += check_rules(complete, [path for path, _ in problems])
    return complete, problems


def _without_defaults(model: msgspec.Struct) -> dict[str, Any]:
    body = {}
    for field in msgspec.structs.fields(model):
        value = getattr(model, field.name)
        default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
        if value != default:
            body[field.encode_name] = _plain(value)
    return body


def _plain(value: Any) -> Any:
    if isinstance(value, msgspec.Struct):
        return _without_defaults(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return msgspec.to_builtins(value)
