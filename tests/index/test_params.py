"""Index parameters: defaults, ranges and Milvus's texts."""

from __future__ import annotations

import pytest

from milvine.errors import ParameterInvalid, UnexpectedError
from milvine.index.base import Effort
from milvine.index.index_type import DEFAULT_EF
from milvine.index.params import BoolParam, ChoiceParam, IntParam
from milvine.index.registry import TYPES
from milvine.index.vector_params import resolve
from milvine.model.schema import FieldSchema
from milvine.model.types import DataType, MetricType

VECTOR = FieldSchema(101, "vec", DataType.FLOAT_VECTOR, dim=8)
HNSW = {"index_type": "HNSW", "metric_type": "L2"}


def effort(name: str, build_params: dict[str, object], given: dict[str, object], k: int) -> Effort:
    return TYPES[name].effort(build_params, given, k, DataType.FLOAT_VECTOR)


def refused(given: dict[str, str]) -> str:
    with pytest.raises(ParameterInvalid) as caught:
        resolve(VECTOR, given)
    return caught.value.message


def test_the_default_is_autoindex_with_cosine_built_as_a_light_hnsw() -> None:
    found = resolve(VECTOR, {})
    assert (found.index_type, found.metric_type, found.build_type) == ("AUTOINDEX", MetricType.COSINE, "HNSW")
    assert found.build_params == {"M": 16, "efConstruction": 100, "ef": 88}
    assert found.user_params == {"index_type": "AUTOINDEX", "metric_type": "COSINE"}


def test_autoindex_holds_codes_where_memory_is_to_be_saved() -> None:
    found = resolve(VECTOR, {}, saves_memory=True)
    assert (found.index_type, found.build_type, found.build_params["sq_type"]) == ("AUTOINDEX", "HNSW_SQ", "sq8")
    bits = FieldSchema(101, "vec", DataType.BINARY_VECTOR, dim=64)
    assert resolve(bits, {}, saves_memory=True).build_type == resolve(bits, {}).build_type


def test_autoindex_of_bits_scans_them() -> None:
    bits = FieldSchema(101, "vec", DataType.BINARY_VECTOR, dim=64)
    for metric in ("HAMMING", "JACCARD"):
        assert resolve(bits, {"metric_type": metric}).build_type == "BIN_FLAT"
    with pytest.raises(
        ParameterInvalid, match=r"SUBSTRUCTURE not found or not supported, supported: \[HAMMING JACCARD\]"
    ):
        resolve(bits, {"metric_type": "SUBSTRUCTURE"})


def test_autoindex_has_an_effort_of_its_own_which_a_given_one_replaces() -> None:
    built = resolve(VECTOR, {}).build_params
    assert effort("HNSW", built, {}, 10).ef == 88
    assert effort("HNSW", built, {"ef": 30}, 10).ef == 30
    assert effort("HNSW", built, {}, 500).ef == 512
    assert effort("BIN_IVF_FLAT", {"nlist": 1024, "nprobe": 64}, {}, 10).nprobe == 64


def test_hnsw_has_milvus_defaults_and_keeps_given_values() -> None:
    assert resolve(VECTOR, HNSW).build_params == {"M": 30, "efConstruction": 360}
    given = {"index_type": "HNSW", "metric_type": "l2", "M": "8", "mmap.enabled": "true"}
    found = resolve(VECTOR, given)
    assert found.build_params == {"M": 8, "efConstruction": 360}
    assert found.metric_type is MetricType.L2
    assert found.user_params == given


@pytest.mark.parametrize(("name", "low", "high"), [("M", 2, 2048), ("efConstruction", 1, 2**31 - 1)])
def test_parameter_ranges_include_their_ends(name: str, low: int, high: int) -> None:
    for value in (low, high):
        assert resolve(VECTOR, {**HNSW, name: str(value)}).build_params[name] == value
    for value in (low - 1, high + 1, -5):
        assert refused({**HNSW, name: str(value)}) == (
            f"Out of range in json: param '{name}' ({value}) should be in range [{low}, {high}]: invalid parameter"
        )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("abc", "invalid integer value, key: 'M', value: 'abc'"),
        ("", "invalid integer value, key: 'M', value: ''"),
        ("16.0", "wrong data type in json, key: 'M', value: '16.0'"),
        ("1.5e1", "wrong data type in json, key: 'M', value: '1.5e1'"),
    ],
)
def test_a_parameter_that_is_not_an_integer_is_refused_with_milvus_text(text: str, message: str) -> None:
    assert refused({**HNSW, "M": text}) == f"{message}: invalid parameter"


def test_parameters_of_older_sdks_come_nested_in_json() -> None:
    given = {**HNSW, "params": '{"M": 24, "efConstruction": "99"}'}
    found = resolve(VECTOR, given)
    assert found.build_params == {"M": 24, "efConstruction": 99}
    assert found.user_params == given, "it is described as given"
    assert "failed to unmarshal" in refused({**HNSW, "params": "{"})


def test_unknown_types_and_metrics_are_refused() -> None:
    assert refused({"index_type": "NOPE"}) == (
        "invalid parameter[expected=valid index][actual=invalid index type: NOPE]"
    )
    assert refused({"metric_type": "HAMMING"}).startswith("float vector index does not support metric type: HAMMING")
    assert refused({"index_type": "AUTOINDEX", "M": "16"}).startswith("only metric type can be passed")
    assert refused({"index_type": "INVERTED", "metric_type": "L2"}).startswith(
        "data type FloatVector can't build with this index INVERTED"
    )


def test_the_default_ef_is_a_step_from_64_on_and_ef_must_not_be_below_k() -> None:
    def ef(given: dict[str, object], k: int) -> int:
        return effort("HNSW", {}, given, k).ef

    assert ef({}, 10) == DEFAULT_EF == 64
    assert [ef({}, k) for k in (1, 64, 65, 128, 129, 500, 16384)] == [64, 64, 128, 128, 256, 512, 16384]
    assert ef({"ef": 100}, 100) == 100
    assert ef({"ef": "77"}, 10) == 77
    with pytest.raises(UnexpectedError, match=r"ef\(9\) should be larger than k\(10\)"):
        ef({"ef": 9}, 10)
    for value in (0, -1, 2**31):
        with pytest.raises(UnexpectedError, match="Out of range in json: param 'ef'"):
            ef({"ef": value}, 1)
    for other in ("x", 1.5, True, [1], None):
        with pytest.raises(UnexpectedError, match=r"param 'ef'.*should be integer"):
            ef({"ef": other}, 1)


def test_parameters_of_other_index_types_are_ignored() -> None:
    given: dict[str, object] = {"ef": "silly", "nprobe": None, "refine_k": [], "reorder_k": 0}
    assert effort("IVF_FLAT", {}, {**given, "nprobe": 99}, 10).nprobe == 99
    assert effort("HNSW_PQ", {}, {"ef": 1}, 10).ef >= 10, "this type accepts it"


def test_a_graph_computes_exact_distances_of_all_rows_that_it_finds() -> None:
    for build_type in ("HNSW", "HNSW_SQ", "HNSW_PQ"):
        for k in (1, 60, 100):
            found = effort(build_type, {}, {"ef": 100}, k)
            assert (found.ef, found.candidates) == (100, 100), "otherwise pages would be slices of different lists"
    assert effort("HNSW_SQ", {"refine": True}, {"ef": 100, "refine_k": "7.5"}, 10).candidates == 750
    assert effort("HNSW_SQ", {"refine": False}, {"ef": 100, "refine_k": 7.5}, 10).candidates == 100
    assert effort("HNSW", {}, {"refine_k": 7.5}, 10).candidates == 64


def test_indexes_of_codes_return_a_multiple_of_k_candidates() -> None:
    assert [effort("IVF_SQ8", {}, {}, k).candidates for k in (1, 32, 33, 64, 65)] == [64, 64, 128, 128, 256]
    assert [effort("HNSW_PQ", {}, {}, k).ef for k in (1, 16, 17, 33)] == [64, 64, 128, 256]
    assert effort("SCANN", {}, {"reorder_k": 33}, 10).candidates == 33


VALID: dict[str, dict[str, str]] = {"IVF_PQ": {"m": "4"}, "FAISS": {"faiss_index_name": "Flat"}, "HNSW_PQ": {"m": "4"}}
"""Parameters that are required, or whose default does not fit the field."""
DENSE = [name for name, t in TYPES.items() if DataType.FLOAT_VECTOR in t.data_types]


@pytest.mark.parametrize("name", DENSE)
def test_each_type_refuses_parameters_that_do_not_fit_in_milvus_words(name: str) -> None:
    given = {"index_type": name, "metric_type": "IP", **VALID.get(name, {})}
    assert resolve(VECTOR, given).build_type == name
    for key, rule in TYPES[name].params.items():
        if isinstance(rule, IntParam):
            for value in (rule.low - 1, rule.high + 1):
                wanted = f"Out of range in json: param '{key}' ({value}) should be in range [{rule.low}, {rule.high}]"
                assert refused({**given, key: str(value)}) == f"{wanted}: invalid parameter"
            assert refused({**given, key: "128.0"}).startswith("wrong data type in json")
            for text in ("True", "[128]"):
                wanted = f"invalid integer value, key: '{key}', value: '{text}': invalid parameter"
                assert refused({**given, key: text}) == wanted
        elif isinstance(rule, BoolParam):
            assert f"param '{key}' (\"1\") should be a boolean" in refused({**given, key: "1"})
        elif isinstance(rule, ChoiceParam):
            assert refused({**given, key: "INT8"}) == f"{rule.refusal.format('INT8')}: invalid parameter"
    assert resolve(VECTOR, {**given, "unknown_param": "nothing"}).build_type == name


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("data_type", [t for t in DataType if t.is_vector], ids=lambda t: t.name)
def test_each_type_takes_the_kinds_of_vectors_that_it_names(name: str, data_type: DataType) -> None:
    if data_type in TYPES[name].data_types:
        return
    with pytest.raises(ParameterInvalid) as caught:
        resolve(FieldSchema(101, "vec", data_type, dim=8), {"index_type": name, "metric_type": "L2"})
    assert caught.value.message.startswith(f"data type {data_type.milvus_name} can't build with this index {name}")


@pytest.mark.parametrize("name", ["GPU_CAGRA", "GPU_IVF_FLAT", "GPU_IVF_PQ", "GPU_BRUTE_FORCE"])
def test_index_types_that_need_a_gpu_are_unknown(name: str) -> None:
    expected = f"invalid parameter[expected=valid index][actual=invalid index type: {name}]"
    assert refused({"index_type": name, "metric_type": "L2"}) == expected


@pytest.mark.parametrize(
    "text",
    ["Flat", "IVF64,Flat", "HNSW16,Flat", "OPQ4,IVF64,PQ4x4", "IVF64,PQ8x4,RFlat", "PQ8x4", "HNSW32_PQ8", "IVF64,SQ8"],
)
def test_texts_of_faiss_factory_make_an_index(text: str) -> None:
    given = {"index_type": "FAISS", "metric_type": "L2", "faiss_index_name": text}
    assert resolve(VECTOR, given).build_params == {"faiss_index_name": text}


@pytest.mark.parametrize(
    "text",
    ["", "nothing", "PQ0", "PQ3", "PQ8x30", "IVF0,Flat", "IVF1000000,Flat", "HNSW0", "IVF64", "Flat,Flat", "BFlat"],
)
def test_texts_that_faiss_factory_cannot_use_are_refused(text: str) -> None:
    given = {"index_type": "FAISS", "metric_type": "L2", "faiss_index_name": text}
    assert refused(given).startswith(f"invalid faiss_index_name: {text}")
