"""Runs pymilvus's own `examples/*.py`, each against a fresh Milvine, and keeps what each prints.

usage: pymilvus_examples.py --examples DIR --python VENV_PYTHON [--only PATTERN ...] [--out DIR]

`--examples` is the folder of a pymilvus checkout, `--python` the interpreter of an environment with
pymilvus[bulk-writer], pandas, pytz, xgboost, tensorflow and torch. The examples know one address and one object store,
so each runs as a copy in which these are the addresses of its server and of an S3 server. Those that need a model, a
GPU or a cloud, and those that would fail against Milvus too, are listed below. The rate counts the others; that an
example ends with 0 does not say that it printed what it should.
"""

from __future__ import annotations

import argparse
import fnmatch
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

sys.path.extend(str(Path(__file__).parent.parent / folder) for folder in (".", "cluster", "official"))

from node_processes import ClusterOfNodes
from object_store import BUCKET, object_store
from official_suite import started_server

IMPOSSIBLE = {
    "bulk_import/data_gengerator.py": "a module of others",
    "bulk_import/example_bulkwriter_stage.py": "Zilliz Cloud",
    "bulk_import/example_bulkwriter_volume.py": "Zilliz Cloud",
    "bulk_import/example_volume_file_manager.py": "Zilliz Cloud",
    "bulk_import/example_volume_manager.py": "Zilliz Cloud",
    "function_edit.py": "hosted model",
    "int8_example.py": "Milvus refuses it too: an index of type HNSW without a metric",
    "milvus_model/hello_model.py": "hosted model",
    "orm_deprecated/bulk_import/data_gengerator.py": "a module of others",
    "orm_deprecated/bulk_import/example_bulkinsert_withfunction.py": "hosted model",
    "orm_deprecated/bulk_import/example_bulkwriter.py": (
        "pymilvus 3.0.2 writes no numpy file of rows with lists and rows with arrays of float16, and asks to import "
        "no file, which Milvus refuses too"
    ),
    "orm_deprecated/bulk_import/example_bulkwriter_with_nullable.py": (
        "Milvus refuses it too: of rows with lists and rows with arrays of bfloat16, pymilvus writes a Parquet file in "
        "which the arrays have twice the dimension"
    ),
    "orm_deprecated/datatypes/example_str.py": "Milvus refuses it too: it drops an index of a loaded collection",
    "orm_deprecated/example_index.py": "Milvus refuses it too: it names an index type that does not exist",
    "orm_deprecated/gpu_indx/example_gpu_brute_force.py": "GPU",
    "orm_deprecated/gpu_indx/example_gpu_cagra.py": "GPU",
    "orm_deprecated/hello_cost.py": "pymilvus 3 lacks what it prints",
    "orm_deprecated/hello_milvus_delete.py": "pymilvus 3 lacks what it calls",
    "orm_deprecated/hello_text_embedding.py": "hosted model",
    "orm_deprecated/hybrid_search/hello_hybrid_sparse_dense.py": "hosted model",
    "orm_deprecated/partition.py": "Milvus fails too: it uses a name that it does not define",
    "orm_deprecated/role_and_privilege.py": (
        "Milvus refuses it too: it grants SelectUser in one database, and Milvus asks for it in all"
    ),
    "simple_cost.py": "Zilliz Cloud, which tells costs",
    "snapshot_example.py": "pymilvus 3.0.2 requires an argument that it does not give; it prints so, and ends with 0",
    "test_add_function_field_full_text_search.py": "pymilvus 3.0.2 requires an argument that it does not give",
    "test_add_function_field_minhash_search.py": "pymilvus 3.0.2 requires an argument that it does not give",
    "text_embedding.py": "hosted model",
}
"""Of each example that could not end well against Milvus on this machine, why."""
NOT_SERVED = {
    "bulk_import/bulk_writer_all_types.py": "arrays of structs, GEOMETRY",
    "bulk_import/example_bulkinsert_json.py": "arrays of structs",
    "bulk_import/example_bulkinsert_parquet.py": "arrays of structs",
    "external_collection_example.py": "external collections",
    "struct_example.py": "arrays of structs",
}
"""Of each example that only Milvus runs to its end, what it asks for. The rate counts them as failed."""
WITH_AUTHORIZATION = frozenset({"async_previledge_test.py"})
"""The examples whose server asks who calls, as in the set `roles` of the official suite."""
QUERY_NODES = {"orm_deprecated/resource_group_declarative_api.py": 9}
"""How many query nodes the examples want that say when nodes are to be added. They have all from the start."""
WITH_STORE = ("bulk_import/", "external_collection_example.py", "xgboost_function_chain.py")
"""What the names of the examples have in them that use the object store of their server."""
ROOT = "root:Milvus"
"""The user and the password of a fresh server."""
_CERTIFICATES = "cert"
"""The folder of the examples that want TLS, and of certificates without the server's key, which are made anew."""
_SECONDS = 900
_ADDRESS = re.compile(r"""(?<=localhost:)19530|(?<=127\.0\.0\.1:)19530|(?<=port=)"?19530|(?<=PORT = )['"]19530""")


def adapted(text: str, port: int, store_host: str) -> str:
    """The program with the addresses of its server and of the object store."""
    text = _ADDRESS.sub(lambda found: found.group().replace("19530", str(port)), text)
    for name, value in zip(("super_user", "super_password"), ROOT.split(":"), strict=True):
        text = text.replace(f'{name} = ""', f'{name} = "{value}"')
    text = re.sub(r"(prepare_(new_)?data) = False", r"\1 = True", text)
    text = text.replace("connect(host=_HOST, user", f"connect(host=_HOST, port='{port}', user")
    text = text.replace("MilvusClient()", f'MilvusClient("http://localhost:{port}")')
    return re.sub(r"(0\.0\.0\.0|localhost):9000", f"{store_host}:9000", text).replace("a-bucket", BUCKET)


def tls_settings(folder: Path, mode: int) -> dict[str, str]:
    """The settings of a server with TLS. Certificates of one authority take the place of those in the folder."""

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=ca", "-keyout", "ca.key", "-out", "ca.pem")
    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1")
    for who in ("server", "client"):
        asked = ("-subj", "/CN=localhost", "-keyout", f"{who}.key", "-out", f"{who}.csr")
        openssl("req", "-newkey", "rsa:2048", "-nodes", *asked)
        signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names", "-out", f"{who}.pem")
        openssl("x509", "-req", "-in", f"{who}.csr", *signed)
    return {
        "MILVINE_COMMON_SECURITY_TLSMODE": str(mode),
        "MILVINE_TLS_SERVERPEMPATH": str(folder / "server.pem"),
        "MILVINE_TLS_SERVERKEYPATH": str(folder / "server.key"),
        "MILVINE_TLS_CAPEMPATH": str(folder / "ca.pem"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=Path, required=True)
    parser.add_argument("--python", required=True)
    parser.add_argument("--only", nargs="*", default=["*"])
    parser.add_argument("--out", type=Path, default=Path(tempfile.mkdtemp(prefix="milvine-examples-")))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    copies = options.out / "examples"
    shutil.copytree(options.examples, copies, dirs_exist_ok=True)
    names = sorted(path.relative_to(copies).as_posix() for path in copies.rglob("*.py"))
    wanted = [name for name in names if any(fnmatch.fnmatchcase(name, pattern) for pattern in options.only)]
    passed = 0
    possible = [name for name in wanted if name not in IMPOSSIBLE]
    for name in possible:
        log = options.out / (name.replace("/", "-") + ".txt")
        code, seconds = run(options, name, log)
        passed += code == 0
        why = f" ({NOT_SERVED[name]} not served)" if code and name in NOT_SERVED else ""
        print(f"{'ok    ' if code == 0 else 'FAILED'} {seconds:6.1f} s  {name}{why}", flush=True)  # noqa: T201
    print(f"{passed} of {len(possible)} end with 0; {len(wanted) - len(possible)} cannot run here")  # noqa: T201


@contextmanager
def server(log: Path, name: str, settings: dict[str, str]) -> Iterator[int]:
    """The port of a fresh server for an example."""
    if name not in QUERY_NODES:
        with started_server(log, "roles" if name in WITH_AUTHORIZATION else "", settings) as port:
            yield port
        return
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(ClusterOfNodes(Path(folder), QUERY_NODES[name], settings)) as cluster,
    ):
        yield int(cluster.start().head.uri.rsplit(":", 1)[1])


def run(options: argparse.Namespace, name: str, log: Path) -> tuple[int, float]:
    """(exit code, seconds) of one example; what it printed is in the log."""
    path = options.out / "examples" / name
    environment = {**os.environ, "PYTHONPATH": str(options.out), "PYTHONUNBUFFERED": "1"}
    host, settings = "", dict[str, str]()
    in_certificates = path.parent.name == _CERTIFICATES
    if in_certificates:
        settings = tls_settings(path.parent, 1 if path.stem.endswith("1") else 2)
    with ExitStack() as stack:
        if any(part in name for part in WITH_STORE):
            host, settings = stack.enter_context(object_store(log.with_suffix(".objects")))
        port = stack.enter_context(server(log.with_suffix(".server"), name, settings))
        for source in options.examples.rglob("*.py"):  # examples import each other
            copy = options.out / "examples" / source.relative_to(options.examples)
            copy.write_text(adapted(source.read_text(), port, host))
        command = [options.python, str(path)]
        environment["MILVUS_URI"] = f"http://localhost:{port}"  # of connections without an address
        out = stack.enter_context(log.open("w"))
        began = time.monotonic()
        try:
            done = subprocess.run(
                command,
                cwd=path.parents[1] if in_certificates else path.parent,
                env=environment,
                stdout=out,
                stderr=out,
                timeout=_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return -1, _SECONDS
        return done.returncode, time.monotonic() - began


if __name__ == "__main__":
    main()
