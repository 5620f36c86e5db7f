"""The user's code on a cluster of somebody else's: what differs between the two, and what is done about it.

Nothing is installed there, no plugin is registered and no file is sent: the cluster stays as it is.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from dask_training.runner.channel import Channel
from dask_training.runner.events import Notice
from dask_training.runner.joblib_setup import JoblibConfig
from dask_training.runner.versions import OURS, packages_of

if TYPE_CHECKING:
    from distributed import Client

Versions = Mapping[str, Any]


class GuestConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The DaskCluster that the code runs on, and the folder of modules that its workers do not have."""

    cluster: str
    code: str | None = None


def connect(address: str, **options: Any) -> Client:
    """A client without TLS, which dask-kubernetes does not know; distributed's own table of versions is left out."""
    from distributed import Client  # noqa: PLC0415 - imported while the cluster is looked for
    from distributed.versions import VersionMismatchWarning  # noqa: PLC0415 - as above

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VersionMismatchWarning)  # a Comparison says what it says, in a line
        return Client(address, **options)


def adapted(config: JoblibConfig, guest: GuestConfig, client: Client, channel: Channel) -> JoblibConfig:
    """`config` for what the cluster has: whether our joblib backend can be used there is told as a notice."""
    upstream = config.backend == "dask" and lacks(client.get_versions(packages=[OURS]), OURS)
    if upstream:
        text = (
            f"DaskCluster {guest.cluster!r} lacks dask-training, so joblib's own Dask backend is used: lost workers may"
            " end the job, and there is no progress. Install dask-training[runtime] in the image of its scheduler and"
            " workers for ours."
        )
        channel.send(Notice(message=text))
    modules = importable_from(Path(guest.code)) if guest.code else ()
    return msgspec.structs.replace(config, is_guest=True, upstream=upstream, by_value=modules)


def lacks(versions: Versions, package: str) -> bool:
    """Whether the scheduler or a worker does not have the package."""
    return any(not packages_of(each).get(package) for each in (versions["scheduler"], *versions["workers"].values()))


def importable_from(folder: Path) -> tuple[str, ...]:
    """The modules and packages that lie in a folder."""
    if not folder.is_dir():
        return ()
    files = {path.stem for path in folder.glob("*.py")}
    packages = {path.parent.name for path in folder.glob("*/__init__.py")}
    return tuple(sorted(name for name in files | packages if name.isidentifier()))


def leave(client: Client) -> None:
    """Takes back what this process asked the scheduler for; its tasks go with the client."""
    from dask_training.joblib_backend.cluster import view_of  # noqa: PLC0415 - not all code uses joblib

    view = view_of(client)
    view.call(view.leave())
