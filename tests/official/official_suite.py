"""Runs cases of Milvus's own Python client tests against a fresh Milvine and prints two pass rates.

usage: official_suite.py --tests DIR --python VENV_PYTHON [--sets engine filters ...] [--tags L0 L1] [--out DIR]

`--tests` is `tests/python_client` of a Milvus checkout, `--python` the interpreter of an environment with that folder's
requirements. Cases that cannot pass are listed in exclusions.txt with the reason; the second rate leaves them out.
"""

from __future__ import annotations

import argparse
import fnmatch
import os
import re
import signal
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from object_store import BUCKET, object_store
from text_embeddings import text_embeddings

HERE = Path(__file__).parent
REST = "../restful_client_v2/testcases"
SETS: dict[str, tuple[tuple[str, str], ...]] = {
    # (file or folder, -k expression)
    "engine": (
        ("milvus_client/test_milvus_client_e2e.py", ""),
        ("milvus_client/test_milvus_client_range_search.py", ""),
        ("milvus_client/test_milvus_client_search_pagination.py", ""),
        ("testcases/test_compaction.py", ""),
        ("testcases/test_large_topk.py", ""),
        ("milvus_client/test_milvus_client_collection.py", ""),
        ("milvus_client/test_milvus_client_index.py", ""),
        ("milvus_client/test_milvus_client_insert.py", ""),
        ("milvus_client/test_milvus_client_upsert.py", ""),
        ("milvus_client/test_milvus_client_partial_update.py", ""),
        ("milvus_client/test_milvus_client_partial_update_array_op.py", ""),
        ("milvus_client/test_drop_field_feature.py", "disable_dynamic"),
        ("testcases/indexes/test_diskann.py", ""),
        ("testcases/indexes/test_faiss.py", ""),
        ("testcases/indexes/test_ivf_rabitq.py", ""),
        ("testcases/indexes/test_hnsw.py", ""),
        ("testcases/indexes/test_hnsw_sq.py", ""),
        ("testcases/indexes/test_hnsw_pq.py", ""),
        ("testcases/indexes/test_hnsw_prq.py", ""),
        ("testcases/indexes/test_ngram.py", ""),
        ("testcases/indexes/test_fmindex.py", ""),
    ),
    "filters": (
        ("milvus_client/test_milvus_client_regex_filter.py", ""),
        ("milvus_client/test_milvus_client_timestamptz.py", ""),
        ("milvus_client/expressions/test_filtering_expression_matrix.py", ""),
    ),
    "loading": (
        ("milvus_client/test_milvus_client_search_load.py", ""),
        ("milvus_client/test_milvus_client_partition.py", "load or Load or release or Release"),
        ("milvus_client/test_milvus_client_alias.py", ""),
        ("milvus_client/test_milvus_client_database.py", ""),
        ("testcases/test_utility.py", "load or Load or release or Release"),
        ("testcases/test_field_partial_load.py", ""),
        ("milvus_client/test_milvus_client_alter_warmup.py", ""),
    ),
    "vectors": (
        ("milvus_client/test_milvus_client_search.py", ""),
        ("milvus_client/test_milvus_client_search_v2.py", ""),
        ("milvus_client/test_milvus_client_sparse_search.py", ""),
        ("milvus_client/test_milvus_client_search_boost_ranker.py", ""),
        ("testcases/test_function_chain.py", "not xgboost"),
        ("milvus_client/test_milvus_client_sparse_inverted_index.py", ""),
    ),
    "reads": (
        ("milvus_client/test_milvus_client_search_order.py", ""),
        ("milvus_client/test_milvus_client_search_aggregation.py", ""),
        ("milvus_client/test_milvus_client_query_order.py", ""),
        ("testcases/test_query_aggregation.py", ""),
        ("milvus_client/test_milvus_client_search_iterator.py", ""),
        ("milvus_client/test_milvus_client_search_iterator_v2.py", ""),
        ("milvus_client/test_milvus_client_search_none_default.py", ""),
        ("milvus_client/test_milvus_client_search_group_by.py", ""),
        ("milvus_client/test_milvus_client_hybrid_search.py", ""),
        ("milvus_client/test_milvus_client_search_reranker.py", ""),
        ("milvus_client/test_milvus_client_function_chain.py", "not xgboost"),
    ),
    "text": (
        ("milvus_client/test_milvus_client_analyzer.py", ""),
        ("testcases/test_full_text_search.py", ""),
        ("milvus_client/test_milvus_client_search_text_match.py", ""),
        ("testcases/test_phrase_match.py", ""),
        ("milvus_client/test_milvus_client_highlighter.py", ""),
        ("milvus_client/test_milvus_client_minhash.py", "not BulkImport"),
        ("milvus_client/test_add_function_field_feature.py", ""),
        ("milvus_client/test_milvus_client_pinyin_filter.py", ""),
    ),
    "objects": (
        ("milvus_client/test_milvus_client_file_resource.py", "not RBAC"),
        ("milvus_client/test_milvus_client_minhash.py", "BulkImport"),
        ("milvus_client/test_milvus_client_function_chain.py", "xgboost"),
        ("testcases/test_function_chain.py", "xgboost"),
    ),
    "data": (("milvus_client/test_milvus_client_snapshot.py", "not TestMilvusClientSnapshotRbac"),),
    "imports": (("testcases/test_bulk_insert.py", ""),),
    "rest-imports": (
        (f"{REST}/test_jobs_operation.py", ""),
        (f"{REST}/test_import_2pc_operation.py", ""),
    ),
    "roles": (
        ("milvus_client/test_milvus_client_rbac.py", ""),
        ("testcases/test_connection.py", "test_connect_with_default_user_password"),
        ("milvus_client/test_milvus_client_snapshot.py", "TestMilvusClientSnapshotRbac"),
        ("milvus_client/test_milvus_client_file_resource.py", "TestMilvusClientFileResourceRBAC"),
    ),
}
OF_SERVED_TYPES = frozenset({"milvus_client/test_milvus_client_search_group_by.py"})
"""The files whose shared setup makes a field of each type, which `served_types.py` changes."""
WITH_AUTHORIZATION = frozenset({"roles"})
"""The sets whose server requires users, and whose cases have the tag RBAC."""
WITH_OBJECTS = frozenset({"objects", "imports", "rest-imports"})
"""The sets whose cases put files into the object store of the server, and call an embedding model."""


def exclusions() -> list[tuple[str, str]]:
    """(pattern over `FILE::Class::case`, reason) of each line."""
    lines = (HERE / "exclusions.txt").read_text().splitlines()
    found = [re.split(r"\s{2,}", line.strip(), maxsplit=1) for line in lines if line.strip() and line[0] != "#"]
    return [(pattern, reason) for pattern, reason in found]


def exclusion_of(case: str, excluded: list[tuple[str, str]]) -> tuple[str, str]:
    """(pattern, reason) by which a case is excluded, or two blanks; brackets of parameters are no character classes."""
    for pattern, reason in excluded:
        if fnmatch.fnmatchcase(case, pattern.replace("[", "[[]")):
            return pattern, reason
    return "", ""


def outcome(case: ElementTree.Element) -> str:
    if case.find("failure") is not None or case.find("error") is not None:
        return "failed"
    return "skipped" if case.find("skipped") is not None else "passed"


def case_name(case: ElementTree.Element) -> str:
    """`test_file.py::Class::name[parameters]`, without the folders."""
    parts = (case.get("classname") or "").split(".")
    start = next(i for i, part in enumerate(parts) if part.startswith("test_"))
    return "::".join([f"{parts[start]}.py", *parts[start + 1 :], case.get("name") or ""])


@dataclass(frozen=True)
class Addresses:
    """Of the server of a set, of its object store and of its embedding model, if it has them."""

    port: int
    store_host: str | None
    embeddings: str | None


def run_file(
    options: argparse.Namespace, addresses: Addresses, path: str, wanted: str, report: Path
) -> list[ElementTree.Element]:
    command = [options.python, "-m", "pytest", "-p", "no:cacheprovider", "-q", "--tags", *options.tags]
    address = f"http://127.0.0.1:{addresses.port}"
    command += ["--token", "root:Milvus"]
    is_rest = path.startswith(REST)
    if is_rest:
        command += ["--endpoint", address]
    else:
        command += ["--uri", address, "--host", "127.0.0.1", "--port", str(addresses.port)]
    if addresses.store_host is not None:
        command += ["--minio_host", addresses.store_host, "--bucket_name" if is_rest else "--minio_bucket", BUCKET]
    if addresses.embeddings is not None:
        command += ["--tei_endpoint", addresses.embeddings]
    if options.workers > 1:
        command += ["-n", str(options.workers)]
    command += ["--timeout", "600", "-o", "timeout_method=signal", "--show-capture=no", "--tb=line"]
    environment = dict(os.environ)
    if path in OF_SERVED_TYPES:
        command += ["-p", "served_types"]
        environment["PYTHONPATH"] = str(HERE)
    # Each suite has its own folder, whose settings pytest reads.
    root = Path(options.tests, "../restful_client_v2" if is_rest else ".").resolve()
    file = Path(options.tests, path).resolve().relative_to(root)
    command += [f"--junitxml={report}", str(file), *(["-k", wanted] if wanted else [])]
    with (
        report.with_suffix(".txt").open("w") as log,
        subprocess.Popen(command, cwd=root, env=environment, stdout=log, stderr=log) as run,
    ):
        try:
            run.wait(options.seconds)
        except subprocess.TimeoutExpired:
            print(f"  {path} was ended after {options.seconds} s; the last case is not counted")  # noqa: T201
            run.send_signal(signal.SIGINT)  # so pytest reports the cases before
    if not report.exists():
        return []
    # A case that the end of the time interrupts has no name.
    return [case for case in ElementTree.parse(report).getroot().iter("testcase") if case.get("classname")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tests", required=True)
    parser.add_argument("--python", required=True)
    parser.add_argument("--sets", nargs="*", default=list(SETS), choices=list(SETS))
    parser.add_argument("--tags", nargs="*", default=["L0", "L1", "L2", "RBAC"], help="only cases with one of them")
    parser.add_argument("--files", nargs="*", help="only these of them")
    parser.add_argument("--cases", default="", help="a -k expression in place of the sets' own")
    parser.add_argument("--seconds", type=int, help="the most for one file; later cases are left out")
    parser.add_argument("--workers", type=int, default=1, help="cases that run side by side; some files allow it")
    parser.add_argument("--out", type=Path, default=Path(tempfile.mkdtemp(prefix="milvine-official-")))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    excluded = exclusions()
    for name in options.sets:
        with ExitStack() as stack:
            host, settings, embeddings = None, dict[str, str](), None
            if name in WITH_OBJECTS:
                host, settings = stack.enter_context(object_store(options.out / f"objects-{name}.log"))
                embeddings = stack.enter_context(text_embeddings())
            port = stack.enter_context(started_server(options.out / f"server-{name}.log", name, settings))
            run_set(options, name, Addresses(port, host, embeddings), excluded)


@contextmanager
def started_server(log_file: Path, name: str, settings: Mapping[str, str]) -> Iterator[int]:
    """The port of a fresh server for a set."""
    authorization = str(name in WITH_AUTHORIZATION).lower()
    environment = {**os.environ, "MILVINE_COMMON_SECURITY_AUTHORIZATIONENABLED": authorization, **settings}
    with tempfile.TemporaryDirectory() as data:
        command = [sys.executable, "-m", "milvine", "serve", "--data-dir", data, "--port", "0", "--metrics-port", "0"]
        with log_file.open("w") as log:
            server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment)
        assert server.stdout is not None
        try:
            yield int(server.stdout.readline().rsplit(":", 1)[1])
        finally:
            server.terminate()
            server.wait(30)


def run_set(options: argparse.Namespace, name: str, addresses: Addresses, excluded: list[tuple[str, str]]) -> None:
    total: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    outcomes: defaultdict[str, set[str]] = defaultdict(set)
    for path, wanted in SETS[name]:
        if options.files and path not in options.files:
            continue
        report = options.out / f"{Path(path).stem}.xml"
        counts: Counter[str] = Counter()
        for case in run_file(options, addresses, path, options.cases or wanted, report):
            result, (pattern, reason) = outcome(case), exclusion_of(case_name(case), excluded)
            outcomes[pattern].add(result)
            counts[result] += 1
            if result == "failed":
                counts["excluded" if reason else "bad"] += 1
                if reason:
                    reasons[reason] += 1
                else:
                    print("  FAILED", case_name(case))  # noqa: T201
        total += counts
        print_rates(path, counts)
    print_rates(f"all of {name}", total)
    for reason, count in sorted(reasons.items()):
        print(f"  excluded {count:4}  {reason}")  # noqa: T201
    for pattern, seen in sorted(outcomes.items()):
        if pattern and "passed" in seen and "failed" not in seen:
            print(f"  excluded for nothing: {pattern}")  # noqa: T201


def print_rates(name: str, counts: Counter[str]) -> None:
    run = counts["passed"] + counts["failed"]
    if not run:
        print(f"{name}: nothing ran, {counts['skipped']} skipped by their own marks")  # noqa: T201
        return
    rest = run - counts["excluded"]
    print(  # noqa: T201
        f"{name}: passed {counts['passed']} of {run} ({100 * counts['passed'] / run:.1f} %), "
        f"without {counts['excluded']} excluded ({100 * counts['excluded'] / run:.1f} %) "
        f"{counts['passed']} of {rest} ({100 * counts['passed'] / max(rest, 1):.1f} %); "
        f"{counts['skipped']} skipped by their own marks"
    )


if __name__ == "__main__":
    main()
