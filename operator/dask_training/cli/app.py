"""The group of commands: loaded one by one, so that `--help` and completion answer at once."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from dask_training import __version__
from dask_training.api import ExitCode
from dask_training.cli.completion import COMPLETE_VARIABLE, PROGRAM, complete
from dask_training.cli.failures import BROKEN_PIPE, explain, explain_unexpected
from dask_training.errors import DaskTrainingError

# Name, module:attribute, and the line in the group's help: a test holds them against the commands' own.
COMMANDS = {
    "init": ("dask_training.cli.init:init", "Write a job file for a Python script."),
    "validate": ("dask_training.cli.validate:validate", "Check job files, and say everything that is wrong."),
    "convert": ("dask_training.cli.convert:convert", "Turn a DaskJob of dask-kubernetes into a job file."),
    "run": ("dask_training.cli.run:run", "Run a job on this machine."),
    "submit": ("dask_training.cli.submit:submit", "Send a job to a cluster."),
    "list": ("dask_training.cli.listing:list_", "List the jobs on a cluster."),
    "get": ("dask_training.cli.get:get", "Say how a job on a cluster is, and what to do."),
    "logs": ("dask_training.cli.logs:logs", "Show what a job's pods print, or have printed."),
    "wait": ("dask_training.cli.wait:wait", "Wait until a job has ended, or has come so far."),
    "scale": ("dask_training.cli.manage:scale", "Give a job N workers."),
    "suspend": ("dask_training.cli.manage:suspend", "Stop a job until it is resumed."),
    "resume": ("dask_training.cli.manage:resume", "Let a suspended job start again."),
    "delete": ("dask_training.cli.manage:delete", "Delete jobs and all that they have running."),
    "artifacts": ("dask_training.cli.artifacts:artifacts", "List, fetch and verify what runs have kept."),
    "compare": ("dask_training.cli.compare:compare", "Show runs side by side: results, times, data, cost."),
    "completion": ("dask_training.cli.completion:completion", "Print the completion script for a shell."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """The names, in the order in which a user needs them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's
        """The command of that name."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name][0].split(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)  # noqa: S101 - the table is ours
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's
        """The commands' lines, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_line) for name, (_, help_line) in COMMANDS.items()])


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="'dask-training COMMAND --help' has examples and all options.",
)
@click.version_option(__version__, prog_name=PROGRAM, message="%(prog)s %(version)s")
def cli() -> None:
    """Train scikit-learn models on Dask clusters of their own.

    A job file holds a plain scikit-learn script and says how many workers it needs. The same file runs on this machine
    and on Kubernetes.

    \b
      dask-training init train.py -o job.yaml    write a job file for a script
      dask-training run job.yaml                 run it here, on two workers
      dask-training submit job.yaml --follow     run it on a Kubernetes cluster
      dask-training artifacts ls                 see what the runs have kept
    """


def run_command_line(arguments: Sequence[str] | None = None) -> int:
    """Run the command that *arguments* (sys.argv by default) name; the code to exit with."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    verbose = "--verbose" in given[: given.index("--") if "--" in given else None]
    try:
        return _flushed(_invoke(given))
    except BrokenPipeError:
        _silence(sys.stdout)
        _silence(sys.stderr)
        return BROKEN_PIPE
    except DaskTrainingError as error:
        text, code = explain(error)
    except Exception as error:  # noqa: BLE001 - a traceback is no message for a user
        text, code = explain_unexpected(error, verbose=verbose), ExitCode.INTERNAL_ERROR
    click.echo(text, err=True)
    return code


def _invoke(arguments: list[str]) -> int:
    if COMPLETE_VARIABLE in os.environ:
        return complete(cli)
    try:
        # Not cli.main(): that has its own way with closed pipes, and another exit code for them.
        with cli.make_context(PROGRAM, arguments) as context:
            result: Any = cli.invoke(context)
    except click.exceptions.Exit as end:
        return end.exit_code
    except (click.Abort, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    except click.ClickException as error:
        error.show()
        return error.exit_code
    return result if isinstance(result, int) else ExitCode.OK


def _flushed(code: int) -> int:
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def _silence(stream: Any) -> None:
    """Lets the interpreter's last flush of a stream that nobody reads succeed."""
    try:
        stream.flush()
    except OSError:
        with open(os.devnull, "w") as nowhere:  # noqa: PTH123 - by descriptor
            os.dup2(nowhere.fileno(), stream.fileno())
