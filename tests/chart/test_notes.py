"""What a release says once it is installed: the next commands, what stays, what is risky."""

from __future__ import annotations

import re
import shlex

import click
import pytest

from dask_training.cli.app import cli

WARNINGS = {
    "store.enabled is off": {"store": {"enabled": False}},
    "store.persistence.enabled is off": {"store": {"persistence": {"enabled": False}}},
    "networkPolicy.enabled is off": {"networkPolicy": {"enabled": False}},
    "jobs.networkPolicy is off": {"jobs": {"networkPolicy": False}},
    "operator.replicas is 0": {"operator": {"replicas": 0}},
    "operator.resources has no memory limit": {"operator": {"resources": {"limits": None}}},
    "jobs.image.tag is latest": {"jobs": {"image": {"tag": "latest"}}},
    "store.image.tag is latest": {"image": {"tag": "latest"}},
}
NAMESPACES = {"rbac": {"scope": "namespaces", "watchNamespaces": ["team-a", "team-b"]}}


def commands(notes, program):
    return [shlex.split(line)[1:] for line in notes.splitlines() if line.startswith(f"  {program} ")]


def parsed(arguments):
    """The command of the CLI that these arguments are for; raises what click says if there is none."""
    command: click.Command = cli
    context = click.Context(cli, info_name="dask-training")
    while isinstance(command, click.Group):
        _, found, arguments = command.resolve_command(context, arguments)
        assert found is not None
        command = found
    command.make_context(command.name, list(arguments), parent=context)
    return command.name


@pytest.fixture
def in_a_folder_with_files(tmp_path, monkeypatch):
    """The notes' own file names: options and arguments that want a file are checked, too."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text("print()\n")
    (tmp_path / "job.yaml").write_text("")


@pytest.mark.parametrize("values", [{}, NAMESPACES], ids=["cluster", "namespaces"])
@pytest.mark.usefixtures("in_a_folder_with_files")
def test_the_operator_s_next_commands_are_those_of_the_cli(render_notes, values):
    notes = render_notes(values=values)
    assert [parsed(arguments) for arguments in commands(notes, "dask-training")] == ["init", "submit"]
    assert commands(notes, "kubectl")[0] == [
        "-n", "some-namespace", "rollout", "status", "deployment/dask-training-operator",
    ]  # fmt: skip


@pytest.mark.usefixtures("in_a_folder_with_files")
def test_a_job_s_next_commands_are_those_of_the_cli(render_notes):
    notes = render_notes("dask-training-job", {"runner": {"script": "print()"}}, release="my-job")
    given = commands(notes, "dask-training")
    assert [parsed(arguments) for arguments in given] == ["logs", "get"]
    assert all("my-job" in arguments and arguments[-2:] == ["-n", "some-namespace"] for arguments in given)
    assert len(commands(notes, "kubectl")) == 1
    assert "WARNING" not in notes


def test_a_job_without_code_is_warned_about(render_notes):
    assert "--set-file runner.script=train.py" in render_notes("dask-training-job").partition("WARNING")[2]
    assert "WARNING" not in render_notes("dask-training-job", {"mode": "Session"})


def test_defaults_are_not_warned_about(render_notes):
    assert "WARNING" not in render_notes()
    assert "WARNING" not in render_notes(values=NAMESPACES)


@pytest.mark.parametrize("warning", WARNINGS)
def test_risky_values_are_warned_about(render_notes, warning):
    warnings = render_notes(values=WARNINGS[warning]).partition("WARNING\n")[2]
    assert f"  - {warning}" in warnings


@pytest.mark.parametrize(
    ("values", "kept"),
    [
        ({}, "keeps the CRD (and with it all jobs) and the artifacts: the PersistentVolumeClaim dask-training-store"),
        ({"crds": {"install": False}}, "keeps the artifacts: the PersistentVolumeClaim dask-training-store"),
        ({"store": {"enabled": False}}, "keeps the CRD (and with it all jobs)."),
        ({"store": {"persistence": {"enabled": False}}}, "keeps the CRD (and with it all jobs)."),
        ({"store": {"enabled": False}, "crds": {"install": False}}, "keeps nothing."),
    ],
)
def test_what_uninstall_keeps_is_said(render_notes, values, kept):
    assert f"`helm uninstall` {kept}" in render_notes(values=values)


@pytest.mark.parametrize(("values", "kind"), [({}, "clusterrole"), (NAMESPACES, "role")])
def test_how_to_let_others_work_with_jobs_is_said(render_notes, render_chart, values, kind):
    [name] = re.findall(rf"--{kind}=(\S+) ", render_notes(values=values))
    assert name in {each["metadata"]["name"] for each in render_chart(values=values) if each["kind"].lower() == kind}
    assert "create rolebinding" not in render_notes(values={"userRole": {"create": False}})
