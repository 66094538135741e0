"""TIMESTAMPTZ: written in many forms, kept as one moment, answered in the zone that a read asks for."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import Server
from pymilvus import AnnSearchRequest, DataType, MilvusClient, MilvusException, RRFRanker
from rest_client import Rest
from sample_collections import add_index

ORIGIN = [0.0, 0.0]
ROWS = {1: "2025-01-31T10:00:00Z", 2: "2025-02-01 00:00:00+08", 3: "2025-03-01 12:00:00.25", 4: None}
IN_UTC = {1: "2025-01-31T10:00:00Z", 2: "2025-01-31T16:00:00Z", 3: "2025-03-01T17:00:00.25Z", 4: None}
DEFAULT = "2020-01-01T00:00:00"


def _make(client: MilvusClient, name: str) -> None:
    """id, vec of 2, at (nullable) and since (with a default), in the zone of New York; loaded, with four rows."""
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vec", DataType.FLOAT_VECTOR, dim=2)
    schema.add_field("at", DataType.TIMESTAMPTZ, nullable=True)
    schema.add_field("since", DataType.TIMESTAMPTZ, default_value=DEFAULT)
    client.create_collection(name, schema=schema, properties={"timezone": "America/New_York"})
    add_index(client, name, "vec")
    client.load_collection(name)
    client.insert(name, [{"id": i, "vec": [float(i), 0.0], "at": at} for i, at in ROWS.items()])


def _found(client: MilvusClient, name: str, text: str, **more: Any) -> list[int]:
    return [row["id"] for row in client.query(name, filter=text, output_fields=["id"], **more)]


def _moments(client: MilvusClient, name: str, **more: Any) -> dict[int, Any]:
    return {row["id"]: row["at"] for row in client.query(name, filter="id > 0", output_fields=["at"], **more)}


@pytest.mark.parametrize("flush_between", [False, True], ids=["growing", "sealed"])
def test_moments_are_answered_in_a_zone(client: MilvusClient, collection_name: str, flush_between: bool) -> None:
    _make(client, collection_name)
    if flush_between:
        client.flush(collection_name)
    assert _moments(client, collection_name, timezone="UTC") == IN_UTC
    assert _moments(client, collection_name)[3] == "2025-03-01T12:00:00.25-05:00"
    assert _moments(client, collection_name, timezone="Asia/Shanghai")[2] == "2025-02-01T00:00:00+08:00"
    parts = _moments(client, collection_name, timezone="UTC", time_fields="year, month microsecond")
    assert {i: None if part is None else list(part) for i, part in parts.items()} == {
        1: [2025, 1, 0],
        2: [2025, 1, 0],
        3: [2025, 3, 250000],
        4: None,
    }
    (hits,) = client.search(
        collection_name, [[3.0, 0.0]], anns_field="vec", limit=1, output_fields=["at", "since"], timezone="UTC"
    )
    assert hits[0]["entity"] == {"at": IN_UTC[3], "since": "2020-01-01T05:00:00Z"}
    one = AnnSearchRequest([[3.0, 0.0]], "vec", {}, 1, expr="at > ISO '2025-03-01 00:00:00'")
    (hits,) = client.hybrid_search(collection_name, [one], RRFRanker(), limit=1, output_fields=["at"])
    assert hits[0]["entity"] == {"at": "2025-03-01T12:00:00.25-05:00"}  # the SDK sends no zone
    described = {f["name"]: f for f in client.describe_collection(collection_name)["fields"]}
    assert described["since"]["default_value"].string_data == "2020-01-01T00:00:00-05:00"


@pytest.mark.parametrize("index_type", ["", "STL_SORT", "AUTOINDEX"])
def test_filters_compare_moments(client: MilvusClient, collection_name: str, index_type: str) -> None:
    _make(client, collection_name)
    if index_type:
        client.flush(collection_name)
        add_index(client, collection_name, "at", index_type)
    expected = {
        "at == ISO '2025-01-31T16:00:00Z'": [2],
        'at != iso "2025-01-31T16:00:00Z"': [1, 3],
        "at > ISO '2025-01-31T11:00:00'": [3],
        "ISO '2025-01-31T11:00:00' >= at": [1, 2],
        "at + INTERVAL 'P1D' > ISO '2025-02-01T12:00:00Z'": [2, 3],
        "at - INTERVAL 'PT6H' <= ISO '2025-01-31T10:00:00Z'": [1, 2],
        "at + interval 'P1M' == ISO '2025-03-03T10:00:00Z'": [1],
        "ISO '2025-02-01T17:00:00.25Z' == at - INTERVAL 'P1M'": [3],
        "not (at > ISO '2025-01-31T11:00:00')": [1, 2],
        "at is null": [4],
        "at > since": [1, 2, 3],
        "at in [1738317600000000, 7]": [1],
        "since < ISO '2025-01-01T00:00:00Z' and id < 3": [1, 2],
    }
    assert {text: _found(client, collection_name, text) for text in expected} == expected
    assert _found(client, collection_name, "at > ISO '2025-01-31T11:00:00'", timezone="UTC") == [2, 3]
    client.delete(collection_name, filter="at < ISO '2025-01-31 06:00:00'")
    assert _found(client, collection_name, "id > 0") == [2, 3, 4]


def test_rows_are_ordered_grouped_and_counted_by_moments(client: MilvusClient, collection_name: str) -> None:
    _make(client, collection_name)
    client.insert(collection_name, [{"id": 5, "vec": ORIGIN, "at": ROWS[1]}])
    assert _found(client, collection_name, "at is not null", limit=9, order_by_fields=["at:desc"]) == [3, 2, 1, 5]
    groups = client.query(
        collection_name,
        filter="id != 4",
        group_by_fields=["at"],
        output_fields=["at", "count(*)", "max(since)"],
        timezone="UTC",
    )
    assert sorted((g["at"], g["count(*)"], g["max(since)"]) for g in groups) == [
        (IN_UTC[1], 2, "2020-01-01T05:00:00Z"),
        (IN_UTC[2], 1, "2020-01-01T05:00:00Z"),
        (IN_UTC[3], 1, "2020-01-01T05:00:00Z"),
    ]
    (hits,) = client.search(
        collection_name, [ORIGIN], anns_field="vec", limit=5, group_by_field="at", output_fields=["at"], timezone="UTC"
    )
    assert [hit["entity"]["at"] for hit in hits] == [IN_UTC[i] for i in (1, 2, 3, 4)]


def test_a_field_is_added_and_rows_are_changed_in_part(client: MilvusClient, collection_name: str) -> None:
    _make(client, collection_name)
    client.flush(collection_name)
    client.add_collection_field(
        collection_name, "until", DataType.TIMESTAMPTZ, nullable=True, default_value="2030-01-01T00:00:00Z"
    )
    client.upsert(collection_name, [{"id": 1, "at": "2026-01-01 00:00:00"}], partial_update=True)
    rows = client.query(collection_name, filter="id in [1, 2]", output_fields=["at", "until"], timezone="UTC")
    assert [(row["at"], row["until"]) for row in rows] == [
        ("2026-01-01T05:00:00Z", "2030-01-01T00:00:00Z"),
        (IN_UTC[2], "2030-01-01T00:00:00Z"),
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("id > ISO '2025-01-01T00:00:00Z'", "field 'id' is not a timestamptz datatype"),
        ("at > ISO 'soon'", "invalid timestamp string: 'soon'. Does not match any known format"),
        ("at + INTERVAL 'P1W' > ISO '2025-01-01T00:00:00Z'", "invalid ISO 8601 duration: P1W"),
        ("at * INTERVAL 'P1D' > ISO '2025-01-01T00:00:00Z'", "invalid expression"),
        ("at > INTERVAL 'P1D'", "invalid expression"),
        ("at > '2025-01-01T00:00:00Z'", "comparisons between Timestamptz and VarChar are not supported"),
        ("at + 1 > 2", ""),
    ],
)
def test_bad_filters_are_refused(client: MilvusClient, collection_name: str, text: str, reason: str) -> None:
    _make(client, collection_name)
    with pytest.raises(MilvusException) as raised:
        _found(client, collection_name, text)
    assert raised.value.code == 1100
    assert reason in raised.value.message


def test_bad_values_and_settings_are_refused(client: MilvusClient, collection_name: str) -> None:
    _make(client, collection_name)
    for row, reason in (
        ({"at": "soon"}, "got invalid timestamptz string 'soon'"),
        ({"at": "2025-01-01T00:00:00+15:00"}, "got invalid timestamptz string '2025-01-01T00:00:00+15:00'"),
    ):
        with pytest.raises(MilvusException, match="(?s)1100.*" + reason.replace("+", r"\+")):
            client.insert(collection_name, [{"id": 9, "vec": ORIGIN, **row}])
    with pytest.raises(MilvusException, match="unsupported field for extraction: century"):
        _moments(client, collection_name, time_fields="century")
    with pytest.raises(MilvusException, match="unknown or invalid IANA Time Zone ID: Mars"):
        _moments(client, collection_name, timezone="Mars")
    with pytest.raises(MilvusException, match="INVERTED are not supported on Timestamptz field"):
        add_index(client, collection_name, "at", "INVERTED")
    with pytest.raises(MilvusException, match="bitmap index are only supported on bool"):
        add_index(client, collection_name, "at", "BITMAP")
    with pytest.raises(MilvusException, match="ttl_field is not supported by this version"):
        client.alter_collection_properties(collection_name, {"ttl_field": "at"})
    assert len(_moments(client, collection_name)) == len(ROWS)


def test_rest_reads_and_writes_texts(server: Server, client: MilvusClient, collection_name: str) -> None:
    _make(client, collection_name)
    rest = Rest(server.uri)
    name = {"collectionName": collection_name}
    rest.ok("entities/insert", {**name, "data": [{"id": 7, "vec": ORIGIN, "at": "2025-07-01 12:00:00"}]})
    found = rest.ok("entities/query", {**name, "filter": "id in [4, 7]", "outputFields": ["at", "since"]})
    assert found == [
        {"id": 4, "at": None, "since": "2020-01-01T00:00:00-05:00"},
        {"id": 7, "at": "2025-07-01T12:00:00-04:00", "since": "2020-01-01T00:00:00-05:00"},
    ]
    rest.session.close()
