"""Shell completion: what can be completed, and the command that prints the script for a shell."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

PROGRAM = "dask-training"
COMPLETE_VARIABLE = "_DASK_TRAINING_COMPLETE"
SHELLS = ("bash", "zsh", "fish")
# A completion of this type is a path: the shell quotes it, and goes on after a folder.
PATH = "path"
_ANSWER_SECONDS = 1.5  # a cluster that takes longer is not worth waiting for at a prompt

_INSTALL = {
    "bash": """\
# Try it in this shell:      eval "$(dask-training completion bash)"
# Keep it (bash-completion): dask-training completion bash > ~/.local/share/bash-completion/completions/dask-training
# or without it:             echo 'eval "$(dask-training completion bash)"' >> ~/.bashrc
""",
    "zsh": """\
# Try it in this shell: eval "$(dask-training completion zsh)"   (after: autoload -Uz compinit && compinit)
# Keep it:              dask-training completion zsh > "${fpath[1]}/_dask-training"
""",
    "fish": """\
# Try it in this shell: dask-training completion fish | source
# Keep it:              dask-training completion fish > ~/.config/fish/completions/dask-training.fish
""",
}


class PathType(click.ParamType[str]):
    """A path: completed with folders and the files with one of *suffixes*; *name* is what usage errors call it."""

    def __init__(self, name: str, suffixes: tuple[str, ...]) -> None:
        self.name = name
        self._suffixes = suffixes

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's signature
        param: click.Parameter,  # noqa: ARG002 - as above
        incomplete: str,
    ) -> list[CompletionItem]:
        """The folders and files that start with *incomplete*."""
        return paths(incomplete, self._suffixes)


class RunType(click.ParamType[str]):
    """A run: `name`, `name/run`, a folder or a URL; completed with what is below ./artifacts, else with folders."""

    name = "run"

    def shell_complete(
        self,
        ctx: click.Context,
        param: click.Parameter,
        incomplete: str,
    ) -> list[CompletionItem]:
        """The runs here, or with --cluster the jobs there, that start with *incomplete*; folders if there are none."""
        from click.shell_completion import CompletionItem  # noqa: PLC0415 - only for completion

        if any(ctx.params.get(option) for option in ("on_cluster", "namespace", "context")):
            return [CompletionItem(name) for name in cluster_job_names(ctx, param, incomplete)]
        found = [name for name in run_names(Path("artifacts")) if name.startswith(incomplete)]
        return [CompletionItem(name) for name in found] or paths(incomplete, suffixes=())


JOB_FILE = PathType("file", (".yaml", ".yml"))
SCRIPT = PathType("script", (".py",))
SUBMITTED = PathType("file", (".yaml", ".yml", ".py"))
RUN = RunType()


def paths(incomplete: str, suffixes: tuple[str, ...]) -> list[CompletionItem]:
    """The folders, and the files with one of *suffixes*, whose path starts with *incomplete*."""
    from click.shell_completion import CompletionItem  # noqa: PLC0415 - only for completion

    head, _, start = incomplete.rpartition("/")
    folder = Path(head or "/") if incomplete.startswith("/") else Path(head).expanduser()
    prefix = incomplete[: len(incomplete) - len(start)]
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return []
    return [
        CompletionItem(f"{prefix}{entry.name}", type=PATH)
        for entry in entries
        if entry.name.startswith(start)
        and entry.name.startswith(".") == start.startswith(".")
        and (entry.is_dir() or entry.suffix in suffixes)
    ]


def run_names(root: Path) -> list[str]:
    """`name` and `name/run` for all runs below *root*, each name's newest run first."""
    names: list[str] = []
    for job in sorted(_folders(root)):
        runs = [run.name for run in _folders(job) if (run / "manifest.json").is_file()]
        if runs:
            names += [job.name, *(f"{job.name}/{run}" for run in sorted(runs, reverse=True))]
    return names


def _folders(root: Path) -> list[Path]:
    try:
        return [entry for entry in root.iterdir() if entry.is_dir()]
    except OSError:
        return []


def register_shells() -> None:
    """Teach click's completion for bash, zsh and fish what a path is."""
    from click import shell_completion as shells  # noqa: PLC0415 - only for completion

    class Bash(shells.BashComplete):
        source_template = shells.BashComplete.source_template.replace(
            "        elif [[ $type == 'plain' ]]; then",
            f"        elif [[ $type == '{PATH}' ]]; then\n"
            '            COMPREPLY+=("$value")\n'
            "            compopt -o filenames\n"
            "        elif [[ $type == 'plain' ]]; then",
        )

        @staticmethod
        def _check_version() -> None:
            """Without starting a shell: one too old says so itself."""

    class Zsh(shells.ZshComplete):
        source_template = shells.ZshComplete.source_template.replace(
            '        elif [[ "$type" == "dir" ]]; then',
            f'        elif [[ "$type" == "{PATH}" ]]; then\n'
            '            if [[ -d "${~key}" ]]; then\n'
            '                compadd -U -S / -q -- "$key"\n'
            "            else\n"
            '                compadd -U -- "$key"\n'
            "            fi\n"
            '        elif [[ "$type" == "dir" ]]; then',
        )

    class Fish(shells.FishComplete):
        source_template = shells.FishComplete.source_template.replace(
            '        else if test $metadata[1] = "plain";',
            f'        else if test $metadata[1] = "{PATH}";\n'
            "            test -d $metadata[2]; and echo $metadata[2]/; or echo $metadata[2];\n"
            '        else if test $metadata[1] = "plain";',
        )

    for shell in (Bash, Zsh, Fish):
        shells.add_completion_class(shell)


@click.command(epilog="Exit codes: 0 the script was printed, 2 the shell is not known.")
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script for a shell.

    It completes commands, options, job files, scripts and the names of runs. The first lines of the script say how to
    install it.

    \b
      eval "$(dask-training completion bash)"
      dask-training completion zsh > "${fpath[1]}/_dask-training"
      dask-training completion fish | source
    """
    from click.shell_completion import get_completion_class  # noqa: PLC0415 - only here

    register_shells()
    shell_class = get_completion_class(shell)
    assert shell_class is not None  # noqa: S101 - each of SHELLS is registered
    script = shell_class(ctx.find_root().command, {}, PROGRAM, COMPLETE_VARIABLE).source()
    if shell == "zsh":
        # `#compdef` has to stay the first line of an autoloaded function.
        first, _, rest = script.partition("\n")
        script = f"{first}\n{_INSTALL[shell]}{rest}"
    else:
        script = f"{_INSTALL[shell]}{script}"
    click.echo(script)


def complete(cli: click.Command) -> int:
    """Answer the shell that asks, in our variable, for *cli*'s completions or its script; the code to exit with."""
    from click.shell_completion import shell_complete  # noqa: PLC0415 - only for completion

    register_shells()
    return shell_complete(cli, {}, PROGRAM, COMPLETE_VARIABLE, os.environ[COMPLETE_VARIABLE])


def cluster_job_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001 - click's
    """The names of the jobs on the cluster that the options name; none if it does not answer at once."""
    from dask_training.client.connection import Connection, jobs_path  # noqa: PLC0415 - only for completion
    from dask_training.errors import DaskTrainingError  # noqa: PLC0415 - as above

    try:
        connection = Connection(ctx.params.get("context"), ctx.params.get("namespace"), connect_seconds=_ANSWER_SECONDS)
        jobs = connection.request(
            "GET", jobs_path(connection.namespace), query={"limit": 500}, read_seconds=_ANSWER_SECONDS
        )["items"]
    except (DaskTrainingError, ImportError, KeyError):
        return []
    given = {*(ctx.params.get("names") or ()), *ctx.args}
    names = [str(job["metadata"]["name"]) for job in jobs]
    return [name for name in names if name.startswith(incomplete) and name not in given]


def job_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001 - click's
    """The names of the jobs in the file that the command line names already."""
    from dask_training.errors import DaskTrainingError  # noqa: PLC0415 - only for completion
    from dask_training.model import load_job_file  # noqa: PLC0415 - as above

    # While an option lacks its value, click has not come to the arguments yet.
    file: Any = ctx.params.get("file") or next(iter(ctx.args), "-")
    if file == "-":
        return []
    try:
        jobs = load_job_file(Path(file).read_text(encoding="utf-8")).jobs
    except (OSError, ValueError, DaskTrainingError):
        return []
    return [job.name for job in jobs if job.name.startswith(incomplete)]
