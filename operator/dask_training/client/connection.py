"""One connection to a Kubernetes API server: JSON in, JSON out, with time-outs, retries and errors in plain words."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import quote, urlencode

from dask_training import __version__
from dask_training.api import GROUP, PLURAL, VERSION
from dask_training.client.refusals import refusal
from dask_training.errors import KubernetesError, NoKubeconfigError, UnreachableError

Body: TypeAlias = dict[str, Any]

CONNECT_SECONDS = 5.0
READ_SECONDS = 30.0
MERGE_PATCH = "application/merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
FIELD_MANAGER = "dask-training"
_TRIES = 4
_PASSING = frozenset({429, 500, 502, 503, 504})
_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def jobs_path(namespace: str | None, name: str = "", subresource: str = "") -> str:
    """The API path of the jobs of *namespace* (None: of all), of one of them, or of its subresource."""
    place = f"namespaces/{quote(namespace, safe='')}/" if namespace else ""
    parts = [
        f"/apis/{GROUP}/{VERSION}/{place}{PLURAL}",
        *(quote(part, safe="") for part in (name, subresource) if part),
    ]
    return "/".join(parts)


def core_path(namespace: str, resource: str, name: str = "", subresource: str = "") -> str:
    """The API path of the core group's *resource* (such as pods) in *namespace*, or of one object of it."""
    parts = (namespace, resource, name, subresource)
    return "/api/v1/namespaces/" + "/".join(quote(part, safe="") for part in parts if part)


class Connection:
    """An API server, reached as kubectl reaches it: $KUBECONFIG, ~/.kube/config, or a pod's service account.

    *context* and *namespace* default to the kubeconfig's current ones. Nothing is contacted yet. Raises
    NoKubeconfigError if there is no way to a cluster. Can be used from several threads at once.
    """

    def __init__(
        self, context: str | None = None, namespace: str | None = None, *, connect_seconds: float = CONNECT_SECONDS
    ) -> None:
        self._connect_seconds = connect_seconds
        self.api_client, self.context, current = _configured(context)
        self.namespace: str = namespace or current
        self.pod_namespace = "" if self.context else current
        """In a pod that is let in by its service account: the pod's namespace; else empty."""
        self.server = str(self.api_client.configuration.host)
        self._resources: dict[str, dict[str, tuple[str, bool]]] = {}

    def __repr__(self) -> str:
        return f"Connection(context={self.context!r}, namespace={self.namespace!r})"

    def close(self) -> None:
        """Let go of the connections."""
        self.api_client.close()

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, object] | None = None,
        body: Body | None = None,
        content_type: str = "application/json",
        read_seconds: float = READ_SECONDS,
    ) -> Body:
        """Send a request and return the answer's JSON; raises a KubernetesError or JobFileError for a refusal.

        Answers 429 and 5xx are asked for again, as is everything that did not reach the server. A POST whose answer is
        lost is not: the caller looks whether its object is there.
        """
        with self._open(method, path, query, body, content_type, read_seconds) as response:
            try:
                data = response.read()
            except Exception as error:
                raise self._unreachable(error) from error
        try:
            answer = json.loads(data or b"{}")
        except ValueError as error:
            raise KubernetesError(f"{self.server} answered {path} with something else than JSON") from error
        return answer if isinstance(answer, dict) else {}

    def text(self, path: str, *, query: Mapping[str, object] | None = None) -> str:
        """The answer to a GET as text."""
        with self._open("GET", path, query, None, "", READ_SECONDS) as response:
            try:
                return bytes(response.read()).decode("utf-8", "replace")
            except Exception as error:
                raise self._unreachable(error) from error

    @contextmanager
    def stream(self, path: str, *, query: Mapping[str, object] | None = None, read_seconds: float) -> Iterator[Any]:
        """The answer to a GET as it comes, a urllib3 response; *read_seconds* without a byte end it with an error."""
        with self._open("GET", path, query, None, "", read_seconds) as response:
            yield response

    def resource_path(self, body: Body, namespace: str) -> str:
        """The API path of the collection that *body* belongs to, from the server's own list of resources.

        Raises KubernetesError for a kind that the server does not have.
        """
        version, kind = str(body.get("apiVersion")), str(body.get("kind"))
        root = f"/api/{version}" if "/" not in version else f"/apis/{version}"
        if version not in self._resources:
            answer = self.request("GET", root)
            self._resources[version] = {
                str(each["kind"]): (str(each["name"]), bool(each["namespaced"]))
                for each in answer.get("resources", [])
                if "/" not in str(each["name"])
            }
        if kind not in self._resources[version]:
            raise KubernetesError(f"the cluster knows no kind {kind} in {version}")
        plural, namespaced = self._resources[version][kind]
        return f"{root}/namespaces/{quote(namespace, safe='')}/{plural}" if namespaced else f"{root}/{plural}"

    def list(self, path: str, **query: object) -> list[Body]:
        """All objects of a collection, page by page."""
        items: list[Body] = []
        more = ""
        while True:
            page = self.request("GET", path, query={"limit": 500, **query, **({"continue": more} if more else {})})
            items += page.get("items", [])
            more = page.get("metadata", {}).get("continue") or ""
            if not more:
                return items

    @contextmanager
    def _open(
        self,
        method: str,
        path: str,
        query: Mapping[str, object] | None,
        body: Body | None,
        content_type: str,
        read_seconds: float,
    ) -> Iterator[Any]:
        response = self._send(method, path, query, body, content_type, read_seconds)
        try:
            if not 200 <= response.status <= 299:
                raise refusal(response.status, response.read(), method=method, path=path, server=self.server)
            yield response
        finally:
            # Without reading on: what is left of a stream may never end.
            response.close()

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, object] | None,
        body: Body | None,
        content_type: str,
        read_seconds: float,
    ) -> Any:
        url = f"{self.server}{path}{'?' + urlencode(query) if query else ''}"
        for left in reversed(range(_TRIES)):
            headers = {"Accept": "application/json, */*", "User-Agent": f"dask-training/{__version__}"}
            if content_type and body is not None:
                headers["Content-Type"] = content_type
            try:
                self.api_client.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
                response = self.api_client.rest_client.pool_manager.request(
                    method,
                    url,
                    body=None if body is None else json.dumps(body),
                    headers=headers,
                    preload_content=False,
                    retries=_retries(method),
                    timeout=_timeout(self._connect_seconds, read_seconds),
                )
            except Exception as error:
                raise self._unreachable(error) from error
            if response.status not in _PASSING or not left or (method == "POST" and response.status != 429):
                return response
            response.drain_conn()
            time.sleep(_pause(response.headers.get("Retry-After"), _TRIES - left))
        raise AssertionError("the last try returns")  # pragma: no cover

    def _unreachable(self, error: Exception) -> KubernetesError:
        import urllib3.exceptions  # noqa: PLC0415 - comes with the connection
        from kubernetes.config.config_exception import ConfigException  # noqa: PLC0415 - as above

        if isinstance(error, ConfigException):
            return NoKubeconfigError(f"the kubeconfig's credentials can't be had: {error}")
        if not isinstance(error, (urllib3.exceptions.HTTPError, OSError)):
            return KubernetesError(f"asking {self.server} failed: {type(error).__name__}: {error}")
        where = f"context {self.context}" if self.context else "the pod's service account"
        return UnreachableError(
            f"the cluster can't be reached at {self.server} ({where}): {_plain_cause(error)}\n"
            "Is it running, and is this the context you mean? kubectl config get-contexts"
        )


def is_configured() -> bool:
    """Whether there is a kubeconfig, or this is a pod with a service account, be it usable or not."""
    return _kubeconfig_is_there(_kubeconfig_files()) or "KUBERNETES_SERVICE_HOST" in os.environ


def _kubeconfig_files() -> str:
    return os.environ.get("KUBECONFIG") or str(Path("~/.kube/config").expanduser())


def _kubeconfig_is_there(files: str) -> bool:
    return any(Path(file).expanduser().is_file() for file in files.split(os.pathsep) if file)


def _configured(context: str | None) -> tuple[Any, str, str]:
    """An API client, the context's name ("" in a pod) and its namespace."""
    import urllib3  # noqa: PLC0415 - comes with kubernetes
    from kubernetes.client import ApiClient, Configuration  # noqa: PLC0415 - most of a second; --help need not wait

    files = _kubeconfig_files()
    there = _kubeconfig_is_there(files)
    in_pod = not there and not context and "KUBERNETES_SERVICE_HOST" in os.environ
    if not there and not in_pod:
        raise NoKubeconfigError(
            f"there is no kubeconfig ({files}): set KUBECONFIG to the file that reaches your cluster"
        )
    configuration = Configuration()
    try:
        name, namespace = _load_pods(configuration) if in_pod else _load(files, context, configuration)
    except NoKubeconfigError:
        raise
    except Exception as error:  # the loader raises whatever its dictionaries, YAML and files do
        raise NoKubeconfigError(f"the kubeconfig ({files}) can't be used: {error}") from error
    if not configuration.verify_ssl:
        # The kubeconfig asks for it; a warning with each request would hide all else.
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    api_client = ApiClient(configuration)
    _load_certificates(api_client)
    return api_client, name, namespace


def _load_certificates(api_client: Any) -> None:
    """Reads the certificates now: the files that the Kubernetes client writes them to are gone at the process's end.

    What is deleted then, such as a session's cluster, needs new connections.
    """
    from urllib3.util.ssl_ import create_urllib3_context, resolve_cert_reqs  # noqa: PLC0415 - comes with kubernetes

    keywords = api_client.rest_client.pool_manager.connection_pool_kw
    if "cert_reqs" not in keywords or not str(api_client.configuration.host).startswith("https:"):
        return
    context = create_urllib3_context(cert_reqs=resolve_cert_reqs(keywords["cert_reqs"]))
    if authority := keywords.pop("ca_certs", None):
        context.load_verify_locations(authority)
    elif not keywords.get("ca_cert_data"):
        context.load_default_certs()
    certificate, key = keywords.pop("cert_file", None), keywords.pop("key_file", None)
    if certificate:
        context.load_cert_chain(certificate, key)
    keywords["ssl_context"] = context


def _load_pods(configuration: Any) -> tuple[str, str]:
    from kubernetes import config  # noqa: PLC0415 - as above

    config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    return "", _NAMESPACE_FILE.read_text().strip() if _NAMESPACE_FILE.is_file() else "default"


def _load(files: str, context: str | None, configuration: Any) -> tuple[str, str]:
    from kubernetes import config  # noqa: PLC0415 - as above

    contexts, current = config.list_kube_config_contexts(config_file=files)  # type: ignore[no-untyped-call]
    chosen = current if context is None else next((each for each in contexts if each["name"] == context), None)
    if chosen is None:
        names = ", ".join(sorted(str(each["name"]) for each in contexts)) or "none"
        raise NoKubeconfigError(f"the kubeconfig has no context {context!r}; it has: {names}")
    config.load_kube_config(  # type: ignore[no-untyped-call]
        config_file=files, context=chosen["name"], client_configuration=configuration, persist_config=False
    )
    return str(chosen["name"]), str(chosen["context"].get("namespace") or "default")


def _retries(method: str) -> Any:
    from urllib3.util.retry import Retry  # noqa: PLC0415 - comes with the connection

    # A server that refuses the connection is asked once more; an answer that was cut off only where asking is harmless.
    return Retry(total=1, connect=1, read=1 if method == "GET" else 0, redirect=0, status=0, allowed_methods=None)


def _timeout(connect_seconds: float, read_seconds: float) -> Any:
    from urllib3.util.timeout import Timeout  # noqa: PLC0415 - as above

    return Timeout(connect=connect_seconds, read=read_seconds)


def _pause(retry_after: str | None, tries: int) -> float:
    asked = float(retry_after) if retry_after and retry_after.isdigit() else 0.0
    return min(max(asked, 0.25 * 2.0 ** (tries - 1)), 10.0)


def _plain_cause(error: BaseException) -> str:
    """The innermost reason: urllib3 wraps it several times."""
    while (inner := getattr(error, "reason", None)) is not None and isinstance(inner, BaseException):
        error = inner
    return str(error).rpartition("): ")[2] or type(error).__name__
