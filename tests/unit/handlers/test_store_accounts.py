"""A namespace's account in the artifact store, made again and again without harm."""

import asyncio

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from dask_training.handlers.store_accounts import (
    Account,
    RootCredentials,
    StoreAccounts,
    StoreAdmin,
    StoreUnavailableError,
    sign,
)

ROOT = RootCredentials("root-access", "root-secret")


class Gateway:
    """As much of versitygw's admin API as is asked for."""

    def __init__(self):
        self.users, self.buckets, self.log, self.broken = {}, {}, [], None

    async def handle(self, request):
        body = (await request.read()).decode()
        self.log.append(request.path)
        assert request.headers["Authorization"].startswith("AWS4-HMAC-SHA256 Credential=root-access/")
        if self.broken:
            return web.Response(status=self.broken, text=f"<Error><Code>Bad</Code><Message>no</Message>{body}</Error>")

        def field(tag):
            return body.partition(f"<{tag}>")[2].partition(f"</{tag}>")[0]

        if request.path == "/create-user":
            if field("Access") in self.users:
                return web.Response(status=409)
            self.users[field("Access")] = (field("Secret"), field("Role"))
        elif request.path == "/update-user":
            self.users[request.query["access"]] = (field("Secret"), field("Role"))
        else:
            bucket = request.path.split("/")[1]
            if bucket in self.buckets:
                return web.Response(status=409)
            self.buckets[bucket] = request.headers["x-vgw-owner"]
        return web.Response(status=201)


@pytest.fixture
def store(kubernetes):
    class Store(kubernetes):
        def __init__(self):
            super().__init__()
            self.gateway, self.now, self.root = Gateway(), [0.0], [ROOT]

        async def __aenter__(self):
            await super().__aenter__()
            app = web.Application()
            app.router.add_route("PATCH", "/{tail:.*}", self.gateway.handle)
            self.http = TestServer(app)
            await self.http.start_server()
            admin = StoreAdmin(str(self.http.make_url("")), "us-east-1", lambda: self.root[0])
            self.accounts = StoreAccounts(
                self.client,
                admin,
                lambda: self.root[0],
                endpoint="http://store:7070",
                region="us-east-1",
                clock=lambda: self.now[0],
            )
            return self

        async def __aexit__(self, *_):
            await self.http.close()
            await super().__aexit__(*_)

    return Store


def test_the_first_job_of_a_namespace_brings_account_bucket_and_secret(run, store):
    async def scene():
        async with store() as kube:
            await kube.accounts.ensure("team")
            account = Account.of("team", ROOT)
            assert kube.gateway.users == {"ns-team": (account.secret_key, "user")}
            assert kube.gateway.buckets == {"artifacts-team": "ns-team"}
            secret = kube.api.objects["secrets", "team", "dask-training-store"]
            assert secret["stringData"] == {
                "AWS_ACCESS_KEY_ID": "ns-team",
                "AWS_SECRET_ACCESS_KEY": account.secret_key,
                "AWS_ENDPOINT_URL": "http://store:7070",
                "AWS_REGION": "us-east-1",
            }

    run(scene())


def test_many_jobs_at_once_ask_once_and_again_after_a_minute(run, store):
    async def scene():
        async with store() as kube:
            await asyncio.gather(*(kube.accounts.ensure("team") for _ in range(10)))
            assert len(kube.gateway.log) == 2
            kube.now[0] = 61
            await kube.accounts.ensure("team")
            assert kube.gateway.log[2:] == ["/create-user", "/update-user", "/artifacts-team/create"]
            assert not [entry for entry in kube.api.log if entry[:2] == ("patch", "secrets")], "it says that already"

    run(scene())


def test_a_new_root_key_reaches_the_account_and_the_secret_without_reading_it(run, store):
    async def scene():
        async with store() as kube:
            await kube.accounts.ensure("team")
            kube.root[0], kube.now[0] = RootCredentials("root-access", "another"), 100
            await kube.accounts.ensure("team")
            secret = kube.api.objects["secrets", "team", "dask-training-store"]
            assert secret["stringData"]["AWS_SECRET_ACCESS_KEY"] == kube.gateway.users["ns-team"][0]
            assert kube.gateway.users["ns-team"][0] == Account.of("team", kube.root[0]).secret_key
            assert not [entry for entry in kube.api.log if entry[:2] == ("get", "secrets")]

    run(scene())


def test_a_store_that_fails_is_told_without_its_keys(run, store):
    async def scene():
        async with store() as kube:
            kube.gateway.broken = 500
            with pytest.raises(StoreUnavailableError, match=r"PATCH /create-user: 500: Bad: no$") as caught:
                await kube.accounts.ensure("team")
            assert Account.of("team", ROOT).secret_key not in str(caught.value)
            kube.gateway.broken = None
            await kube.accounts.ensure("team")
            assert kube.gateway.buckets

    run(scene())


def test_a_store_that_is_not_there_is_unavailable(run):
    admin = StoreAdmin("http://127.0.0.1:9", "us-east-1", lambda: ROOT)
    with pytest.raises(StoreUnavailableError, match="artifact store: PATCH /create-user"):
        run(admin.ensure(Account.of("team", ROOT)))


def test_credentials_are_read_from_files_and_never_shown(tmp_path):
    with pytest.raises(StoreUnavailableError, match="can't be read"):
        RootCredentials.read(tmp_path)
    (tmp_path / "access-key").write_text("a\n")
    (tmp_path / "secret-key").write_text("\n")
    with pytest.raises(StoreUnavailableError, match="are empty"):
        RootCredentials.read(tmp_path)
    (tmp_path / "secret-key").write_text("s3cret\n")
    root = RootCredentials.read(tmp_path)
    assert (root.access_key, root.secret_key) == ("a", "s3cret")
    assert "s3cret" not in repr(root)
    assert Account.of("team", root).secret_key not in repr(Account.of("team", root))


def test_namespaces_have_keys_of_their_own():
    keys = {Account.of(name, ROOT).secret_key for name in ("a", "b")} | {
        Account.of("a", RootCredentials("r", "x")).secret_key
    }
    assert len(keys) == 3


def test_signed_headers_cover_the_body():
    first, second = (sign("PATCH", "http://store/create-user", body, {}, ROOT, "us-east-1") for body in (b"a", b"b"))
    assert first["X-Amz-Date"]
    assert first["X-Amz-Content-SHA256"] != second["X-Amz-Content-SHA256"]
    assert "root-secret" not in str(first)
