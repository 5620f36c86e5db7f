"""HTTP to a port of a pod, through the API server: nothing but the kubeconfig is needed."""

from __future__ import annotations

import contextlib
import http.client
import threading
from typing import Any

from dask_training.client.connection import Connection
from dask_training.errors import ForbiddenError, UnreachableError

_OPEN_SECONDS = 15.0
_ANSWER_SECONDS = 60.0


class PodHTTP(http.client.HTTPConnection):
    """An HTTP connection to *port* of *pod*; raises KubernetesError if the API server does not forward to it."""

    def __init__(self, connection: Connection, namespace: str, pod: str, port: int) -> None:
        super().__init__("localhost", port, timeout=_ANSWER_SECONDS)
        self._connection = connection
        self._namespace = namespace
        self._pod = pod
        self._forward: Any = None

    def connect(self) -> None:
        """Open the way to the pod; called by the first request and by one after `close`."""
        self._forward = bounded(self._open)
        self.sock = self._forward.socket(self.port)
        self.sock.settimeout(_ANSWER_SECONDS)

    def close(self) -> None:
        """End the connection, and the thread that serves it."""
        super().close()
        if self._forward is not None:
            with contextlib.suppress(OSError):
                self._forward.close()
            self._forward = None

    def _open(self) -> Any:
        from kubernetes.client import ApiClient, CoreV1Api  # noqa: PLC0415 - takes most of a second
        from kubernetes.client.exceptions import ApiException  # noqa: PLC0415 - as above
        from kubernetes.stream import portforward  # noqa: PLC0415 - as above

        # A client of its own: the websocket's takes the place of one of its methods meanwhile.
        core = CoreV1Api(ApiClient(self._connection.api_client.configuration))
        try:
            return portforward(
                core.connect_get_namespaced_pod_portforward, self._pod, self._namespace, ports=str(self.port)
            )
        except ApiException as error:
            reason = str(error.reason).split("\n", 1)[0]
            if "403" in reason:
                raise ForbiddenError(
                    f"you may not forward ports to pods in namespace {self._namespace}: "
                    "ask for the verb create on pods/portforward"
                ) from error
            raise UnreachableError(f"the API server does not forward to pod {self._pod}: {reason}") from error


def bounded(call: Any) -> Any:
    """What *call* returns, or UnreachableError; the websocket library waits for ever for a server that says nothing."""
    result: list[Any] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            result.append(call())
        except BaseException as error:  # noqa: BLE001 - raised again by whoever waits
            errors.append(error)

    thread = threading.Thread(target=run, name="port-forward", daemon=True)
    thread.start()
    thread.join(_OPEN_SECONDS)
    if errors:
        raise errors[0]
    if not result:
        raise UnreachableError(f"the API server did not open a way to the pod within {_OPEN_SECONDS:.0f} s")
    return result[0]
