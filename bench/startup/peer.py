"""dask-kubernetes on the cluster: its controller's image, its own chart and CRDs from its wheel; gone afterwards.

`python -m bench.startup.peer install|remove` does one of the two, for tests that run several things on it.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.cluster import BenchError, Cluster, run, until

from dask_training.errors import DaskTrainingError

HERE = Path(__file__).parent
VERSION = re.search(r"^dask-kubernetes==(\S+)", (HERE / "requirements.txt").read_text(), re.MULTILINE)[1]  # type: ignore[index]
IMAGE = f"dask-training-bench-peer:{VERSION}"
RELEASE = "dask-kubernetes-operator"  # the chart's own name, so that it names the service account so as well
NAMESPACE = "startup-bench"  # where all jobs of the benchmark run
HOME = f"{NAMESPACE}-peer"
CRDS = ("daskjobs", "daskclusters", "daskworkergroups", "daskautoscalers")
CHART = f"/opt/dask-kubernetes/dask_kubernetes/operator/deployment/helm/{RELEASE}"


@contextlib.contextmanager
def installed(cluster: Cluster, base: str, say: Callable[[str], None]) -> Iterator[None]:
    """The peer's operator, running; *base* is the image that the jobs run in, in this machine's Docker."""
    install(cluster, base, say)
    try:
        yield
    finally:
        remove(cluster)


def install(cluster: Cluster, base: str, say: Callable[[str], None]) -> None:
    """Install the peer's operator, in place of what a run that was killed has left. Raises BenchError."""
    if _crds(cluster) and not cluster.exists(f"/api/v1/namespaces/{HOME}"):
        raise BenchError(f"dask-kubernetes is on kind-{cluster.name} already: uninstall it, and its CRDs, first")
    remove(cluster)
    try:
        _install(cluster, base, say)
    except BaseException:
        remove(cluster)
        raise


def _install(cluster: Cluster, base: str, say: Callable[[str], None]) -> None:
    say(f"building {IMAGE} on {base}")
    run("docker", "build", "--quiet", "--build-arg", f"BASE={base}", "--tag", IMAGE, str(HERE))
    say(f"installing dask-kubernetes {VERSION}")
    cluster.load(IMAGE)
    with tempfile.TemporaryDirectory() as folder:
        container = run("docker", "create", IMAGE)
        try:
            run("docker", "cp", f"{container}:{CHART}", folder)
        finally:
            run("docker", "rm", container)
        name, _, tag = IMAGE.partition(":")
        options = ["--values", str(HERE / "values.yaml"), "--set", f"image.name={name},image.tag={tag}"]
        where = ["--kube-context", f"kind-{cluster.name}", "--namespace", HOME, "--create-namespace"]
        run("helm", "install", RELEASE, f"{folder}/{RELEASE}", *where, *options, "--wait", "--timeout", "180s")


def remove(cluster: Cluster) -> None:
    """Take all of it away, also what a run that was killed has left."""
    crds = _crds(cluster)
    if crds:
        cluster.delete_later(f"/api/v1/namespaces/{NAMESPACE}")
        _let_go(cluster, crds)
        cluster.delete(f"/api/v1/namespaces/{NAMESPACE}")
    if cluster.exists(f"/api/v1/namespaces/{HOME}"):
        where = ["--kube-context", f"kind-{cluster.name}", "--namespace", HOME]
        run("helm", "uninstall", RELEASE, *where, "--ignore-not-found", "--wait", "--timeout", "120s")
        cluster.delete(f"/api/v1/namespaces/{HOME}")
    for name in crds:
        cluster.delete(f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}")
    cluster.unload(IMAGE)


def _crds(cluster: Cluster) -> list[str]:
    names = [f"{plural}.kubernetes.dask.org" for plural in CRDS]
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    there = {each["metadata"]["name"] for each in cluster.api.list(path)}
    return [name for name in names if name in there]


def _let_go(cluster: Cluster, crds: list[str]) -> None:
    """Remove the controller's finalizers if it does not: it is gone where a run was killed while uninstalling."""
    paths = [f"/apis/kubernetes.dask.org/v1/namespaces/{NAMESPACE}/{crd.partition('.')[0]}" for crd in crds]

    def left() -> list[str]:
        return [f"{path}/{each['metadata']['name']}" for path in paths for each in cluster.api.list(path)]

    with contextlib.suppress(BenchError):
        until(lambda: not left(), 20, "the controller has not let go")
        return
    for path in left():
        body = {"metadata": {"finalizers": None}}
        cluster.api.request("PATCH", path, body=body, content_type="application/merge-patch+json")


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m bench.startup.peer", description=main.__doc__)
    parser.add_argument("what", choices=["install", "remove"])
    parser.add_argument("--cluster", default="dask-training", help="name of the kind cluster")
    chosen = parser.parse_args()
    try:
        cluster = Cluster(chosen.cluster)
        if chosen.what == "remove":
            remove(cluster)
        else:
            install(cluster, cluster.operator().runtime_image, print)
    except (BenchError, DaskTrainingError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
