"""What can go wrong, as exceptions.

DaskTrainingError
├── JobFileError            the job file is not right: problems with path and place (dask_training.model)
├── PackagesError           `packages` could not be installed
├── CommandError            `spec.runner.command` can't be started
├── PortTakenError          something else listens on the port that the dashboard was given
├── ClusterError            the Dask cluster could not be started, or was lost
│   ├── StartupDeadlineError    not enough workers by startupDeadlineSeconds
│   ├── WorkersLostError        fewer than minReplicas workers for lossGraceSeconds
│   ├── SchedulerLostError      the scheduler ended
│   └── TaskKilledWorkersError  a task took each worker it ran on down with it
└── ArtifactError           artifacts could not be stored or read
    ├── UnsafeNameError         a file name that a store must not be given
    ├── SizeLimitError          more bytes than the job may keep
    ├── StoreUnavailableError   no answer, or 5xx, after retries
    ├── StoreDeniedError        credentials missing or not sufficient, or a read-only store
    ├── StoreFullError          no space left
    └── ManifestError           a manifest that is missing, malformed or does not verify
"""

from __future__ import annotations


class DaskTrainingError(Exception):
    """Base of all errors that this package raises on purpose; `str()` is what a user should read."""


class PackagesError(DaskTrainingError):
    """`spec.packages` could not be installed; the message ends with pip's own reason."""


class CommandError(DaskTrainingError):
    """`spec.runner.command` can't be started; the message says why."""


class PortTakenError(DaskTrainingError):
    """Something else listens on the port that the dashboard was to have."""


class ClusterError(DaskTrainingError):
    """The Dask cluster could not be started, or was lost."""


class StartupDeadlineError(ClusterError):
    """Fewer than `spec.workers.minReplicas` workers had connected by `spec.startupDeadlineSeconds`."""


class WorkersLostError(ClusterError):
    """Fewer than `spec.workers.minReplicas` workers for longer than `spec.workers.lossGraceSeconds`."""


class SchedulerLostError(ClusterError):
    """The scheduler ended; what it knew of the running computation is gone."""


class TaskKilledWorkersError(ClusterError):
    """A task was tried several times and each time its worker died; the message names the task."""


class ArtifactError(DaskTrainingError):
    """Artifacts could not be stored or read."""


class UnsafeNameError(ArtifactError):
    """A file name that a store must not be given: absolute, with `..`, a link out, control characters, too long."""


class SizeLimitError(ArtifactError):
    """The files are larger than the job may keep."""


class StoreUnavailableError(ArtifactError):
    """The store did not answer, or answered 5xx, after all retries."""


class StoreDeniedError(ArtifactError):
    """The store refused: credentials missing or not sufficient, or read-only."""


class StoreFullError(ArtifactError):
    """The store has no space left."""


class ManifestError(ArtifactError):
    """A manifest is missing or malformed, or does not agree with the files."""
