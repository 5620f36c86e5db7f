"""Accounts in the operator's own artifact store (versitygw): one account and one bucket for each namespace.

Everything is derived from the store's root credentials, so nothing needs to be remembered: the account's secret key
is an HMAC of the namespace, and making sure of an account again changes nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, urlsplit
from xml.sax.saxutils import escape

import aiohttp

from dask_training.api import MANAGER, STORE_SECRET, Label, store_bucket
from dask_training.errors import DaskTrainingError
from dask_training.kube import KubeClient
from dask_training.kube.client import JSONObject
from dask_training.kube.errors import AlreadyExistsError
from dask_training.kube.resources import SECRETS

LOG = logging.getLogger(__name__)

FRESH_SECONDS = 60.0
"""For how long an account that was made sure of is taken for granted: a namespace may be made anew."""
TIMEOUT = 10.0


class StoreUnavailableError(DaskTrainingError):
    """The operator's artifact store did not do what it was asked for; the message never holds a key."""


@dataclass(frozen=True)
class RootCredentials:
    """The account that may make accounts."""

    access_key: str
    secret_key: str = field(repr=False)

    @classmethod
    def read(cls, folder: Path) -> RootCredentials:
        """Read the files `access-key` and `secret-key`. Raises StoreUnavailableError."""
        try:
            access, secret = ((folder / name).read_text().strip() for name in ("access-key", "secret-key"))
        except OSError as error:
            raise StoreUnavailableError(
                f"the artifact store's credentials can't be read: {error.strerror} ({error.filename})"
            ) from error
        if not access or not secret:
            raise StoreUnavailableError(f"the artifact store's credentials in {folder} are empty")
        return cls(access, secret)


@dataclass(frozen=True)
class Account:
    """A namespace's account and bucket."""

    access_key: str
    secret_key: str = field(repr=False)
    bucket: str

    @classmethod
    def of(cls, namespace: str, root: RootCredentials) -> Account:
        """Derive the account of a namespace."""
        digest = hmac.new(root.secret_key.encode(), f"namespace/{namespace}".encode(), hashlib.sha256).hexdigest()
        return cls(access_key=f"ns-{namespace}", secret_key=digest[:40], bucket=store_bucket(namespace))


class StoreAdmin:
    """versitygw's admin API, signed as S3 requests are (AWS Signature Version 4)."""

    def __init__(self, endpoint: str, region: str, root: Callable[[], RootCredentials]) -> None:
        self._endpoint = endpoint.rstrip("/")
        self._region = region
        self._root = root

    async def ensure(self, account: Account) -> None:
        """Make account and bucket unless they are there; set the account's secret key. Raises StoreUnavailableError."""
        timeout = aiohttp.ClientTimeout(total=TIMEOUT)
        async with aiohttp.ClientSession(timeout=timeout, trust_env=False) as session:
            named = f"<Access>{escape(account.access_key)}</Access>"
            rest = f"<Secret>{escape(account.secret_key)}</Secret><Role>user</Role>"
            created = await self._patch(session, "/create-user", body=f"<Account>{named}{rest}</Account>", there={409})
            if not created:
                path = f"/update-user?access={quote(account.access_key, safe='')}"
                await self._patch(session, path, body=f"<MutableProps>{rest}</MutableProps>")
            owner = {"x-vgw-owner": account.access_key}
            await self._patch(session, f"/{account.bucket}/create", headers=owner, there={409})

    async def _patch(
        self,
        session: aiohttp.ClientSession,
        path: str,
        *,
        body: str = "",
        headers: Mapping[str, str] | None = None,
        there: frozenset[int] | set[int] = frozenset(),
    ) -> bool:
        """Send a request; say whether it made something, False where `there` says that it was there already."""
        url = self._endpoint + path
        signed = sign("PATCH", url, body.encode(), dict(headers or {}), self._root(), self._region)
        asked = f"artifact store: PATCH {urlsplit(url).path}"
        try:
            async with session.patch(url, data=body.encode(), headers=signed, allow_redirects=False) as response:
                text = (await response.content.read(2048)).decode(errors="replace")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise StoreUnavailableError(f"{asked}: {type(error).__name__}: {error}".rstrip(": ")) from error
        if response.status in there:
            return False
        if not 200 <= response.status < 300:
            raise StoreUnavailableError(f"{asked}: {response.status}: {_message(text)}")
        return True


def sign(
    method: str, url: str, body: bytes, headers: dict[str, str], root: RootCredentials, region: str
) -> dict[str, str]:
    """Give the headers that sign a request for S3."""
    # Imported here: an operator without a store does without botocore's 8 MB.
    from botocore.auth import S3SigV4Auth  # type: ignore[import-untyped]  # noqa: PLC0415
    from botocore.awsrequest import AWSRequest  # type: ignore[import-untyped]  # noqa: PLC0415
    from botocore.credentials import Credentials  # type: ignore[import-untyped]  # noqa: PLC0415

    request = AWSRequest(method=method, url=url, data=body, headers=headers)
    S3SigV4Auth(Credentials(root.access_key, root.secret_key), "s3", region).add_auth(request)
    return {str(name): str(value) for name, value in request.headers.items()}


class StoreAccounts:
    """Makes sure that a namespace has its account, its bucket, and a Secret with the credentials.

    `endpoint` is the store's address as the job's pods see it; `clock` gives seconds that never go back.
    """

    def __init__(
        self,
        client: KubeClient,
        admin: StoreAdmin,
        root: Callable[[], RootCredentials],
        *,
        endpoint: str,
        region: str,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._client = client
        self._admin = admin
        self._root = root
        self._endpoint = endpoint
        self._region = region
        self._clock: Callable[[], float] = clock or (lambda: asyncio.get_running_loop().time())
        self._fresh: dict[str, float] = {}
        self._written: dict[str, JSONObject] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def ensure(self, namespace: str) -> None:
        """Have everything ready for jobs in `namespace`. Raises StoreUnavailableError, ApiError."""
        async with self._locks.setdefault(namespace, asyncio.Lock()):
            if self._fresh.get(namespace, float("-inf")) > self._clock() - FRESH_SECONDS:
                return
            account = Account.of(namespace, self._root())
            await self._admin.ensure(account)
            await self._write_secret(namespace, account)
            if namespace not in self._fresh:
                LOG.info("the artifact store has an account and a bucket", extra={"namespace": namespace})
            self._fresh[namespace] = self._clock()

    async def _write_secret(self, namespace: str, account: Account) -> None:
        secret = store_secret(namespace, account, self._endpoint, self._region)
        try:
            await self._client.create(SECRETS, namespace, secret)
        except AlreadyExistsError:
            # It can't be read, and what another process wrote may be of an earlier address or root key.
            if self._written.get(namespace) != secret:
                await self._client.patch(SECRETS, namespace, STORE_SECRET, {"stringData": secret["stringData"]})
        self._written[namespace] = secret


def store_secret(namespace: str, account: Account, endpoint: str, region: str) -> JSONObject:
    """Build the Secret that a namespace's runners read the store's address and credentials from."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": STORE_SECRET, "namespace": namespace, "labels": {Label.MANAGED_BY.value: MANAGER}},
        "type": "Opaque",
        "stringData": {
            "AWS_ACCESS_KEY_ID": account.access_key,
            "AWS_SECRET_ACCESS_KEY": account.secret_key,
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_REGION": region,
        },
    }


def _message(xml: str) -> str:
    """Give an S3 error's code and message, without what else a server may repeat of the request."""
    found = [xml.partition(f"<{tag}>")[2].partition(f"</{tag}>")[0] for tag in ("Code", "Message")]
    return ": ".join(part for part in found if part) or "no message"
