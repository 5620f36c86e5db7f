"""The cluster that a runner works on: the attempt's own, or somebody else's that spec.clusterRef names."""

from __future__ import annotations

import time
from collections.abc import Callable

from dask_training.model import TrainingJob
from dask_training.runner import verdict
from dask_training.runner.address import listens
from dask_training.runner.pod.guest_link import GuestLink
from dask_training.runner.pod.link import Link
from dask_training.runner.pod.paths import PodPaths
from dask_training.runner.verdict import Outcome

_PROBE_PAUSE_SECONDS = 0.05


class OwnCluster:
    """The attempt's own: TLS, news for its scheduler, logs of its pods."""

    about_workers = ""
    title = "cluster"
    same_versions = "Name spec.image by a tag or digest that never changes, and pin spec.packages (name==version)."
    notices: tuple[str, ...] = ()

    def __init__(self, address: str, paths: PodPaths) -> None:
        self._address = address
        self._paths = paths

    @property
    def lost(self) -> Outcome:
        """The attempt's outcome where its scheduler is gone."""
        return verdict.scheduler_lost(None)

    def answers(self, *, probes: int = 1) -> bool:
        """Whether a scheduler is there; takes a second at most for each of the `probes` that are made."""
        for number in range(probes):
            if number:
                time.sleep(_PROBE_PAUSE_SECONDS)
            if listens(self._address):
                return True
        return False

    def link(self, on_workers: Callable[[int], None], on_lost: Callable[[], None], *, timeout: float) -> Link:
        """The runner's connection to it; see there."""
        return Link(self._address, self._paths.secret, on_workers, on_lost, timeout=timeout)


class HostCluster(OwnCluster):
    """Somebody else's: no TLS, nothing left there, and the job's status is served by the runner itself."""

    def __init__(self, name: str, address: str, paths: PodPaths, packages: tuple[str, ...]) -> None:
        super().__init__(address, paths)
        self._name = name
        self.title = f"DaskCluster {name!r}"
        self.same_versions = "Run both from one image (spec.image)."
        self.about_workers = f"They are those of DaskCluster {name!r}: kubectl get pods -l dask.org/cluster-name={name}"
        warning = f"running on DaskCluster {name!r} at {address}: unencrypted, and open to all who can reach it"
        own = f"spec.packages are installed in this runner alone; DaskCluster {name!r} must have them in its workers"
        self.notices = (warning, own) if packages else (warning,)

    @property
    def lost(self) -> Outcome:
        """The attempt's outcome where the scheduler does not answer any more."""
        return verdict.host_lost(f"the scheduler of DaskCluster {self._name!r} at {self._address}")

    def link(self, on_workers: Callable[[int], None], on_lost: Callable[[], None], *, timeout: float) -> Link:
        """The runner's connection to it; see there."""
        token = (self._paths.secret / "token").read_text().strip()
        return GuestLink(self._address, token, on_workers, on_lost, timeout=timeout)


def cluster_of(job: TrainingJob, address: str, paths: PodPaths) -> OwnCluster:
    """The job's cluster, whose scheduler is at `address`."""
    ref = job.spec.cluster_ref
    return OwnCluster(address, paths) if ref is None else HostCluster(ref.name, address, paths, job.spec.packages)
