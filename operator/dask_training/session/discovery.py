"""For dask-ctl: `dask cluster list` finds the sessions' clusters."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from dask_training.client.connection import is_configured
from dask_training.errors import KubernetesError
from dask_training.session.cluster import TrainingCluster
from dask_training.session.launch import list_clusters


async def discover() -> AsyncIterator[tuple[str, type[TrainingCluster]]]:
    """Yields name and class of each cluster in the current namespace; none where there is no way to a cluster."""
    if not is_configured():
        return
    try:
        found = await asyncio.to_thread(list_clusters)
    except KubernetesError:
        return  # other kinds of clusters are to be listed all the same
    for each in found:
        yield each.name, TrainingCluster
