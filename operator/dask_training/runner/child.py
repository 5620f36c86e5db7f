"""Runs the user's code: `python -m dask_training.runner.child CONFIG.json`, started by the supervisor.

The code runs as `__main__`, as `python script.py` would, with a default Dask client and joblib's Dask backend on. A
`command` runs as a process of its own, with the same environment.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

import msgspec

from dask_training import dask_ml_compat
from dask_training.api import Env
from dask_training.errors import CommandError, StartupDeadlineError
from dask_training.runner import lifeline, preimport, script_api, versions
from dask_training.runner.address import scheduler_address
from dask_training.runner.channel import Channel, Ended, Exited, Raised, Started
from dask_training.runner.events import WorkersChanged
from dask_training.runner.execution import run_python, users_part
from dask_training.runner.guest import GuestConfig, adapted, connect, leave
from dask_training.runner.joblib_setup import JoblibConfig, pickle_by_value, turn_on

if TYPE_CHECKING:
    from distributed import Client

_QUORUM_POLL_SECONDS = 0.025
_NOT_FOUND = 127  # a shell's code for a command that is not there


class ChildConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What the child is to run and on what: one of `script` (a path), `module` and `command`."""

    script: str | None = None
    module: str | None = None
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    joblib: JoblibConfig
    guest: GuestConfig | None = None
    workers: int = 1
    packages: tuple[str, ...] = ()
    address_file: str | None = None
    startup_timeout: float


def main() -> None:
    """Waits for the cluster, runs the user's code and exits as it does."""
    config = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=ChildConfig)
    lifeline.watch()
    channel = Channel()
    signal.signal(signal.SIGTERM, _raise_exit)
    script_api.attach(channel)
    dask_ml_compat.install()
    importing = preimport.start()
    client = _connect(config)
    own = versions.own_versions(versions.compared_with(config.packages))
    _await_quorum(client, config, channel)
    if config.guest is not None:
        config = msgspec.structs.replace(config, joblib=adapted(config.joblib, config.guest, client, channel))
    importing.join()
    channel.send(Started(versions=own))
    code = _run(config, client, channel)
    channel.send(Ended())
    sys.stdout.flush()
    sys.stderr.flush()
    with contextlib.suppress(Exception):
        if config.guest is not None:
            leave(client)
        client.close(timeout=1)
    sys.exit(code)


def _raise_exit(number: int, _frame: FrameType | None) -> NoReturn:
    """SIGTERM ends the user's code as an exception does, so that its own `finally` blocks run."""
    raise SystemExit(128 + number)


def _connect(config: ChildConfig) -> Client:
    from distributed import Client  # noqa: PLC0415 - imported while the scheduler starts

    open_client = Client if config.guest is None else connect
    address_file = Path(config.address_file) if config.address_file else None
    address = scheduler_address(address_file, timeout=config.startup_timeout)
    os.environ[Env.SCHEDULER_ADDRESS] = address
    return open_client(address, timeout=config.startup_timeout, set_as_default=True)


def _await_quorum(client: Client, config: ChildConfig, channel: Channel) -> None:
    """Waits for `min_workers`: joblib decides by the workers that are there when a call starts."""
    deadline = time.monotonic() + config.startup_timeout
    wanted = config.joblib.min_workers
    ready = -1
    while True:
        now_ready = len(client.ncores())
        if now_ready != ready:
            ready = now_ready
            channel.send(WorkersChanged(desired=config.workers, ready=ready))
        if ready >= wanted:
            return
        if time.monotonic() > deadline:
            raise StartupDeadlineError(f"{ready} of {wanted} workers after {config.startup_timeout:.0f} s")
        time.sleep(_QUORUM_POLL_SECONDS)


def _run(config: ChildConfig, client: Client, channel: Channel) -> int:
    try:
        if config.command:
            return _run_command(config, channel)
        pickle_by_value(config.joblib.by_value)
        if config.joblib.backend != "none":
            keep = turn_on(config.joblib, client, channel)  # noqa: F841 - undoes itself when it is collected
        run_python(config.script, config.module, config.args)
    except SystemExit as ended:
        return _exit_code(ended, channel)
    except CommandError as error:
        print(error, file=sys.stderr)  # noqa: T201 - there is no line of the user's to show a traceback of
        channel.send(Raised(exception=type(error).__name__, message=str(error)))
        return _NOT_FOUND
    except BaseException as error:  # noqa: BLE001 - whatever the user's code raises is reported
        _report_exception(error, config, channel)
        return 1
    return 0


def _run_command(config: ChildConfig, channel: Channel) -> int:
    """Runs a process in our place: signals go to it, and its code is ours."""
    environment = dict(os.environ)
    autostart = str(Path(__file__).with_name("autostart"))
    environment["PYTHONPATH"] = os.pathsep.join([autostart, os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    if config.joblib.backend != "none":
        joblib_file = Path(sys.argv[1]).with_name("joblib.json")
        joblib_file.write_bytes(msgspec.json.encode(config.joblib))
        environment[Env.RUNNER_CONFIG] = str(joblib_file)
    try:
        command = [*config.command, *config.args]
        process = subprocess.Popen(command, env=channel.shared_with(environment), close_fds=False)
    except OSError as error:
        raise CommandError(f"spec.runner.command: can't start {config.command[0]}: {error.strerror}") from error
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    code = process.wait()
    return code if code >= 0 else 128 - code


def _exit_code(ended: SystemExit, channel: Channel) -> int:
    code = ended.code
    if code is None:
        code = 0
    elif not isinstance(code, int):
        print(code, file=sys.stderr)  # noqa: T201 - as Python itself does with sys.exit("message")
        code = 1
    channel.send(Exited(code=code & 0xFF))
    return code & 0xFF


def _report_exception(error: BaseException, config: ChildConfig, channel: Channel) -> None:
    trace = users_part(error.__traceback__, config.script, config.module)
    traceback.print_exception(type(error), error, trace)
    place = next((frame for frame in reversed(traceback.extract_tb(trace)) if frame.filename == config.script), None)
    channel.send(
        Raised(
            exception=type(error).__name__,
            message=str(error),
            file=place.filename if place else "",
            line=(place.lineno or 0) if place else 0,
            bases=tuple(base.__name__ for base in type(error).__mro__),
        )
    )


if __name__ == "__main__":
    main()
