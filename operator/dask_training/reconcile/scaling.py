"""How an attempt gets as many workers as there are to be: which are missing, and which may go."""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Iterator
from typing import Final

from dask_training.observed import DRAIN_GRACE_SECONDS, Pod
from dask_training.reconcile.actions import Delete
from dask_training.reconcile.view import View

_NEXT_LOOK: Final = datetime.timedelta(seconds=2)  # for a worker to become idle


def missing(view: View) -> Iterator[int]:
    """The numbers of the workers that are to be made: the lowest that no pod has."""
    lacking = view.desired_workers - len(_staying(view))
    taken = {pod.index for pod in view.workers}
    free = (index for index in itertools.count() if index not in taken)
    return itertools.islice(free, max(lacking, 0))


def surplus(view: View, times: list[datetime.datetime]) -> Iterator[Delete]:
    """Workers that there are too many: first those that do not run yet, then the idle ones, then the highest numbers.

    Each may finish what it works on. In an adaptive job one that works goes only where there are more than there may
    ever be; when one will be idle can't be known, so it is looked at again.
    """
    staying = _staying(view)
    excess = len(staying) - view.desired_workers
    if excess <= 0:
        return
    free = _free(view, staying)
    others = [pod for pod in staying if pod not in free]
    going = free[:excess]
    forced = min(excess, len(staying) - view.most_workers) - len(going)
    going += others[: max(forced, 0)]
    if len(going) < excess:
        times.append(view.now + _NEXT_LOOK)
    for pod in going:
        if pod.deleting is None:
            yield Delete.one("Pod", pod.name, pod.uid, DRAIN_GRACE_SECONDS)


def _staying(view: View) -> list[Pod]:
    """The workers that have not been sent away, the highest number first; a lost one is made again, and so counts."""
    return sorted((pod for pod in view.workers if not pod.is_leaving), key=lambda pod: -(pod.index or 0))


def _free(view: View, staying: list[Pod]) -> list[Pod]:
    """Those that nothing would miss: the ones that do not run first, whatever the scheduler says of others."""
    telemetry = view.observed.telemetry
    rank = {name: place for place, name in enumerate(telemetry.idle_workers)} if telemetry is not None else {}
    waiting = sorted((pod for pod in staying if not pod.is_running), key=lambda pod: not (pod.is_over or pod.deleting))
    idle = [pod for pod in staying if pod.is_running and pod.name in rank]
    return waiting + sorted(idle, key=lambda pod: rank[pod.name])
