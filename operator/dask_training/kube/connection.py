"""Where the API server is and how to be let in: in a pod by its service account, elsewhere by a kubeconfig."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp
from kubernetes.aio import config as kube_config
from kubernetes.aio.client import Configuration
from kubernetes.aio.client.rest import RESTClientObject

from dask_training.errors import DaskTrainingError

SERVICE_ACCOUNT_TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
POOL_SIZE = 64


class NoClusterError(DaskTrainingError):
    """Neither a service account nor a usable kubeconfig says where the API server is."""


class Connection:
    """The API server's address, the certificates, and the credentials, which are read anew as they are rotated."""

    def __init__(self, configuration: Configuration) -> None:
        configuration.connection_pool_maxsize = POOL_SIZE
        configuration.retries = None  # every retry is decided by the reconcile loop, which looks again first
        self._configuration = configuration
        self.host = str(configuration.host).rstrip("/")

    @classmethod
    async def load(cls, kubeconfig: str | None = None, context: str | None = None) -> Connection:
        """Read the service account in a pod, else `kubeconfig` (default: $KUBECONFIG, then ~/.kube/config).

        Raises NoClusterError.
        """
        configuration = Configuration()
        in_pod = kubeconfig is None and "KUBECONFIG" not in os.environ and _has_service_account()
        loader: Any = kube_config  # its functions have no types
        try:
            if in_pod:
                loader.load_incluster_config(client_configuration=configuration)
            else:
                await loader.load_kube_config(
                    config_file=kubeconfig or os.environ.get("KUBECONFIG"),
                    context=context,
                    client_configuration=configuration,
                    persist_config=False,
                )
        except (kube_config.ConfigException, OSError) as error:
            raise NoClusterError(f"no way to a cluster: {error}. Set KUBECONFIG, or run in a pod") from error
        return cls(configuration)

    async def authorization(self) -> str | None:
        """Give the Authorization header's value of now, None where certificates do."""
        settings: dict[str, Any] = dict(await self._configuration.auth_settings())
        for setting in settings.values():
            return str(setting["value"]) if setting.get("value") else None
        return None

    def rest(self) -> RESTClientObject:
        """Make a pool of connections for short requests."""
        return RESTClientObject(self._configuration)

    def session(self, *, traces: Sequence[aiohttp.TraceConfig] = ()) -> aiohttp.ClientSession:
        """Make a session for long requests (watches): TLS as for short ones, the token of now on each request."""

        async def authorize(
            request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
        ) -> aiohttp.ClientResponse:
            value = await self.authorization()
            if value is not None:
                request.headers["Authorization"] = value
            return await handler(request)

        connector = aiohttp.TCPConnector(limit=0, ssl=self.rest().ssl_context)
        return aiohttp.ClientSession(
            connector=connector, trace_configs=list(traces), middlewares=(authorize,), proxy=self._configuration.proxy
        )


def _has_service_account() -> bool:
    return SERVICE_ACCOUNT_TOKEN.exists()
