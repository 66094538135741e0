"""S3 servers of the tests, each in a process of its own: moto's, or versitygw's if MILVINE_S3_SERVER names it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import boto3
import pytest
from conftest import HOST, dies_with_parent, free_port

KEYS = {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "tests-secret"}
_START_SECONDS = 30.0
BUCKET = "segments"
VERSITYGW = "versitygw"


def find_versitygw() -> str | None:
    """The program, from the PATH or where Go installs it."""
    return shutil.which(VERSITYGW) or shutil.which(VERSITYGW, path=str(Path.home() / "go" / "bin"))


def _versitygw() -> str:
    found = find_versitygw()
    if found is None:
        pytest.skip("versitygw is missing: go install github.com/versity/versitygw/cmd/versitygw@latest")
    return found


class ObjectServer:
    """One bucket. Objects of versitygw outlive a restart, those of moto do not."""

    def __init__(self, directory: Path, kind: str | None = None, host: str = HOST) -> None:
        self._directory = directory
        self.files = directory / "objects"
        """The buckets of versitygw, as directories with a file for each object."""
        self._host = host
        self.is_lasting = (kind or os.environ.get("MILVINE_S3_SERVER")) == VERSITYGW
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.endpoint = f"http://{host}:{self._port}"
        self.start()
        self.s3.create_bucket(Bucket=BUCKET)

    @property
    def s3(self) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
        )

    def start(self) -> None:
        if self.is_lasting:
            self.files.mkdir(exist_ok=True)
            command = [_versitygw(), "--quiet", "--port", f"{self._host}:{self._port}", "posix", str(self.files)]
        else:
            command = [sys.executable, "-m", "moto.server", "-H", self._host, "-p", str(self._port)]
        keys = {"ROOT_ACCESS_KEY": "tests", "ROOT_SECRET_KEY": "tests-secret"}
        with (self._directory / "s3.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*dies_with_parent(), *command], stdout=log, stderr=log, env={**os.environ, **keys}
            )
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                socket.create_connection((self._host, self._port), 1).close()
                return
            except OSError:
                assert time.monotonic() < deadline and self._process.poll() is None, "the S3 server did not start"
                time.sleep(0.05)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def uri(self, prefix: str) -> str:
        return f"s3://{BUCKET}/{prefix}"

    def environment(self, prefix: str) -> dict[str, str]:
        """Settings and credentials of a server whose segment files are under `prefix`. Objects go after a second."""
        return {
            **KEYS,
            "MILVINE_STORE_URI": self.uri(prefix),
            "MILVINE_STORE_ENDPOINT": self.endpoint,
            "MILVINE_STORE_REGION": "us-east-1",
            "MILVINE_STORE_REMOVAL_SECONDS": "1",
        }

    def sizes(self, prefix: str, kind: str = "segments") -> dict[str, int]:
        """The segment files, or the objects of logs, under `prefix`, by name."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{prefix}/{kind}/")
        found = (one for page in pages for one in page.get("Contents", ()))
        return {one["Key"].removeprefix(f"{prefix}/"): one["Size"] for one in found}
