"""The command `milvine`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from milvine import __version__, config, front


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
    parsed = parser.parse_args(arguments)
    flags = {name: getattr(parsed, name) for name in ("data_dir", "host", "port", "metrics_port")}
    try:
        settings = config.load_settings(flags, os.environ, parsed.config)
        front.run(settings)
    except (ValueError, OSError, front.CannotServe) as error:
        print(f"milvine: {error}", file=sys.stderr)
        sys.exit(1)
