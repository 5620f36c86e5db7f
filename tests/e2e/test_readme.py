"""The README's commands on Kubernetes, in order, on the kind cluster: tests/support/readme.py says how."""

from __future__ import annotations

import pytest
from readme import ON_KUBERNETES, README, ROOT, commands, missing, run, section

NAMESPACE = "readme"
COMMANDS = commands(section(README.read_text(), ON_KUBERNETES))

pytestmark = pytest.mark.exclusive  # one of them installs the operator with other values


@pytest.fixture(scope="module")
def variables(cluster, install_again, tmp_path_factory):
    """What points the commands at the test's cluster, with a current namespace of their own."""
    cluster.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found")
    cluster.kubectl("create", "namespace", NAMESPACE)
    kubeconfig = tmp_path_factory.mktemp("kube") / "config"
    kubeconfig.write_text(cluster.kubeconfig.read_text())
    cluster.kubectl("config", "set-context", "--current", "--namespace", NAMESPACE, "--kubeconfig", str(kubeconfig))
    yield {"KUBECONFIG": str(kubeconfig)}
    cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")
    install_again()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the commands leave files; with the parts of the project that they name."""
    folder = tmp_path_factory.mktemp("readme")
    for name in ("charts", "examples"):
        (folder / name).symlink_to(ROOT / name)
    return folder


@pytest.mark.parametrize("command", COMMANDS, ids=lambda each: each.line)
def test_a_command_does_on_a_cluster_what_the_readme_shows(variables, folder, command, reported):
    reported(NAMESPACE)
    # `make` is what the cluster's fixture has run already, in the project's own folder.
    where = ROOT if command.line.startswith("make ") else folder
    code, printed = run(command.line, where, {} if where == ROOT else variables, timeout=290)
    assert code == 0, printed
    lacks = missing(command.output, printed)
    assert lacks is None, f"not printed: {lacks}\n--- printed:\n{printed}"
