"""A store without credentials is told in a sentence that names what to set."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from conftest import HOST, ServerFactory

NO_METADATA = {
    "AWS_METADATA_ENDPOINT": f"http://{HOST}:1",
    "AZURE_MSI_ENDPOINT": f"http://{HOST}:1/metadata/identity/oauth2/token",
}
"""A machine outside the clouds: nothing answers where instances ask for their credentials."""
_KEYS = ("AWS_", "AZURE_", "GOOGLE_")
SENTENCE = "neither the environment nor this machine has credentials: set "
S3 = f"{SENTENCE}AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (files in ~/.aws are not read)"
AZURE = f"{SENTENCE}AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY"


def without_credentials(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_KEYS)}
    return {**kept, **NO_METADATA, **more}


@pytest.mark.parametrize(
    ("uri", "variables", "reason"),
    [
        ("s3://bucket/x", {}, S3),
        ("s3://bucket/x", {"AWS_ACCESS_KEY_ID": "alone"}, S3),
        ("az://container/x", {}, AZURE),
        ("az://container/x", {"AZURE_STORAGE_ACCOUNT_NAME": "account"}, AZURE),
    ],
)
def test_a_restore_without_credentials_says_what_to_set(uri: str, variables: dict[str, str], reason: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "milvine", "restore", uri, "never-made"],
        env=without_credentials(**variables),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("milvine: ")
    assert done.stderr.count("\n") == 1
    assert reason in done.stderr


def test_a_start_without_credentials_says_what_to_set(
    new_server: ServerFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith((*_KEYS, "MILVINE_STORE_"))]:
        monkeypatch.delenv(name)
    server = new_server(env={**NO_METADATA, "MILVINE_STORE_URI": "s3://bucket/x"}, start=False)
    server.spawn()
    assert server.process.wait(60) == 1
    assert f"milvine: cannot read from s3://bucket/x: {S3}" in server.log
