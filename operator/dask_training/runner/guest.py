"""The user's code on a cluster of somebody else's: what differs between the two, and what is done about it.

Nothing is installed there, no plugin is registered and no file is sent: the cluster stays as it is.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from dask_training.runner.channel import Channel
from dask_training.runner.events import Notice
from dask_training.runner.joblib_setup import JoblibConfig

if TYPE_CHECKING:
    from distributed import Client

_OURS: Final = "dask-training"
# What is compared: of the scheduler what takes part in messages and graphs, of the workers what tasks are made of, too.
_SCHEDULER: Final = ("python", "dask", "distributed", "cloudpickle", "msgpack", "tornado")
_PACKAGES: Final = (*_SCHEDULER, "joblib", "numpy", "pandas", "scikit-learn")

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
        warnings.simplefilter("ignore", VersionMismatchWarning)  # `adapted` says what it says, in a line
        return Client(address, **options)


def adapted(config: JoblibConfig, guest: GuestConfig, client: Client, channel: Channel) -> JoblibConfig:
    """`config` for what the cluster has; what is not the same there is told as one notice for each kind."""
    versions: Versions = client.get_versions(packages=[*_PACKAGES, _OURS])
    for sentence in differences(versions, guest.cluster):
        channel.send(Notice(message=sentence))
    upstream = config.backend == "dask" and lacks(versions, _OURS)
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
    return any(not _packages(each).get(package) for each in (versions["scheduler"], *versions["workers"].values()))


def differences(versions: Versions, cluster: str) -> list[str]:
    """A sentence if packages differ between the runner and the cluster: which, where and what to do."""
    own = _packages(versions["client"])
    found = [*_differing("its scheduler", [_packages(versions["scheduler"])], own, _SCHEDULER)]
    found += _differing("its workers", [_packages(each) for each in versions["workers"].values()], own, _PACKAGES)
    if not found:
        return []
    text = f"DaskCluster {cluster!r} and this runner differ: {'; '.join(found)}"
    return [f"{text}. Results may differ, or not be readable: run both from one image (spec.image)."]


def _differing(where: str, there: list[dict[str, str]], own: Mapping[str, str], packages: Iterable[str]) -> list[str]:
    found = []
    for package in packages:
        mine = own.get(package)
        others = Counter(each.get(package) or "none" for each in there if each.get(package) != mine)
        if mine and others:
            found.append(f"{package} {', '.join(sorted(others))} on {where}, {mine} here")
    return found


def _packages(of: Mapping[str, Any]) -> dict[str, str]:
    return {name: _short(name, str(version)) for name, version in of["packages"].items() if version}


def _short(name: str, version: str) -> str:
    """Of Python only 3.11: what is pickled is the same for all 3.11.x."""
    return ".".join(version.split(".")[:2]) if name == "python" else version


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
