"""The command `milvine`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from milvine import __version__, config, front


def _check(data_dir: Path) -> int:
    """Print what is wrong, one line each; 1 if anything is, 0 if only what a start clears away was found."""
    if not data_dir.is_dir():
        print(f"milvine: {data_dir} is no directory", file=sys.stderr)
        return 1
    try:
        front.lock(data_dir)
    except front.CannotServe as error:
        print(f"milvine: {error}", file=sys.stderr)
        return 1
    from milvine.datanode.check import Check  # slow to import, and of no use to a server's start

    check = Check(data_dir)
    damages = 0
    for finding in check.findings():
        damages += finding.is_damage
        print(finding.text if finding.is_damage else f"note: {finding.text}")
    told = "is whole" if not damages else f"has {damages} damaged files"
    print(f"{data_dir} {told}: {check.files} files, {check.collections} collections, {check.rows} rows")
    return 1 if damages else 0


def main(arguments: list[str] | None = None) -> None:
    """Parse and run; exits with 1 and one sentence when a server cannot start."""
    parser = argparse.ArgumentParser(prog="milvine", description="The Milvus vector database in one process.")
    parser.add_argument("--version", action="version", version=f"milvine {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="run a server in the foreground")
    helps = {setting.name: setting.help for setting in config.SETTINGS}
    serve.add_argument("--data-dir", help=helps["data_dir"])
    serve.add_argument("--host", help=helps["host"])
    serve.add_argument("--port", type=int, help=helps["port"])
    serve.add_argument("--metrics-port", type=int, help=helps["metrics_port"])
    serve.add_argument("--config", type=Path, help="YAML file of settings")
    check = commands.add_parser("check", help="verify every byte of a stopped server's data directory")
    check.add_argument("data_dir", type=Path, metavar="DIR")
    parsed = parser.parse_args(arguments)
    if parsed.command == "check":
        sys.exit(_check(parsed.data_dir))
    flags = {name: getattr(parsed, name) for name in ("data_dir", "host", "port", "metrics_port")}
    try:
        settings = config.load_settings(flags, os.environ, parsed.config)
        front.run(settings)
    except (ValueError, OSError, front.CannotServe) as error:
        print(f"milvine: {error}", file=sys.stderr)
        sys.exit(1)
