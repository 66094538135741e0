"""`milvine serve`: reads the settings and becomes the server."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from milvine import config, front, logs
from milvine.cli.command import OK, Command, Failed

_FLAGS = ("data_dir", "host", "port", "metrics_port")


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    settings = {setting.name: setting for setting in config.SETTINGS}
    for name in _FLAGS:
        setting = settings[name]
        default = "" if setting.default == "" else f"; default: {setting.default}"
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            metavar=name.rpartition("_")[2].upper(),
            help=f"{setting.help}{default} (setting {setting.key})",
        )
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML file of settings; default: none")


def _run(parsed: argparse.Namespace) -> int:
    flags = {name: getattr(parsed, name) for name in _FLAGS}
    try:
        settings = config.load_settings(flags, os.environ, parsed.config)
        logs.configure(settings.log_level, settings.log_format)
        front.run(settings)
    except (ValueError, OSError, front.CannotServe) as error:
        raise Failed(str(error)) from error
    return OK


COMMAND = Command(
    "serve",
    "run a server in the foreground",
    (
        "milvine serve",
        "milvine serve --data-dir /var/lib/milvine --config milvine.yaml",
        "milvine serve --host 0.0.0.0        # other machines may connect; see docs/security.md first",
        "milvine serve --port 0              # a free port, printed as `milvine ready HOST:PORT`",
        "MILVINE_MEMORY_LIMIT=4GB milvine serve    # any setting, by its variable",
    ),
    _add_arguments,
    _run,
)
