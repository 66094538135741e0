"""Failures of an object store: each has a clear sentence, and nothing is lost."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest
from conftest import ServerFactory
from object_servers import ObjectServer
from pymilvus import MilvusException
from stored_rows import NAME, ROWS, answers, eventually, fill, local_files, reasons, rows


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
