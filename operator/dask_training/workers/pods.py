"""Workers as pods of a cluster: one job of mode Workers for each call."""

from __future__ import annotations

from typing import NoReturn

from dask_training.workers.records import Table
from dask_training.workers.request import Request
from dask_training.workers.session import Identity


def launch(request: Request, identity: Identity, table: Table, settings: object) -> NoReturn:
    """Raise RuntimeError: the operator does not serve mode Workers."""
    del request, identity, table, settings
    raise RuntimeError("the operator does not serve mode Workers: configure(local=True) runs workers on this machine")
