"""Errors as a user should read them, and the codes to exit with."""

from __future__ import annotations

import signal
import traceback

from dask_training.api import ExitCode
from dask_training.errors import (
    AlreadyExistsError,
    ArtifactError,
    ClusterError,
    CodeError,
    DaskTrainingError,
    ForbiddenError,
    KubernetesError,
    NoKubeconfigError,
    NotFoundError,
    PackagesError,
    PortTakenError,
)

# As a shell reports a command that died of a closed pipe.
BROKEN_PIPE = 128 + signal.SIGPIPE
ISSUES = "the project's issue tracker"


def explain(error: DaskTrainingError) -> tuple[str, int]:
    """What to tell the user of an error that was raised on purpose, and the code to exit with."""
    # Not imported: whoever raised a JobFileError has.
    if type(error).__name__ == "JobFileError":
        return str(error), ExitCode.BAD_JOB_FILE
    codes: tuple[tuple[type[Exception], int], ...] = (
        (ArtifactError, ExitCode.ARTIFACT_STORE),
        (PackagesError, ExitCode.PACKAGES),
        (ClusterError, ExitCode.WORKERS_LOST),
        (PortTakenError, ExitCode.USAGE),
        (CodeError, ExitCode.USAGE),
        (NoKubeconfigError, ExitCode.USAGE),
        (NotFoundError, ExitCode.USAGE),
        (AlreadyExistsError, ExitCode.USAGE),
        (ForbiddenError, ExitCode.FORBIDDEN),
        (TimeoutError, ExitCode.DEADLINE),
        (KubernetesError, ExitCode.UNREACHABLE),
    )
    code = next((code for kind, code in codes if isinstance(error, kind)), ExitCode.INTERNAL_ERROR)
    return f"Error: {error}", code


def explain_unexpected(error: BaseException, *, verbose: bool) -> str:
    """What to tell the user of a fault of ours: one line, and where to report it; the traceback if *verbose*."""
    message = str(error).strip().split("\n", 1)[0]
    text = f"Error: this is a fault in dask-training: {type(error).__name__}{': ' + message if message else ''}\n"
    if verbose:
        return f"{text}Please report it to {ISSUES}, with this:\n{''.join(traceback.format_exception(error))}"
    return f"{text}Please report it to {ISSUES}, with what --verbose adds to this message."
