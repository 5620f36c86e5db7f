"""What can go wrong, as exceptions.

DaskTrainingError
├── JobFileError            the job file is not right: problems with path and place (dask_training.model)
├── CodeError               a folder of code, or a script, that can't be sent along with a job
├── SettingsError           a variable of the operator's environment can't be used (dask_training.settings)
├── PackagesError           `packages` could not be installed
├── CommandError            `spec.runner.command` can't be started
├── PortTakenError          something else listens on the port that the dashboard was given
├── OptionError             a parameter of a function that can't be used; the message begins with its name
├── ClusterError            the Dask cluster could not be started, or was lost
│   ├── StartupDeadlineError    not enough workers by startupDeadlineSeconds
│   ├── ClusterStartError       a session's cluster ended while it started
│   │   └── ClusterStartTimeoutError  it was not ready within startup_timeout
│   ├── NotAttachableError      a session's cluster whose key is not on this machine
│   ├── WorkersLostError        fewer than minReplicas workers for lossGraceSeconds
│   ├── SchedulerLostError      the scheduler ended
│   └── TaskKilledWorkersError  a task took each worker it ran on down with it
├── KubernetesError         a Kubernetes cluster refused a request, or did not answer
│   ├── NoKubeconfigError       no kubeconfig, no such context in it, or one that can't be used
│   ├── UnreachableError        no answer in time
│   ├── NotInstalledError       the cluster does not know training jobs
│   ├── ForbiddenError          the user may not do that
│   ├── NotFoundError           no such object
│   └── AlreadyExistsError      there is an object of that name
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


class CodeError(DaskTrainingError):
    """A script or a folder of modules can't be sent along with a job; the message names the files."""


class PackagesError(DaskTrainingError):
    """`spec.packages` could not be installed; the message ends with pip's own reason."""


class CommandError(DaskTrainingError):
    """`spec.runner.command` can't be started; the message says why."""


class PortTakenError(DaskTrainingError):
    """Something else listens on the port that the dashboard was to have."""


class OptionError(DaskTrainingError, ValueError):
    """A parameter that can't be used; the message begins with its name. Nothing was made."""


class ClusterError(DaskTrainingError):
    """The Dask cluster could not be started, or was lost."""


class ClusterStartError(ClusterError):
    """A session's cluster ended while it started, and was removed; `reason` is its status's, such as ConfigError."""

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


class ClusterStartTimeoutError(ClusterStartError, TimeoutError):
    """A session's cluster was not ready within `startup_timeout`, and was removed; the message says what it lacked."""


class StartupDeadlineError(ClusterError):
    """Fewer than `spec.workers.minReplicas` workers had connected by `spec.startupDeadlineSeconds`."""


class NotAttachableError(ClusterError):
    """A session's cluster that this process has no key for, or that has ended."""


class WorkersLostError(ClusterError):
    """Fewer than `spec.workers.minReplicas` workers for longer than `spec.workers.lossGraceSeconds`."""


class SchedulerLostError(ClusterError):
    """The scheduler ended; what it knew of the running computation is gone."""


class TaskKilledWorkersError(ClusterError):
    """A task was tried several times and each time its worker died; the message names the task."""


class KubernetesError(DaskTrainingError):
    """A Kubernetes cluster refused a request, or did not answer; the message says what to do."""


class NoKubeconfigError(KubernetesError):
    """There is no kubeconfig, no such context in it, or its credentials can't be had."""


class UnreachableError(KubernetesError):
    """The API server did not answer in time, or is overloaded."""


class NotInstalledError(KubernetesError):
    """The cluster does not know training jobs: the operator's chart is not installed."""


class ForbiddenError(KubernetesError):
    """The user may not do that; the message names verb, resource and namespace."""


class NotFoundError(KubernetesError):
    """There is no such object."""


class AlreadyExistsError(KubernetesError):
    """There is an object of that name already."""


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
