"""`milvine node`: holds segments for a server on another machine, or in another process, and reads them."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from milvine import config, logs
from milvine.cli.command import OK, Command, Failed

_log = logging.getLogger(__name__)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--head",
        required=True,
        metavar="HOST:PORT",
        help="the server's cluster.host and cluster.port; those of standbys follow after commas",
    )
    parser.add_argument("--data-dir", required=True, metavar="DIR", help="the node's cache of segment files")
    parser.add_argument("--host", default="127.0.0.1", help="the address under which the server reaches this node")
    parser.add_argument("--port", default=0, type=int, help="default: a free one")
    parser.add_argument(
        "--label", action="append", default=[], metavar="KEY=VALUE", help="what resource groups choose nodes by"
    )
    parser.add_argument(
        "--patience", type=float, default=0.0, metavar="SECONDS", help="end if no server answers for so long; 0: never"
    )
    parser.add_argument("--memory-limit", metavar="LIMIT", help="bytes, or a share of the machine (memory.limit)")
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML file of settings; default: none")


def _labels(given: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not (key and equals) or key in found:
            raise Failed(f"--label {text}: expected KEY=VALUE, each key once")
        found[key] = value
    return found


def _run(parsed: argparse.Namespace) -> int:
    labels = _labels(parsed.label)
    flags = {"data_dir": parsed.data_dir, "memory_limit_bytes": parsed.memory_limit}
    # Threads of libraries would only contend with those of reads; set before the libraries are imported.
    os.environ |= config.ONE_THREAD
    from milvine.errors import MilvineError
    from milvine.front import STOP_SIGNALS, CannotServe, lock
    from milvine.process import imports_kept, keep_pandas_out

    keep_pandas_out()
    with imports_kept():
        from milvine.querynode.remote.process import NodeProcess

    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)  # in all threads that begin later
    try:
        settings = config.load_settings(flags, os.environ, parsed.config)
        logs.configure(settings.log_level, settings.log_format)
        Path(settings.data_dir).mkdir(parents=True, exist_ok=True)
        lock(Path(settings.data_dir))
        heads = [head.strip().removeprefix("grpc://") for head in parsed.head.split(",")]
        node = NodeProcess(settings, heads, parsed.host, parsed.port, labels)
    except (ValueError, OSError, CannotServe, MilvineError) as error:
        raise Failed(str(error)) from error

    def announce() -> None:
        sys.stdout.write(f"milvine node ready {node.address}\n")
        sys.stdout.flush()

    def report() -> None:
        node.run(announce, parsed.patience)
        os.kill(os.getpid(), signal.SIGTERM)  # nobody has answered for too long

    threading.Thread(target=report, name="reports", daemon=True).start()
    number = signal.sigwait(STOP_SIGNALS)
    logs.event(_log, logging.INFO, "stopping", signal=signal.Signals(number).name)
    node.stop()
    # Threads of calls in progress would be waited for.
    sys.stdout.flush()
    os._exit(OK)


COMMAND = Command(
    "node",
    "hold and read segments for a server, as one of its query nodes",
    (
        "milvine node --head 127.0.0.1:19531 --data-dir ./node-1",
        "milvine node --head head-1:19531,head-2:19531 --data-dir ./node-1    # with a standby",
        "milvine node --head head:19531 --data-dir /var/cache/milvine --host node-1 --port 19532 --config milvine.yaml",
    ),
    _add_arguments,
    _run,
)
