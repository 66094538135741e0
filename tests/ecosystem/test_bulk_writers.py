"""The bulk writers of pymilvus: files of every kind, on this machine and in an object store, are imported unchanged."""

from __future__ import annotations

import subprocess
from pathlib import Path

import boto3
import pytest
from conftest import HOST, ServerFactory
from environments import installer
from moto.server import ThreadedMotoServer

PROGRAM = Path(__file__).parent / "sources" / "bulk_writers.py"
BUCKET = "files"
KEYS = {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "tests-secret"}


@pytest.mark.ecosystem
@pytest.mark.timeout(1200)
def test_files_of_bulk_writers_are_imported(
    new_server: ServerFactory, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    interpreter = installer(lambda: tmp_path_factory.mktemp("writers"))(["pymilvus[bulk-writer]==3.0.2"])
    store = ThreadedMotoServer(HOST, 0)
    store.start()
    try:
        address = "{}:{}".format(*store.get_host_and_port())
        boto3.client(
            "s3",
            endpoint_url=f"http://{address}",
            region_name="us-east-1",
            aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
        ).create_bucket(Bucket=BUCKET)
        env = {
            **KEYS,
            "MILVINE_IMPORT_PATH": f"{tmp_path},s3://{BUCKET}",
            "MILVINE_STORE_ENDPOINT": f"http://{address}",
            "MILVINE_STORE_REGION": "us-east-1",
        }
        server = new_server(env=env)
        command = [interpreter, str(PROGRAM), server.uri, str(tmp_path), address, BUCKET]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
        assert done.returncode == 0, done.stdout + done.stderr
    finally:
        store.stop()
