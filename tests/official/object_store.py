"""The object store that cases expect: an S3 server (moto) at port 9000, with the bucket and the keys of their MinIO."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3

PORT = 9000
"""The cases know no other. So that several runs do not meet, each takes a loopback address of its own."""
BUCKET = "milvus-bucket"
_CLAIM_PORT = 8999
"""Held by a run for as long as the address is its own, since a store takes seconds to start."""
_KEY = "minioadmin"
_START_SECONDS = 60.0
_ADDRESSES = 200


@contextmanager
def object_store(log_file: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """The host of the store, and the settings and keys of a server whose segment files are there."""
    claim, host = _free_host()
    with claim, log_file.open("w") as log:
        command = [sys.executable, "-m", "moto.server", "-H", host, "-p", str(PORT)]
        store = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            _wait(host, store)
            keys = {"aws_access_key_id": _KEY, "aws_secret_access_key": _KEY}
            endpoint = f"http://{host}:{PORT}"
            boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", **keys).create_bucket(Bucket=BUCKET)
            yield (
                host,
                {
                    "MILVINE_STORE_URI": f"s3://{BUCKET}",
                    "MILVINE_STORE_ENDPOINT": endpoint,
                    "MILVINE_STORE_REGION": "us-east-1",
                    **{name.upper(): key for name, key in keys.items()},
                },
            )
        finally:
            store.terminate()
            store.wait(30)


def _free_host() -> tuple[socket.socket, str]:
    """A socket that holds an address, and the address."""
    for number in range(1, _ADDRESSES):
        host = f"127.0.0.{number}"
        claim = socket.socket()
        with socket.socket() as probe:
            try:
                claim.bind((host, _CLAIM_PORT))
                probe.bind((host, PORT))
            except OSError:
                claim.close()
                continue
            return claim, host
    raise SystemExit(f"port {PORT} is taken at all loopback addresses")


def _wait(host: str, store: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            socket.create_connection((host, PORT), 1).close()
            return
        except OSError:
            if time.monotonic() > deadline or store.poll() is not None:
                raise SystemExit("the object store of the tests did not start") from None
            time.sleep(0.1)
