"""Collections and calls shared by the tables of test_contract.py and test_known_keys.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from conftest import Server
from grpc_calls import status_of
from pymilvus import DataType, MilvusClient, MilvusException
from rest_client import Rest

PLAIN, KEYED, ISOLATED, TWO = "contract_plain", "contract_keyed", "contract_isolated", "contract_two_vectors"
ROWS = 20
QUERY = [1.0, 0.0, 0.0, 0.0]


@dataclass
class World:
    """A server with the collections that rows read; a row that changes a collection makes its own with `fresh`."""

    server: Server
    client: MilvusClient
    rest: Rest
    made: list[str] = field(default_factory=list)

    @property
    def stub(self) -> Any:
        return self.server.stub

    def fresh(self, *, index: str = "", **more: Any) -> str:
        """A new collection: `id`, `vec` of 4, and a VARCHAR `s`."""
        name = f"contract_fresh_{len(self.made)}"
        self.made.append(name)
        make(self.client, name, index=index, load=False, **more)
        return name


def make(client: MilvusClient, name: str, *, index: str = "FLAT", load: bool = True, **more: Any) -> None:
    key_type, dim = more.pop("key", None), more.pop("dim", 4)
    schema = client.create_schema(enable_dynamic_field=more.pop("dynamic", False))
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vec", DataType.FLOAT_VECTOR, dim=dim)
    schema.add_field("s", DataType.VARCHAR, max_length=100, nullable=True)
    if key_type is not None:
        schema.add_field("key", key_type, is_partition_key=True, max_length=100)
    client.create_collection(name, schema=schema, **more)
    if index:
        add_index(client, name, "vec", index_type=index, metric_type="L2")
    if load:
        client.load_collection(name)


def add_index(client: MilvusClient, name: str, field_name: str, **params: Any) -> None:
    indexes = client.prepare_index_params()
    indexes.add_index(field_name, **params)
    client.create_index(name, indexes, sync=False)


def fill(client: MilvusClient, name: str, **columns: Callable[[int], Any]) -> None:
    rows = [
        {"id": i, "vec": [float(i), 0.0, 0.0, 0.0], **{k: value(i) for k, value in columns.items()}}
        for i in range(ROWS)
    ]
    client.insert(name, rows)


@contextmanager
def make_world(server: Server) -> Iterator[World]:
    """Its collections, those of `fresh` and their aliases are dropped at the end."""
    world = World(server, server.client(), Rest(server.uri))
    client = world.client
    make(client, PLAIN)
    fill(client, PLAIN)
    make(client, KEYED, key=DataType.INT64, num_partitions=4)
    make(client, ISOLATED, key=DataType.VARCHAR, num_partitions=4, properties={"partitionkey.isolation": True})
    fill(client, ISOLATED, key=lambda i: f"t{i % 3}")
    yield world
    for name in client.list_collections():
        if name.startswith("contract_"):
            for alias in client.list_aliases(name)["aliases"]:
                client.drop_alias(alias)
            client.drop_collection(name)
    client.close()


def answer_of(call: Callable[[World], Any], world: World) -> tuple[int, str, Any]:
    """Code, text and result; a call may raise as pymilvus does, or return a response, or REST's answer."""
    try:
        result = call(world)
    except MilvusException as error:
        return error.code, error.message, None
    if isinstance(result, dict) and "code" in result:
        return result["code"], result.get("message", ""), result.get("data")
    if hasattr(result, "DESCRIPTOR"):
        status = status_of(result)
        return status.code, status.reason, result
    return 0, "", result


def search(name: str = PLAIN, **more: Any) -> Callable[[World], Any]:
    given = {"data": [QUERY], "limit": 5, "anns_field": "vec", **more}
    return lambda world: world.client.search(name, **given)


def random_rows(count: int, dim: int) -> list[dict[str, Any]]:
    vectors = np.random.default_rng(1).normal(size=(count, dim)).astype(np.float32)
    return [{"id": i, "vec": v} for i, v in enumerate(vectors)]
