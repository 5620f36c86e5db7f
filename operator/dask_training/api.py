"""Names and numbers that users see: API group, phases, reasons, exit codes, environment variables, labels and ports."""

from __future__ import annotations

import hashlib
from enum import IntEnum, StrEnum

GROUP = "dask-training.io"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "DaskTrainingJob"
PLURAL = "dasktrainingjobs"
SHORT_NAME = "dtj"

LABEL_PREFIX = f"{GROUP}/"
MANAGER = "dask-training-operator"
# The artifact store that the operator brings along: the Secret of a namespace's own credentials.
STORE_SECRET = "dask-training-store"  # noqa: S105 - a name, no password

# Whoever a job serves changes this annotation as this field manager: the API server then notes the time.
HEARTBEAT_ANNOTATION = f"{LABEL_PREFIX}heartbeat"
HEARTBEAT_MANAGER = "dask-training-heartbeat"

# On a job: "off" for a job whose figures are known and meant to be so.
ADVICE_ANNOTATION = f"{LABEL_PREFIX}advice"

# On a pod of mode Workers: what it is to run.
CODE_ANNOTATION = f"{LABEL_PREFIX}code"


class Mode(StrEnum):
    """What a job is made of: `spec.mode`."""

    BATCH = "Batch"
    SESSION = "Session"
    WORKERS = "Workers"


class Phase(StrEnum):
    """Where a job is: `status.phase`. Derived, for people; the last two are final."""

    PENDING = "Pending"
    SUSPENDED = "Suspended"
    STARTING = "Starting"
    RUNNING = "Running"
    FINALIZING = "Finalizing"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


class Reason(StrEnum):
    """Why a job ended as it did: `status.reason`. A closed list, documented in docs/exit-codes.md."""

    COMPLETED = "Completed"
    VALIDATION_FAILED = "ValidationFailed"
    PACKAGES_FAILED = "PackagesFailed"
    IMAGE_PULL_FAILED = "ImagePullFailed"
    CONFIG_ERROR = "ConfigError"
    QUOTA_EXCEEDED = "QuotaExceeded"
    UNSCHEDULABLE = "Unschedulable"
    NAME_COLLISION = "NameCollision"
    STARTUP_DEADLINE_EXCEEDED = "StartupDeadlineExceeded"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    RUNNER_FAILED = "RunnerFailed"
    RUNNER_KILLED = "RunnerKilled"
    RUNNER_OOM_KILLED = "RunnerOOMKilled"
    RUNNER_DISRUPTED = "RunnerDisrupted"
    WORKERS_UNAVAILABLE = "WorkersUnavailable"
    WORKER_OOM_KILLED = "WorkerOOMKilled"
    WORKERS_FAILED = "WorkersFailed"
    SCHEDULER_FAILED = "SchedulerFailed"
    SCHEDULER_OOM_KILLED = "SchedulerOOMKilled"
    SCHEDULER_DISRUPTED = "SchedulerDisrupted"
    ARTIFACT_STORE_FAILED = "ArtifactStoreFailed"
    IDLE_TIMEOUT = "IdleTimeout"
    OWNER_GONE = "OwnerGone"
    INTERRUPTED = "Interrupted"
    INTERNAL_ERROR = "InternalError"


class MemberState(StrEnum):
    """Where a worker of mode Workers is: `status.workers.members[].state`. CML's words; the last four are final."""

    SCHEDULING = "scheduling"
    STARTING = "starting"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"
    TIMED_OUT = "timedout"


class Condition(StrEnum):
    """What holds of a job in a cluster: types of `status.conditions`, in the order in which they come true."""

    SUSPENDED = "Suspended"
    CLUSTER_READY = "ClusterReady"
    RUNNER_STARTED = "RunnerStarted"
    VERSIONS_MATCH = "VersionsMatch"
    SUCCESS_CRITERIA_MET = "SuccessCriteriaMet"
    FAILURE_TARGET = "FailureTarget"
    ARTIFACTS_STORED = "ArtifactsStored"
    RESOURCES_RELEASED = "ResourcesReleased"
    COMPLETE = "Complete"
    FAILED = "Failed"


class Progress(StrEnum):
    """Why a job is where it is while it has not ended: `status.reason` then, and the conditions' reasons."""

    CLUSTER_STARTING = "ClusterStarting"
    WORKERS_READY = "WorkersReady"
    WORKERS_LOST = "WorkersLost"
    SCHEDULER_LOST = "SchedulerLost"
    RUNNER_STARTING = "RunnerStarting"
    RUNNING = "Running"
    SAME_VERSIONS = "SameVersions"
    VERSION_MISMATCH = "VersionMismatch"
    ATTEMPT_ENDED = "AttemptEnded"
    BACKOFF = "Backoff"
    SUSPENDING = "Suspending"
    SUSPENDED = "Suspended"
    RESUMED = "Resumed"
    STORED = "Stored"
    NOT_STORED = "NotStored"
    TEARING_DOWN = "TearingDown"
    RELEASED = "Released"


class ExitCode(IntEnum):
    """What `dask-training run` and the runner exit with, beside the script's own code.

    A script killed by signal N gives 128 + N, as in a shell. The numbers from 65 are those of sysexits.h.
    """

    OK = 0
    USAGE = 2
    BAD_JOB_FILE = 65
    WORKERS_LOST = 69
    INTERNAL_ERROR = 70
    ARTIFACT_STORE = 74
    UNREACHABLE = 75
    FORBIDDEN = 77
    PACKAGES = 78
    DEADLINE = 124
    INTERRUPTED = 130
    TERMINATED = 143


class Env(StrEnum):
    """Environment variables that a job's processes get."""

    ARTIFACTS_DIR = "ARTIFACTS_DIR"
    SCHEDULER_ADDRESS = "DASK_SCHEDULER_ADDRESS"
    JOB_NAME = "DASK_TRAINING_JOB_NAME"
    JOB_NAMESPACE = "DASK_TRAINING_JOB_NAMESPACE"
    JOB_UID = "DASK_TRAINING_JOB_UID"
    ATTEMPT = "DASK_TRAINING_ATTEMPT"
    ROLE = "DASK_TRAINING_ROLE"
    EVENTS_FD = "DASK_TRAINING_EVENTS_FD"
    LIFELINE_FD = "DASK_TRAINING_LIFELINE_FD"
    RUNNER_CONFIG = "DASK_TRAINING_RUNNER_CONFIG"
    PREIMPORT = "DASK_TRAINING_PREIMPORT"
    POD_IP = "DASK_TRAINING_POD_IP"
    POD_NAME = "DASK_TRAINING_POD_NAME"
    MEMORY_LIMIT = "DASK_TRAINING_MEMORY_LIMIT"
    THREADS = "DASK_TRAINING_THREADS"
    PACKAGES = "DASK_TRAINING_PACKAGES"
    DASHBOARD = "DASK_TRAINING_DASHBOARD"
    IDLE_TIMEOUT = "DASK_TRAINING_IDLE_TIMEOUT"
    NO_CLIENT_TIMEOUT = "DASK_TRAINING_NO_CLIENT_TIMEOUT"
    STORE_URL = "DASK_TRAINING_STORE_URL"
    FIRST_STARTED = "DASK_TRAINING_FIRST_STARTED"
    PRICES = "DASK_TRAINING_PRICES"
    READER_TOKEN = "DASK_TRAINING_READER_TOKEN"  # noqa: S105 - a name, no password


class Role(StrEnum):
    """What an object is for: the label `dask-training.io/role`."""

    SCHEDULER = "scheduler"
    RUNNER = "runner"
    WORKER = "worker"
    CLUSTER = "cluster"
    READER = "reader"


class Label(StrEnum):
    """Labels on every object that is made for a job; INDEX on workers alone."""

    JOB = f"{LABEL_PREFIX}job"
    JOB_UID = f"{LABEL_PREFIX}job-uid"
    ATTEMPT = f"{LABEL_PREFIX}attempt"
    ROLE = f"{LABEL_PREFIX}role"
    INDEX = f"{LABEL_PREFIX}worker"
    MANAGED_BY = "app.kubernetes.io/managed-by"
    NAME = "app.kubernetes.io/name"


class Port(IntEnum):
    """Where the programs in a job's pods listen."""

    SCHEDULER = 8786
    SCHEDULER_HTTP = 8787
    WORKER = 8788
    READER = 8789


def attempt_name(job: str, uid: str, attempt: int) -> str:
    """Name of an attempt's Service, Secret and NetworkPolicy; another job of the same name never has it."""
    return f"{job}-{hashlib.sha256(uid.encode()).hexdigest()[:5]}-{attempt}"


def child_name(job: str, uid: str, attempt: int, role: Role, index: int | None = None) -> str:
    """Name of an attempt's pod; workers are told apart by `index`, which counts from 0."""
    name = f"{attempt_name(job, uid, attempt)}-{role}"
    return name if index is None else f"{name}-{index}"


def store_bucket(namespace: str) -> str:
    """The bucket that a namespace has in the operator's own artifact store; at most 63 characters."""
    name = f"artifacts-{namespace}"
    return name if len(name) <= 63 else f"{name[:54]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
