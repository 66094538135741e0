"""MINHASH_LSH through pymilvus: signatures that share a band, and their similarity."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conftest import ServerFactory
from pymilvus import DataType, MilvusClient, MilvusException
from sample_collections import add_index, refused_index, wait_indexed

Array = np.ndarray[Any, Any]
HASHES, BANDS, K = 32, 8, 20
ROWS, GROUP = 5000, 25
"""Half of them, as a filter keeps, are too many to be scanned instead."""
DIM = 32 * HASHES
WIDTHS = [8, 24, 32, 64, 256]


def _signatures(count: int, seed: int, width: int = 32) -> Array:
    """uint8 (count, bytes): groups of 25 rows that differ in up to half of the hashes of their first."""
    random = np.random.default_rng(seed)
    size = width // 8
    hashes = random.integers(256, size=(count, HASHES, size), dtype=np.uint8)
    first = hashes[np.arange(count) // GROUP * GROUP]
    is_kept = random.random((count, HASHES)) >= random.random((count, 1)) / 2
    is_kept[::GROUP] = True
    return np.where(is_kept[:, :, None], first, hashes).reshape(count, -1)


def _equal(rows: Array, query: Array, width: int = 32) -> Array:
    """bool (n, hashes)."""
    size = width // 8
    same: Array = np.all(rows.reshape(len(rows), -1, size) == query.reshape(-1, size), axis=2)
    return same


def _shares_band(rows: Array, query: Array, width: int = 32) -> Array:
    equal = _equal(rows, query, width).reshape(len(rows), BANDS, -1)
    bands: Array = np.any(np.all(equal, axis=2), axis=1)
    return bands


def _make(client: MilvusClient, name: str, width: int = 32, index_type: str = "MINHASH_LSH", **params: Any) -> None:
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("bits", DataType.BINARY_VECTOR, dim=HASHES * width)
    client.create_collection(name, schema=schema)
    if index_type == "MINHASH_LSH":
        params = {"mh_lsh_band": BANDS, "mh_element_bit_width": width, **params}
    add_index(client, name, "bits", index_type, "MHJACCARD", **params)
    client.load_collection(name)


def _insert(client: MilvusClient, name: str, start: int, rows: Array) -> None:
    client.insert(name, [{"id": start + i, "bits": row.tobytes()} for i, row in enumerate(rows)])


def _index(client: MilvusClient, name: str) -> None:
    """Searches of all rows use the index from now on."""
    client.flush(name)
    wait_indexed(client, name, "bits", ROWS)
    client.release_collection(name)
    client.load_collection(name)


def _search(client: MilvusClient, name: str, query: Array, filter: str = "", **params: Any) -> dict[int, float]:
    (found,) = client.search(
        name, [query.tobytes()], anns_field="bits", limit=K, filter=filter, search_params={"params": params}
    )
    assert [hit["distance"] for hit in found] == sorted((hit["distance"] for hit in found), reverse=True)
    return {hit["id"]: hit["distance"] for hit in found}


def _check(client: MilvusClient, name: str, rows: Array, width: int, is_indexed: bool) -> None:
    """Hits are as many as there are rows that share a band, and the most similar ones have their similarity."""
    for text, is_allowed in (("", np.ones(len(rows), np.bool_)), ("id % 2 == 0", np.arange(len(rows)) % 2 == 0)):
        for number in (0, 7, 5 * GROUP):
            query = rows[number]
            is_hit = _shares_band(rows, query, width) & is_allowed
            found = _search(client, name, query, text)
            assert set(found.values()) <= {1.0}
            assert is_hit[list(found)].all()
            assert len(found) == min(K, is_hit.sum())
            shares = _equal(rows, query, width).mean(axis=1)
            similar = _search(client, name, query, text, mh_search_with_jaccard=True, refine_k=50)
            candidates = is_hit if is_indexed else is_allowed & (shares > 0)
            assert np.allclose(list(similar.values()), np.sort(shares[candidates])[::-1][:K], atol=1e-6)
            assert np.allclose([shares[i] for i in similar], list(similar.values()), atol=1e-6)


@pytest.mark.parametrize("width", WIDTHS)
def test_growing_and_indexed_rows_that_share_a_band_are_found(client: MilvusClient, width: int) -> None:
    name = f"minhash_{width}"
    rows = _signatures(ROWS, 1, width)
    _make(client, name, width)
    _insert(client, name, 0, rows[: ROWS // 2])
    _check(client, name, rows[: ROWS // 2], width, is_indexed=False)
    _insert(client, name, ROWS // 2, rows[ROWS // 2 :])
    _index(client, name)
    _check(client, name, rows, width, is_indexed=True)
    client.delete(name, ids=[0, 1, 2])
    assert not {0, 1, 2} & _search(client, name, rows[0]).keys()
    client.drop_collection(name)


def test_rows_without_a_common_band_are_no_hits(client: MilvusClient) -> None:
    rows = _signatures(ROWS, 2)
    _make(client, "minhash_none")
    _insert(client, "minhash_none", 0, rows)
    stranger = _signatures(1, 3)[0]
    assert _search(client, "minhash_none", stranger) == {}
    _index(client, "minhash_none")
    assert _search(client, "minhash_none", stranger) == {}
    assert _search(client, "minhash_none", stranger, mh_search_with_jaccard=True) == {}
    client.drop_collection("minhash_none")


def test_autoindex_takes_the_whole_signature_as_its_one_band(client: MilvusClient) -> None:
    rows = _signatures(ROWS, 4)
    rows[1] = rows[0]
    _make(client, "minhash_auto", index_type="AUTOINDEX")
    _insert(client, "minhash_auto", 0, rows)
    for _ in range(2):
        assert _search(client, "minhash_auto", rows[0]) == {0: 1.0, 1: 1.0}
        _index(client, "minhash_auto")
    client.drop_collection("minhash_auto")


def test_equal_signatures_fill_the_answer(client: MilvusClient) -> None:
    rows = np.repeat(_signatures(1, 5), ROWS, axis=0)
    _make(client, "minhash_equal")
    _insert(client, "minhash_equal", 0, rows)
    _index(client, "minhash_equal")
    assert len(_search(client, "minhash_equal", rows[0])) == K
    assert len(_search(client, "minhash_equal", rows[0], "id < 7")) == 7
    client.drop_collection("minhash_equal")


def test_a_mapped_index_gives_the_same_answers_after_a_restart(new_server: ServerFactory) -> None:
    server = new_server()
    client = server.client()
    rows = _signatures(ROWS, 6)
    _make(client, "minhash_mapped", mh_lsh_code_in_mem=False)
    _insert(client, "minhash_mapped", 0, rows)
    _index(client, "minhash_mapped")
    before = _search(client, "minhash_mapped", rows[0], mh_search_with_jaccard=True)
    client.release_collection("minhash_mapped")
    client.alter_index_properties("minhash_mapped", "bits", properties={"mmap.enabled": True})
    server.stop()
    client = server.start().client()
    client.load_collection("minhash_mapped")
    assert _search(client, "minhash_mapped", rows[0], mh_search_with_jaccard=True) == before


@pytest.mark.parametrize(
    ("metric", "params", "text"),
    [
        ("HAMMING", {}, "metric type HAMMING not found or not supported, supported: [MHJACCARD]"),
        ("MHJACCARD", {"mh_element_bit_width": 4}, "'mh_element_bit_width' (4) should be in range [8, 256]"),
        ("MHJACCARD", {"mh_element_bit_width": 12}, "'mh_element_bit_width' (12) should be a multiple of 8"),
        ("MHJACCARD", {"mh_element_bit_width": 48}, "dim (1024) of field bits should be a multiple of"),
        ("MHJACCARD", {"mh_lsh_band": "many"}, "invalid integer value, key: 'mh_lsh_band', value: 'many'"),
        ("MHJACCARD", {"mh_lsh_aligned_block_size": 1}, "(1) should be in range [4096, 2147483647]"),
        ("MHJACCARD", {"mh_lsh_bloom_false_positive_prob": 2}, "should be in range [0.000000, 1.000000]"),
        ("MHJACCARD", {"with_raw_data": "maybe"}, "param 'with_raw_data' (\"maybe\") should be a boolean"),
    ],
)
def test_an_index_whose_parameters_do_not_fit_is_refused(
    client: MilvusClient, metric: str, params: dict[str, Any], text: str
) -> None:
    refused = refused_index(client, "bits", DataType.BINARY_VECTOR, "MINHASH_LSH", metric, dim=DIM, **params)
    assert refused.code == 1100
    assert text in refused.message


def test_other_index_types_refuse_the_metric(client: MilvusClient) -> None:
    for index_type in ("BIN_FLAT", "BIN_IVF_FLAT", "HNSW"):
        with pytest.raises(MilvusException, match="metric type MHJACCARD not found or not supported"):
            _make(client, "minhash_other", index_type=index_type)
        client.drop_collection("minhash_other")


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"radius": 0.5}, "minhash not support range search."),
        ({"refine_k": 0}, "Out of range in json: param 'refine_k' (0) should be in range [1, 2147483647]"),
        ({"mh_search_with_jaccard": "yes"}, "param 'mh_search_with_jaccard' (\"yes\") should be a boolean"),
        ({"mh_lsh_batch_search": 1}, "param 'mh_lsh_batch_search' (1) should be a boolean"),
    ],
)
def test_a_search_that_does_not_fit_is_refused(client: MilvusClient, params: dict[str, Any], text: str) -> None:
    _make(client, "minhash_search")
    with pytest.raises(MilvusException) as refused:
        _search(client, "minhash_search", _signatures(1, 7)[0], **params)
    assert text in refused.value.message
    client.drop_collection("minhash_search")
