"""What the tests on a kind cluster share: the cluster, the operator, a namespace for each test, a report of failures.

The cluster is that of `make kind`. One that is there is used and stays; one that is made here is removed again.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import sharing
import streams
import yaml
from machine import wait_until
from programs import run_captured, search_path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SCRIPTS = ROOT / "images" / "kind-node"
KUBECONFIG = ROOT / ".cache" / "kubeconfig"
RELEASE, SYSTEM = "dask-training-operator", "dask-training-system"
IMAGES = {name: f"dask-training-{name}:dev" for name in ("operator", "runtime", "store")}
CANNOT = 3  # docker.sh's exit code: Docker can't be had here
# The first test waits for the cluster: node image, images and all, if nothing is cached.
FIRST_TIMEOUT, TIMEOUT = 3600, 300
LOCKS = KUBECONFIG.parent
SESSION = os.environ.get("PYTEST_XDIST_TESTRUNUID") or str(os.getpid())
TURN = pytest.StashKey[contextlib.ExitStack]()
STARTED = pytest.StashKey[float]()
NAMESPACES = pytest.StashKey[list[str]]()  # what a report of the test's failure is to show


def pytest_configure(config):
    config.addinivalue_line("markers", "e2e: needs a kind cluster, and so Docker")
    config.addinivalue_line("markers", "exclusive: what it does to the cluster, or needs of it, others would notice")


@pytest.hookimpl(trylast=True)  # what -k and -m leave
def pytest_collection_modifyitems(config, items):
    """Gives the tests on the cluster their time, and leaves them out where Docker can't be had."""
    ours = [item for item in items if HERE in item.path.parents]
    for item in ours:
        item.add_marker(pytest.mark.e2e)
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(TIMEOUT))
    if not ours or config.option.collectonly:
        return
    done = _start_docker()
    if done.returncode == CANNOT:
        reason = done.stderr.strip().splitlines()[-1]
        streams.skip(config, f"{len(ours)} tests on a kind cluster are skipped. {reason}")
        config.hook.pytest_deselected(items=ours)
        items[:] = [item for item in items if item not in ours]
        return
    assert done.returncode == 0, done.stderr
    for first in {item.path: item for item in reversed(ours)}.values():  # of each file, as any may be a stream's first
        first.add_marker(pytest.mark.timeout(FIRST_TIMEOUT), append=False)


def _start_docker() -> subprocess.CompletedProcess[str]:
    """Several streams of tests ask for it at the same time."""
    LOCKS.mkdir(exist_ok=True)
    with sharing.turn(LOCKS / "docker.lock", alone=True):
        return script("docker.sh", "start", check=False)


@pytest.hookimpl(wrapper=True, tryfirst=True)  # the test's time does not run while it waits
def pytest_runtest_protocol(item, nextitem):
    """Lets no other stream's test run together with one that is exclusive, nor between several of them."""
    stash = item.session.stash
    if item.get_closest_marker("e2e") and TURN not in stash:
        stash[TURN] = contextlib.ExitStack()
        alone = item.get_closest_marker("exclusive") is not None
        stash[TURN].enter_context(sharing.turn(LOCKS / "turn.lock", alone=alone))
    try:
        return (yield)
    finally:
        goes_on = all(each and each.get_closest_marker("exclusive") for each in (item, nextitem))
        if TURN in stash and not goes_on:
            stash[TURN].close()
            del stash[TURN]


def environment() -> dict[str, str]:
    """As from a user's shell, with our tools first and our cluster alone: nothing of an outer make."""
    ours = {"MAKEFLAGS", "MAKELEVEL", "MFLAGS"}
    return {name: value for name, value in os.environ.items() if name not in ours} | {"PATH": search_path()}


def script(name: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    command = [str(SCRIPTS / name), *arguments]
    return subprocess.run(
        command, env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=check
    )


class CommandError(AssertionError):
    """What a command said that failed."""


@dataclass(frozen=True)
class Cluster:
    """The kind cluster: kubectl, helm and docker against it and nothing else."""

    kubeconfig: Path = KUBECONFIG
    node: str = "dask-training-control-plane"
    images: dict[str, str] = field(default_factory=lambda: dict(IMAGES))

    def run(self, *command: str, stdin: str | None = None, check: bool = True, timeout: float = 120) -> str:
        """Standard output of a command; CommandError if it fails. With check=False standard error, too."""
        env = environment() | {"KUBECONFIG": str(self.kubeconfig)}
        done = run_captured(command, input=stdin, env=env, timeout=timeout)
        if check and done.returncode:
            raise CommandError(
                f"{' '.join(command)}: exit code {done.returncode}\n{(done.stdout + done.stderr)[-5000:]}"
            )
        return done.stdout if check else done.stdout + done.stderr

    def kubectl(self, *arguments: str, **options) -> str:
        return self.run("kubectl", *arguments, **options)

    def helm(self, *arguments: str, **options) -> str:
        return self.run("helm", *arguments, **options)

    def docker(self, *arguments: str, **options) -> str:
        return self.run("docker", *arguments, **options)

    def get(self, kind: str, name: str = "", namespace: str = "default", **options) -> dict:
        """One object, or a list of them."""
        return json.loads(
            self.kubectl("get", kind, *([name] if name else []), "-n", namespace, "-o", "json", **options)
        )

    def apply(self, *bodies: dict | str, namespace: str = "default") -> str:
        """Applies objects or YAML; gives what kubectl said, warnings too."""
        text = "\n---\n".join(body if isinstance(body, str) else yaml.safe_dump(body) for body in bodies)
        return self.kubectl("apply", "-n", namespace, "-f", "-", stdin=text, check=True)


@pytest.fixture(scope="session")
def tell(pytestconfig) -> Callable[[str], None]:
    """Says something at once, in spite of pytest's capture."""
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")

    def tell(line: str) -> None:
        with capture.global_and_fixture_disabled():
            print(f"\n{line}", flush=True)

    return tell


@pytest.fixture(scope="session")
def kind_cluster(tell, pytestconfig) -> Iterator[Cluster]:
    """The cluster with the images of this checkout on its node, without the operator."""

    def is_there() -> bool:
        found = script("cluster.sh", "exists", check=False).returncode == 0
        tell("Using the kind cluster that is there." if found else "Making a kind cluster for the tests:")
        return found

    def make() -> None:
        # Straight to the terminal: the first time this takes many minutes.
        with pytestconfig.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
            command = ["make", "--no-print-directory", "kind", "images", "load"]
            done = subprocess.run(command, cwd=ROOT, env=environment(), stdin=subprocess.DEVNULL, check=False)
        assert done.returncode == 0, f"{' '.join(command)}: exit code {done.returncode}; its output is above"
        script("tools.sh", "helm")

    # Two runs of the tests on one cluster would take the operator and the CRD from each other.
    cluster = sharing.shared(
        LOCKS / "cluster.lock",
        SESSION,
        is_there=is_there,
        make=make,
        remove=lambda: script("cluster.sh", "delete"),
        wait=lambda: tell("Waiting for another run of the tests on this cluster to end ..."),
    )
    with cluster, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", environment()["PATH"])
        yield Cluster()


@pytest.fixture(scope="session")
def cluster(kind_cluster) -> Iterator[Cluster]:
    """The cluster with the operator of this checkout, installed by Helm as users do."""

    def remove() -> None:
        kind_cluster.kubectl("delete", "crd", "dasktrainingjobs.dask-training.io", "--ignore-not-found", check=False)
        kind_cluster.helm("uninstall", RELEASE, "-n", SYSTEM, "--wait", check=False)
        kind_cluster.kubectl("delete", "namespace", SYSTEM, "--ignore-not-found", check=False)

    operator = sharing.shared(
        LOCKS / "operator.lock",
        SESSION,
        is_there=lambda: RELEASE in kind_cluster.helm("list", "-n", SYSTEM, "-q").split(),
        make=lambda: install(kind_cluster),
        remove=remove,
    )
    with operator:
        yield kind_cluster


def install(kind_cluster: Cluster) -> None:
    """Installs the operator of this checkout, or puts the installation back as the tests have it."""
    # Same tag, other content: the annotations make Kubernetes start what has changed anew.
    ids = {
        name: kind_cluster.docker("image", "inspect", "-f", "{{.Id}}", IMAGES[name]).strip()[7:19] for name in IMAGES
    }
    values = {
        "image.tag": "dev",
        "operator.podAnnotations.image": ids["operator"],
        "store.podAnnotations.image": ids["store"],
    }
    options = [each for name, value in values.items() for each in ("--set-string", f"{name}={value}")]
    options += ["--set", "jobs.scaleDownSeconds=10"]  # a third of what users have, and wait for
    where = ("--namespace", SYSTEM, "--create-namespace", "--wait", "--timeout", "180s")
    try:
        chart = str(ROOT / "charts" / "dask-training-operator")
        kind_cluster.helm("upgrade", "--install", RELEASE, chart, *where, *options, timeout=240)
    except CommandError as error:
        raise CommandError(f"{error}\n{state(kind_cluster, SYSTEM)}") from None


@pytest.fixture(scope="session")
def install_again(cluster) -> Callable[[], None]:
    """Puts the operator's installation back as the tests have it, after one that has changed it."""
    return lambda: install(cluster)


@pytest.fixture
def namespace(kind_cluster, request, reported) -> Iterator[str]:
    """A namespace of the test's own, which admits restricted pods alone; deleted after the test."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    reported(name)
    body = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": name,
            "labels": {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")},
            "annotations": {"description": request.node.nodeid},
        },
    }
    kind_cluster.apply(body)
    accounts = ("get", "serviceaccounts", "-n", name, "-o", "name")
    wait_until(lambda: "default" in kind_cluster.kubectl(*accounts), timeout=30, every=0.2)
    yield name
    kind_cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def kubectl(kind_cluster, namespace) -> Callable[..., str]:
    """kubectl in the test's namespace; gives its standard output, raises CommandError."""

    def kubectl(*arguments: str, **options) -> str:
        return kind_cluster.kubectl("-n", namespace, *arguments, **options)

    return kubectl


@pytest.fixture
def apply(kind_cluster, namespace) -> Callable[..., str]:
    """Applies objects, as dicts or YAML, in the test's namespace."""

    def apply(*bodies: dict | str) -> str:
        return kind_cluster.apply(*bodies, namespace=namespace)

    return apply


@pytest.fixture
def wait_for() -> Callable[..., object]:
    """`wait_until`, with less haste: most predicates ask kubectl."""
    return functools.partial(wait_until, every=0.2)


@pytest.fixture
def job_status(kind_cluster, namespace) -> Callable[[str], dict]:
    """The status of a job by its name; empty before the operator has seen it."""

    def status(name: str) -> dict:
        return kind_cluster.get("dtj", name, namespace).get("status", {})

    return status


# The report.


@pytest.fixture
def reported(request) -> Callable[[str], None]:
    """Called with a namespace: if the test fails, this and what the operator has said since are shown."""

    def reported(namespace: str) -> None:
        request.node.stash.setdefault(STARTED, time.time())
        request.node.stash.setdefault(NAMESPACES, []).append(namespace)

    return reported


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Adds to a failed test what the cluster looked like."""
    report = yield
    if report.failed and HERE in item.path.parents and (found := item.funcargs.get("kind_cluster")):
        for namespace in item.stash.get(NAMESPACES, []):
            report.sections.append((f"namespace {namespace}", state(found, namespace)))
        report.sections.append(("operator", operator_log(found, item.stash.get(STARTED, call.start))))
    return report


def state(cluster: Cluster, namespace: str) -> str:
    """Pods, events, jobs and what containers that are not well have said."""
    commands = [
        ["get", "pods", "-o", "wide"],
        ["get", "events", "--sort-by=.lastTimestamp"],
        ["get", "dtj", "-o", "yaml"],
        ["get", "pods", "-o", "jsonpath={range .items[*]}{.metadata.name}: {.status.containerStatuses}{'\\n'}{end}"],
    ]
    pods = cluster.kubectl("-n", namespace, "get", "pods", "-o", "name", check=False).split()
    commands += [["logs", "--all-containers", "--tail=60", pod] for pod in pods]
    said = [cluster.kubectl("-n", namespace, *command, check=False) for command in commands]
    parts = [f"$ kubectl {' '.join(command)}\n{text}" for command, text in zip(commands, said, strict=True)]
    return "\n".join(parts)


def operator_log(cluster: Cluster, since: float) -> str:
    """What the operator has said since then."""
    seconds = int(time.time() - since) + 2
    selector = "app.kubernetes.io/component=operator"
    return cluster.kubectl("-n", SYSTEM, "logs", "-l", selector, f"--since={seconds}s", "--tail=400", check=False)
