"""Names and numbers that users see: the API group, phases, reasons, exit codes, environment variables."""

from __future__ import annotations

from enum import IntEnum, StrEnum

GROUP = "dask-training.io"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "DaskTrainingJob"
PLURAL = "dasktrainingjobs"
SHORT_NAME = "dtj"


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
    STARTUP_DEADLINE_EXCEEDED = "StartupDeadlineExceeded"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    RUNNER_FAILED = "RunnerFailed"
    RUNNER_KILLED = "RunnerKilled"
    RUNNER_OOM_KILLED = "RunnerOOMKilled"
    WORKERS_UNAVAILABLE = "WorkersUnavailable"
    WORKER_OOM_KILLED = "WorkerOOMKilled"
    SCHEDULER_FAILED = "SchedulerFailed"
    ARTIFACT_STORE_FAILED = "ArtifactStoreFailed"
    INTERRUPTED = "Interrupted"
    INTERNAL_ERROR = "InternalError"


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
