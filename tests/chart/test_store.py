"""The artifact store as the chart starts it: the real versitygw with the rendered arguments and environment."""

from __future__ import annotations

import asyncio
import base64
import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from subprocess import Popen

import aiohttp
import botocore.exceptions
import botocore.session
import pytest
from botocore.config import Config
from machine import free_port, give_up_at

from dask_training.handlers.store_accounts import Account, RootCredentials, StoreAdmin, sign


@pytest.fixture(scope="module")
def versitygw(tool) -> str:
    return tool("versitygw")


class Store:
    """A running store."""

    def __init__(self, ports: tuple[int, int], root: tuple[str, str], region: str, start: Callable[[], Popen]) -> None:
        self.url, self.admin_url = (f"http://127.0.0.1:{port}" for port in ports)
        self.root, self.region = root, region
        self._start = start
        self._process = start()

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(60)

    def start_again(self) -> None:
        self.stop()
        self._process = self._start()

    def client(self, access: str, secret: str):
        return botocore.session.get_session().create_client(
            "s3",
            endpoint_url=self.url,
            aws_access_key_id=access,
            aws_secret_access_key=secret,
            region_name=self.region,
            config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
        )

    def administer(self, *arguments: str) -> None:
        who = ["--access", self.root[0], "--secret", self.root[1]]
        where = ["--region", self.region, "--endpoint-url", self.admin_url]
        command = [self._process.args[0], "admin", *who, *where, *arguments]
        subprocess.run(command, check=True, capture_output=True, timeout=30)


@pytest.fixture(scope="module")
def store(render_chart, versitygw, tmp_path_factory):
    """What the chart's pod would run, on ports and folders of this test's own."""
    documents = render_chart(values={"store": {"region": "eu-west-3"}}, show_only=("store.yaml", "secrets.yaml"))
    [deployment] = [each for each in documents if each["kind"] == "Deployment"]
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    secrets = {each["metadata"]["name"]: each["data"] for each in documents if each["kind"] == "Secret"}
    assert container["command"] == ["/usr/local/bin/versitygw"]

    folder = tmp_path_factory.mktemp("store")
    mounts = [each for each in container["volumeMounts"] if each["name"] == "data"]
    port, admin_port = free_port(), free_port()
    replaced = {":7070": f"127.0.0.1:{port}", ":7071": f"127.0.0.1:{admin_port}"}
    for mount in mounts:  # as the kubelet does
        (folder / mount["subPath"]).mkdir()
        replaced[mount["mountPath"]] = str(folder / mount["subPath"])
    arguments = []
    for argument in container["args"]:
        option, separator, value = argument.rpartition("=")
        arguments.append(option + separator + replaced.get(value, value))

    environment = {"PATH": os.environ["PATH"]}
    for variable in container["env"]:
        if reference := variable["valueFrom"].get("secretKeyRef"):
            environment[variable["name"]] = base64.b64decode(secrets[reference["name"]][reference["key"]]).decode()
    root = (environment["ROOT_ACCESS_KEY"], environment["ROOT_SECRET_KEY"])

    log, path = folder / "log", container["readinessProbe"]["httpGet"]["path"]

    def start() -> Popen:
        with log.open("a") as output:
            process = Popen([versitygw, *arguments], env=environment, stdout=output, stderr=output, cwd=folder)
        try:
            wait_for(f"http://127.0.0.1:{port}{path}", process, log)
        except BaseException:
            process.kill()
            process.wait()
            raise
        return process

    store = Store((port, admin_port), root, "eu-west-3", start)
    yield store
    store.stop()


def wait_for(url, process, log):
    deadline = give_up_at(15)
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                assert answer.status == 200
                return
        except OSError:  # refused, or not answered in time
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)


@pytest.fixture(scope="module")
def teams(store):
    """Clients of two accounts, each with a bucket of its own, as the operator makes them for two namespaces."""
    clients = {}
    for name in ("team-a", "team-b"):
        store.administer("create-user", "--access", f"ns-{name}", "--secret", f"secret-of-{name}", "--role", "user")
        store.client(*store.root).create_bucket(Bucket=f"artifacts-{name}")
        store.administer("change-bucket-owner", "--bucket", f"artifacts-{name}", "--owner", f"ns-{name}")
        clients[name] = store.client(f"ns-{name}", f"secret-of-{name}")
    return clients


def test_a_namespace_s_account_reads_and_writes_its_own_bucket(teams):
    client, bucket = teams["team-a"], "artifacts-team-a"
    client.put_object(Bucket=bucket, Key="runs/a/model.joblib", Body=b"model", Metadata={"note": "first"})
    found = client.get_object(Bucket=bucket, Key="runs/a/model.joblib")
    assert (found["Body"].read(), found["Metadata"]) == (b"model", {"note": "first"})
    assert [each["Key"] for each in client.list_objects_v2(Bucket=bucket)["Contents"]] == ["runs/a/model.joblib"]


def test_large_files_come_in_parts(teams):
    client, where = teams["team-a"], {"Bucket": "artifacts-team-a", "Key": "runs/b/large"}
    upload = client.create_multipart_upload(**where)["UploadId"]
    parts = []
    for number, size in ((1, 5 << 20), (2, 1)):
        body = bytes([number]) * size
        part = client.upload_part(**where, UploadId=upload, PartNumber=number, Body=body)
        parts.append({"PartNumber": number, "ETag": part["ETag"]})
    client.complete_multipart_upload(**where, UploadId=upload, MultipartUpload={"Parts": parts})
    assert client.head_object(**where)["ContentLength"] == (5 << 20) + 1
    assert client.get_object(**where, Range="bytes=5242879-")["Body"].read() == b"\x01\x02"


@pytest.mark.parametrize(
    ("operation", "arguments"),
    [
        ("get_object", {"Key": "runs/a/model.joblib"}),
        ("put_object", {"Key": "runs/a/other", "Body": b""}),
        ("list_objects_v2", {}),
        ("delete_object", {"Key": "runs/a/model.joblib"}),
        ("delete_bucket", {}),
    ],
)
def test_another_namespace_s_account_may_do_nothing_with_it(teams, operation, arguments):
    with pytest.raises(botocore.exceptions.ClientError, match="AccessDenied"):
        getattr(teams["team-b"], operation)(Bucket="artifacts-team-a", **arguments)


def test_accounts_make_no_buckets_and_see_their_own_alone(teams):
    with pytest.raises(botocore.exceptions.ClientError, match="AccessDenied"):
        teams["team-b"].create_bucket(Bucket="mine-too")
    assert [each["Name"] for each in teams["team-b"].list_buckets()["Buckets"]] == ["artifacts-team-b"]


def test_nobody_gets_in_without_an_account(store, teams):
    teams["team-a"].put_object(Bucket="artifacts-team-a", Key="private", Body=b"x")
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(f"{store.url}/artifacts-team-a/private", timeout=60)
    with pytest.raises(botocore.exceptions.ClientError, match="SignatureDoesNotMatch"):
        store.client("ns-team-a", "guessed").list_objects_v2(Bucket="artifacts-team-a")


def test_no_account_is_taken_for_another(store):
    """Though its name lies where that of another lay in the requests before."""
    root = RootCredentials(*store.root)
    admin = StoreAdmin(store.admin_url, store.region, lambda: root)
    accounts = [Account.of(f"known-{number:08}", root) for number in range(8)]

    async def owner(session: aiohttp.ClientSession, name: str, bucket: str) -> int:
        """How it is answered that a bucket should be this account's."""
        url = f"{store.admin_url}/{bucket}/create"
        headers = sign("PATCH", url, b"", {"x-vgw-owner": name}, root, store.region)
        async with session.patch(url, data=b"", headers=headers) as answer:
            return answer.status

    async def ask() -> tuple[set[int], set[int]]:
        for account in accounts:
            await admin.ensure(account)
        store.start_again()
        async with aiohttp.ClientSession() as session:
            known = {await owner(session, each.access_key, each.bucket) for each in accounts}
            unknown = {await owner(session, f"ns-other-{number:08}", "nobody-s") for number in range(400)}
        return known, unknown

    assert asyncio.run(ask()) == ({409}, {404})
