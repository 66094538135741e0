"""Failures of an object store: each has a clear sentence, and nothing is lost."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from conftest import HOST, Server, ServerFactory
from object_servers import BUCKET, ObjectServer
from pymilvus import MilvusClient, MilvusException
from relay import Relay
from stored_rows import NAME, ROWS, WAIT_SECONDS, answers, eventually, fill, local_files, reasons, rows

PREFIX = "failing"


def refusal(server: Server) -> str:
    """The one sentence of a server that does not start."""
    server.spawn()
    assert server.process.wait(WAIT_SECONDS) == 1
    assert "Traceback" not in server.log
    (sentence,) = (line for line in server.log.splitlines() if line.startswith("milvine: "))
    return sentence


@pytest.fixture(scope="module")
def relay(objects: ObjectServer) -> Iterator[Relay]:
    started = Relay(int(objects.endpoint.rpartition(":")[2]))
    yield started
    started.close()


@pytest.fixture(scope="module")
def stored(objects: ObjectServer, relay: Relay, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that reaches its store through the relay."""
    env = {**objects.environment(PREFIX), "MILVINE_STORE_ENDPOINT": relay.endpoint}
    server = Server(tmp_path_factory.mktemp("stored"), env={**env, "MILVINE_SCRUB_INTERVAL_SECONDS": "0.5"}).start()
    client = server.client()
    fill(client)
    fill(client, "other")
    client.close()
    yield server
    server.close()


@pytest.fixture
def client(stored: Server) -> Iterator[MilvusClient]:
    opened = stored.client()
    yield opened
    opened.close()


def forget_copies(server: Server, client: MilvusClient) -> list[str]:
    """Releases the collection and removes its copies. Returns the names of its objects."""
    client.release_collection(NAME)
    directory = server.data_dir / "segments" / str(client.describe_collection(NAME)["collection_id"])
    names = [name for name in local_files(server) if (server.data_dir / name).is_relative_to(directory)]
    shutil.rmtree(directory)
    return names


class _Forgetful(BaseHTTPRequestHandler):
    """An S3 server that overwrites objects, whatever the condition of the request."""

    objects: dict[str, bytes] = {}  # noqa: RUF012

    def do_PUT(self) -> None:
        self.objects[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(200, b"")

    def do_GET(self) -> None:
        found = self.objects.get(self.path)
        self._answer(200 if found is not None else 404, found or b"<Code>NoSuchKey</Code>")

    def _answer(self, status: int, content: bytes) -> None:
        self.send_response(status)
        for name, value in (("ETag", '"1"'), ("Last-Modified", "Sun, 01 Nov 2026 00:00:00 GMT")):
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_arguments: object) -> None:
        pass


def test_a_store_that_overwrites_what_is_to_be_new_is_refused(objects: ObjectServer, new_server: ServerFactory) -> None:
    with ThreadingHTTPServer((HOST, 0), _Forgetful) as forgetful:
        threading.Thread(target=forgetful.serve_forever, daemon=True).start()
        env = {**objects.environment("x"), "MILVINE_STORE_ENDPOINT": f"http://{HOST}:{forgetful.server_port}"}
        said = refusal(new_server(env=env, start=False))
        forgetful.shutdown()
    assert "overwrites objects that are to be created only if they are new" in said


@pytest.mark.cluster
@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"MILVINE_STORE_URI": "s3://absent/x"}, "cannot read from s3://absent/x: NoSuchBucket: "),
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "cannot read from s3://segments/x: SignatureDoesNotMatch: "),
        ({"AWS_ACCESS_KEY_ID": "nobody"}, "s3://segments/x: XAdminUserNotFound: No user exists"),
    ],
)
def test_a_wrong_bucket_or_key_refuses_the_start_in_the_words_of_the_store(
    objects: ObjectServer, new_server: ServerFactory, changed: dict[str, str], reason: str
) -> None:
    if not objects.is_lasting and "MILVINE_STORE_URI" not in changed:
        pytest.skip("moto accepts any key")
    assert reason in refusal(new_server(env={**objects.environment("x"), **changed}, start=False))


@pytest.mark.cluster
def test_of_two_servers_with_copies_of_a_directory_the_first_stops_to_write(
    objects: ObjectServer, new_server: ServerFactory, tmp_path: Path
) -> None:
    env = objects.environment("twice")
    first = new_server(env=env)
    client = first.client()
    fill(client)
    before = answers(client)
    copy = shutil.copytree(first.data_dir, tmp_path / "copy")
    second = new_server(env=env, data_dir=copy)
    kept = objects.sizes("twice")
    eventually(lambda: "by another server" in reasons(first))
    assert f"with a copy of {first.data_dir}" in reasons(first)
    client.insert(NAME, rows(ROWS, ROWS + 1))
    with pytest.raises(MilvusException, match="by another server"):
        client.flush(NAME, retry_times=0)
    other = second.client()
    assert answers(other) == before
    client.drop_collection(NAME)
    time.sleep(3)
    assert objects.sizes("twice").items() >= kept.items(), "the first server removes nothing"
    other.close()
    client.close()
    second.stop()
    first.stop()


@pytest.mark.cluster
def test_a_key_that_is_withdrawn_stops_no_start_and_no_read(
    objects: ObjectServer, stored: Server, new_server: ServerFactory
) -> None:
    if not objects.is_lasting:
        pytest.skip("moto accepts any key")
    stored.stop()
    server = new_server(env={**objects.environment(PREFIX), "AWS_SECRET_ACCESS_KEY": "old"}, data_dir=stored.data_dir)
    client = server.client()
    assert answers(client)[1][0]["count(*)"] == ROWS - 10
    client.insert(NAME, rows(ROWS, ROWS + 1))
    with pytest.raises(MilvusException, match="SignatureDoesNotMatch"):
        client.flush(NAME, retry_times=0)
    client.delete(NAME, ids=[ROWS])
    client.close()
    server.stop()
    stored.start()


def test_a_slow_store_delays_loads_and_nothing_else(stored: Server, relay: Relay, client: MilvusClient) -> None:
    before, others = answers(client), answers(client, "other")
    forget_copies(stored, client)
    relay.pause_seconds = 0.3
    try:
        client.load_collection(NAME, _async=True)
        assert client.get_load_state(NAME)["state"].name == "Loading"
        for _ in range(5):
            assert answers(client, "other") == others
            client.upsert("other", rows(20, 21))
        eventually(lambda: client.get_load_state(NAME)["state"].name == "Loaded", 60)
    finally:
        relay.pause_seconds = 0.0
    assert answers(client) == before


@pytest.mark.cluster
def test_answers_that_break_off_are_asked_for_again(stored: Server, relay: Relay, client: MilvusClient) -> None:
    before = answers(client)
    names = forget_copies(stored, client)
    relay.cut_after_bytes = 40_000
    try:
        client.load_collection(NAME, _async=True)
        eventually(lambda: "load of collection stored" in reasons(stored), 90)
        assert client.get_load_state(NAME)["state"].name == "Loading"
        assert len([name for name in names if (stored.data_dir / name).exists()]) < len(names)
    finally:
        relay.cut_after_bytes = None
    eventually(lambda: client.get_load_state(NAME)["state"].name == "Loaded", 90)
    assert answers(client) == before
    assert list((stored.data_dir / "parts").iterdir()) == []
    eventually(lambda: reasons(stored) == "", 60)


@pytest.mark.cluster
def test_a_store_that_never_answers_is_an_outage(stored: Server, relay: Relay, client: MilvusClient) -> None:
    before = answers(client)
    client.insert(NAME, rows(ROWS, ROWS + 1))  # as near as row 0, which is deleted
    after = answers(client)
    assert after != before
    relay.is_deaf = True
    try:
        with pytest.raises(MilvusException, match=f"cannot write to s3://{BUCKET}/{PREFIX}"):
            client.flush(NAME, retry_times=0, timeout=100)
        assert answers(client) == after
    finally:
        relay.is_deaf = False
    client.delete(NAME, ids=[ROWS])
    client.flush(NAME)
    assert answers(client) == before


@pytest.mark.cluster
def test_the_scrub_waits_for_the_store_and_then_mends_the_copy(stored: Server, relay: Relay) -> None:
    path = next(stored.data_dir / name for name in local_files(stored) if name.endswith(".col"))
    whole, logged = path.read_bytes(), len(stored.log)
    relay.cut_after_bytes = 0
    try:
        with path.open("r+b") as file:  # it is mapped
            file.write(bytes([whole[0] ^ 1]))
        eventually(lambda: f"{path} is damaged, and is not fetched again: cannot read" in stored.log[logged:], 60)
    finally:
        relay.cut_after_bytes = None
    eventually(lambda: path.read_bytes() == whole, 60)


@pytest.mark.one_process("it removes the server's own copies")
@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_a_load_names_the_object_that_is_lost_and_ends(
    stored: Server, objects: ObjectServer, client: MilvusClient, damage: str
) -> None:
    before = answers(client)
    lost = next(name for name in forget_copies(stored, client) if name.endswith("rows.seg"))
    key = f"{PREFIX}/{lost}"
    whole = objects.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
    if damage == "missing":
        objects.s3.delete_object(Bucket=BUCKET, Key=key)
    else:
        objects.s3.put_object(Bucket=BUCKET, Key=key, Body=whole[:-100])
    said = "missing" if damage == "missing" else "damaged"
    with pytest.raises(MilvusException, match=re.escape(f"{objects.uri(PREFIX)}/{lost} is {said}, and ")):
        client.load_collection(NAME, timeout=20)
    assert client.get_load_state(NAME)["state"].name == "NotLoad"
    assert answers(client, "other")
    eventually(lambda: "1 files are whole neither in" in reasons(stored))
    objects.s3.put_object(Bucket=BUCKET, Key=key, Body=whole)
    client.load_collection(NAME)
    assert answers(client) == before
    eventually(lambda: reasons(stored) == "", 60)


@contextmanager
def small_disk(path: Path) -> Iterator[Path]:
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(path)]
    made = subprocess.run(mount, capture_output=True, text=True, check=False)
    if made.returncode != 0:
        pytest.skip(f"a small disk cannot be mounted here: {made.stderr.strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=False)


@pytest.mark.cluster
def test_a_load_waits_for_room_on_the_disk_of_the_cache(
    objects: ObjectServer, new_server: ServerFactory, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk") as disk:
        server = new_server(env=objects.environment("tight"), data_dir=disk / "data")
        client = server.client()
        for name in (NAME, "other"):
            fill(client, name)
        before, others = answers(client), answers(client, "other")
        names = forget_copies(server, client)
        ballast = disk / "ballast"
        free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
        with ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, free - 20_000)
        client.load_collection(NAME, _async=True)
        eventually(lambda: "No space left on device" in reasons(server), 60)
        assert answers(client, "other") == others
        assert list((server.data_dir / "parts").iterdir()) == []
        ballast.unlink()
        eventually(lambda: client.get_load_state(NAME)["state"].name == "Loaded", 60)
        assert answers(client) == before
        assert sorted(local_files(server)) == sorted(objects.sizes("tight").keys()) and names
        client.close()
        server.stop()


@pytest.mark.cluster
def test_an_outage_stops_no_reads_and_its_work_goes_on_by_itself(
    tmp_path: Path, new_server: ServerFactory, objects: ObjectServer
) -> None:
    if not objects.is_lasting:
        pytest.skip("moto forgets its objects when it stops")
    own = ObjectServer(tmp_path)
    try:
        server = new_server(env=own.environment("out"))
        client = server.client()
        for name in (NAME, "other"):
            fill(client, name)
        client.insert(NAME, rows(ROWS, ROWS + 100))
        before, others = answers(client), answers(client, "other")
        client.release_collection("other")
        other = client.describe_collection("other")["collection_id"]
        shutil.rmtree(server.data_dir / "segments" / str(other))
        own.stop()
        stopped = time.monotonic()
        with pytest.raises(MilvusException, match=r"cannot write to s3://segments/out.*IO failed") as refused:
            client.flush(NAME, retry_times=0)
        assert refused.value.code == 1001
        client.load_collection("other", _async=True)
        eventually(lambda: "flush of collection stored" in reasons(server), 60)
        eventually(lambda: "load of collection other" in reasons(server), 60)
        while time.monotonic() < stopped + 30:
            assert answers(client) == before
            assert client.get_load_state("other")["state"].name == "Loading"
            time.sleep(0.5)
        own.start()
        eventually(lambda: client.get_load_state("other")["state"].name == "Loaded", 90)
        assert answers(client, "other") == others
        eventually(lambda: own.sizes("out") == local_files(server), 90)
        eventually(lambda: reasons(server) == "")
        client.close()

        own.stop()
        server.stop()
        shutil.rmtree(server.data_dir / "segments")
        server.start()
        client = server.client()
        assert client.get_load_state(NAME)["state"].name == "Loading"
        own.start()
        eventually(lambda: client.get_load_state(NAME)["state"].name == "Loaded", 90)
        assert answers(client) == before
        client.close()
    finally:
        own.stop()
