"""`dask-training init`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from dask_training.api import Env, ExitCode
from dask_training.cli import hints
from dask_training.cli.completion import SCRIPT

if TYPE_CHECKING:
    from dask_training.cli.imports import Needs
    from dask_training.cli.scaffold import Job

STANDARD_OUTPUT = "-"


class ScriptUnusableError(click.ClickException):
    """The script can't become a job; the message says why."""

    exit_code = ExitCode.BAD_JOB_FILE


@click.command(
    epilog=f"Exit codes: 0 written, 2 wrong usage or no such script, {ExitCode.BAD_JOB_FILE} it can't become a job."
)
@click.argument("script", type=SCRIPT)
@click.option(
    "-o", "--output", default="job.yaml", show_default=True, metavar="FILE", help="The job file; - to print it."
)
@click.option("--name", metavar="JOB", help="The job's name; by default the script's.")
@click.option(
    "--workers", type=click.IntRange(1, 1024), default=2, show_default=True, metavar="N", help="How many workers."
)
@click.option("--memory", default="2Gi", show_default=True, metavar="QUANTITY", help="Memory of each worker.")
@click.option(
    "--package",
    "packages",
    multiple=True,
    metavar="REQUIREMENT",
    help="For pip, such as lightgbm==4.6.0; may be repeated.",
)
@click.option("--force", is_flag=True, help="Overwrite the job file.")
def init(
    script: str, *, output: str, name: str | None, workers: int, memory: str, packages: tuple[str, ...], force: bool
) -> None:
    """Write a job file for a Python script.

    The script goes into the file as it is, with the modules beside it that it imports. Packages that it imports and the
    runtime image lacks are proposed in the versions that are installed here.

    \b
      dask-training init train.py
      dask-training init train.py --workers 4 --package lightgbm==4.6.0
    """
    from dask_training.cli import scaffold  # noqa: PLC0415 - takes a while; --help need not wait
    from dask_training.cli.imports import needs_of, not_given  # noqa: PLC0415 - as above

    path = Path(script)
    text = read_script(path)
    target = Path(output)
    if output != STANDARD_OUTPUT and target.exists() and not force:
        raise click.UsageError(f"{target} exists; choose another name with -o, or --force to overwrite it")
    needs = needs_of(text, path.parent, name=path.name)
    job = scaffold.Job(
        name=name or scaffold.job_name(path.stem),
        file=output,
        script_name=path.name,
        script=text,
        workers=workers,
        memory=memory,
        packages=packages,
        proposals=not_given(needs.proposals, packages),
        modules=needs.modules,
        folders=needs.folders,
    )
    written = _checked(job)
    if output == STANDARD_OUTPUT:
        click.echo(written, nl=False)
        return
    try:
        target.write_text(written, encoding="utf-8", newline="")
    except OSError as error:
        raise click.UsageError(f"can't write {target}: {error.strerror}") from error
    _say(job, needs, target)


def read_script(path: Path) -> str:
    """The script's text; raises UsageError if it can't be read, ScriptUnusableError if it is no Python."""
    from dask_training.model.scripts import check_script  # noqa: PLC0415 - as above

    if path.suffix == ".ipynb":
        raise click.UsageError(hints.notebook_given(path))
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise click.UsageError(hints.no_such_file(path)) from None
    except (OSError, ValueError) as error:
        raise click.UsageError(f"can't read {path}: {getattr(error, 'strerror', None) or error}") from error
    try:
        # The byte order mark says nothing in UTF-8, and Python's parser does not take it in a text.
        text = data.removeprefix(b"\xef\xbb\xbf").decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ScriptUnusableError(
            f"{path}:{line}: is not UTF-8 (byte 0x{data[error.start]:02x}); convert it: iconv -f latin1 -t utf-8 {path}"
        ) from None
    problem = check_script(text)
    if problem is not None:
        raise ScriptUnusableError(f"{path}:{problem.line}: {problem.message}")
    return text


def _checked(job: Job) -> str:
    """The job file's text, which holds the very script; raises ScriptUnusableError if that can't be."""
    from dask_training.cli import scaffold  # noqa: PLC0415 - as above
    from dask_training.model import JobFileError, load_job_file  # noqa: PLC0415 - as above

    for what, texts in (("script", [job.script]), ("modules that it imports", job.modules.values())):
        size = scaffold.config_map_bytes(texts)
        if size > scaffold.CONFIG_MAP_BYTES:
            raise ScriptUnusableError(
                f"the {what}: {size:,} bytes, and a ConfigMap holds at most {scaffold.CONFIG_MAP_BYTES:,}; "
                "make a package of it, or build it into an image"
            )
    written = scaffold.job_file(job)
    try:
        job_file = load_job_file(written, source=job.file)
    except JobFileError as error:
        # A name, a quantity or a requirement that the user gave; the lines are those of a file that isn't there.
        problems = "\n".join(f"{problem.path}: {problem.message}" for problem in error.problems)
        raise ScriptUnusableError(problems) from error
    runner = job_file.jobs[0].spec.runner
    if runner is None:
        raise ScriptUnusableError("the job file has no runner")
    source = runner.script_from
    held = job_file.config_maps[source.config_map.name][source.config_map.key] if source else runner.script
    if held != job.script or any(
        job_file.config_maps[f"{job.name}-code"][name] != text for name, text in job.modules.items()
    ):
        raise ScriptUnusableError(f"{job.script_name}: YAML can't hold this text unchanged")
    return written


def _say(job: Job, needs: Needs, target: Path) -> None:
    lines = [f"Wrote {target}: job {job.name}, {job.workers} workers with {job.memory} each"]
    certain = [*job.packages, *(proposal.requirement for proposal in job.proposals if proposal.requirement)]
    if certain:
        lines.append(f"  packages: {', '.join(certain)}")
    lines += [
        f"  line {proposal.line} imports {proposal.module}, which is not installed here: see packages in {target}"
        for proposal in job.proposals
        if not proposal.requirement
    ]
    if job.modules:
        lines.append(f"  with the modules beside it: {', '.join(job.modules)}")
    lines += [f"  it imports {folder}: give its folder to run with --code" for folder in needs.folders]
    if Env.ARTIFACTS_DIR not in job.script and not any(Env.ARTIFACTS_DIR in text for text in job.modules.values()):
        kept = f'only what it writes to os.environ["{Env.ARTIFACTS_DIR}"] is kept'
        lines.append(f"  nothing in it mentions {Env.ARTIFACTS_DIR}: {kept}")
    lines.append(f"Next: dask-training run {target}")
    click.echo("\n".join(lines), err=True)
