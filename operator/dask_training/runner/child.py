"""Runs the user's code: `python -m dask_training.runner.child CONFIG.json`, started by the supervisor.

The code runs as `__main__`, as `python script.py` would, with a default Dask client and joblib's Dask backend on. A
`command` runs as a process of its own, with the same environment.
"""

from __future__ import annotations

import contextlib
import os
import runpy
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, NoReturn

import msgspec

from dask_training.api import Env
from dask_training.errors import StartupDeadlineError
from dask_training.runner import lifeline, preimport, script_api
from dask_training.runner.address import scheduler_address
from dask_training.runner.channel import Channel, Exited, Raised, Started
from dask_training.runner.events import Progress, WorkersChanged

if TYPE_CHECKING:
    from distributed import Client

_QUORUM_POLL_SECONDS = 0.025


class ChildConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What the child is to run and on what: one of `script` (a path), `module` and `command`."""

    script: str | None = None
    module: str | None = None
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    joblib_backend: str = "dask"
    scatter: str = "auto"
    min_workers: int = 1
    workers: int = 1
    threads_per_worker: int = 1
    address_file: str | None = None
    startup_timeout: float
    loss_grace: float


def main() -> None:
    """Waits for the cluster, runs the user's code and exits as it does."""
    config = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=ChildConfig)
    lifeline.watch()
    channel = Channel()
    signal.signal(signal.SIGTERM, _raise_exit)
    script_api.attach(channel)
    importing = preimport.start()
    client = _connect(config)
    _await_quorum(client, config, channel)
    importing.join()
    channel.send(Started())
    code = _run(config, client, channel)
    sys.stdout.flush()
    sys.stderr.flush()
    with contextlib.suppress(Exception):
        client.close(timeout=1)
    sys.exit(code)


def _raise_exit(number: int, _frame: FrameType | None) -> NoReturn:
    """SIGTERM ends the user's code as an exception does, so that its own `finally` blocks run."""
    raise SystemExit(128 + number)


def _connect(config: ChildConfig) -> Client:
    from distributed import Client  # noqa: PLC0415 - imported while the scheduler starts

    address_file = Path(config.address_file) if config.address_file else None
    address = scheduler_address(address_file, timeout=config.startup_timeout)
    os.environ[Env.SCHEDULER_ADDRESS] = address
    return Client(address, timeout=config.startup_timeout, set_as_default=True)


def _await_quorum(client: Client, config: ChildConfig, channel: Channel) -> None:
    """Waits for `min_workers`: joblib decides by the workers that are there when a call starts."""
    deadline = time.monotonic() + config.startup_timeout
    ready = -1
    while True:
        now_ready = len(client.ncores())
        if now_ready != ready:
            ready = now_ready
            channel.send(WorkersChanged(desired=config.workers, ready=ready))
        if ready >= config.min_workers:
            return
        if time.monotonic() > deadline:
            raise StartupDeadlineError(f"{ready} of {config.min_workers} workers after {config.startup_timeout:.0f} s")
        time.sleep(_QUORUM_POLL_SECONDS)


def _run(config: ChildConfig, client: Client, channel: Channel) -> int:
    try:
        with _joblib_on(config, client, channel):
            if config.command:
                return _run_command(config.command + config.args)
            _run_python(config)
    except SystemExit as ended:
        return _exit_code(ended, channel)
    except BaseException as error:  # noqa: BLE001 - whatever the user's code raises is reported
        _report_exception(error, config, channel)
        return 1
    return 0


@contextlib.contextmanager
def _joblib_on(config: ChildConfig, client: Client, channel: Channel) -> Iterator[None]:
    if config.joblib_backend == "none":
        yield
        return
    import joblib  # noqa: PLC0415 - as above

    from dask_training import joblib_backend  # noqa: PLC0415

    def on_progress(done: int, total: int | None, call: int, name: str) -> None:
        channel.send(Progress(done=done, total=total, call=call, name=name))

    joblib_backend.register(
        client=client,
        min_workers=config.min_workers,
        threads_per_worker=config.threads_per_worker,
        wait_for_workers_timeout=config.loss_grace,
        scatter=config.scatter,
        on_progress=on_progress,
    )
    with joblib.parallel_config(backend=config.joblib_backend):
        yield


def _run_python(config: ChildConfig) -> None:
    if config.script:
        sys.argv = [config.script, *config.args]
        sys.path.insert(0, str(Path(config.script).parent))
        runpy.run_path(config.script, run_name="__main__")
    else:
        assert config.module is not None  # noqa: S101 - one of the three is set
        sys.argv = [config.module, *config.args]
        sys.path.insert(0, str(Path.cwd()))
        runpy.run_module(config.module, run_name="__main__", alter_sys=True)


def _run_command(command: tuple[str, ...]) -> int:
    """Runs a process in our place: signals go to it, and its code is ours."""
    process = subprocess.Popen(list(command))
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
    trace = _without_our_frames(error.__traceback__, config)
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


def _without_our_frames(trace: TracebackType | None, config: ChildConfig) -> TracebackType | None:
    """The traceback from the user's first line on, as `python script.py` prints it."""
    inner = trace
    while inner is not None:
        file = inner.tb_frame.f_code.co_filename
        if file == config.script or (config.module and file not in (__file__, runpy.__file__) and "runpy" not in file):
            return inner
        inner = inner.tb_next
    return trace


if __name__ == "__main__":
    main()
