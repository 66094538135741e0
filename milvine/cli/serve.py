"""`milvine serve`: reads the settings and becomes the server."""

from __future__ import annotations

import argparse
import logging
import os
from importlib.util import find_spec
from pathlib import Path

from milvine import config, front, logs
from milvine.cli.command import OK, Command, Failed

_log = logging.getLogger(__name__)
_MOST_KEYS = 20
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
    parser.add_argument(
        "--standby",
        action="store_true",
        default=None,
        help=f"{settings['standby'].help} (setting {settings['standby'].key})",
    )
    parser.add_argument(
        "--cluster",
        metavar="RAY_ADDRESS",
        dest="cluster_ray_address",
        help=f"{settings['cluster_ray_address'].help} (setting {settings['cluster_ray_address'].key})",
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML file of settings; default: none")


def _run(parsed: argparse.Namespace) -> int:
    flags = {name: getattr(parsed, name) for name in (*_FLAGS, "standby", "cluster_ray_address")}
    try:
        settings = config.load_settings(flags, os.environ, parsed.config)
        if settings.cluster_ray_address and find_spec("ray") is None:  # its driver would end, again and again
            raise Failed("cluster.ray.address needs Ray: pip install 'milvine[cluster]'")
        logs.configure(settings.log_level, settings.log_format)
        _warn_of_keys_without_effect(parsed.config)
        front.run(settings)
    except (ValueError, OSError, front.CannotServe) as error:
        raise Failed(str(error)) from error
    return OK


def _warn_of_keys_without_effect(file: Path | None) -> None:
    """Milvus's own files have hundreds of such keys, so they are no error, and not all are named."""
    keys = config.keys_without_effect(file) if file else []
    if keys:
        more = f" and {len(keys) - _MOST_KEYS} more" if len(keys) > _MOST_KEYS else ""
        _log.warning("settings in %s without effect here: %s%s", file, ", ".join(keys[:_MOST_KEYS]), more)


COMMAND = Command(
    "serve",
    "run a server in the foreground",
    (
        "milvine serve",
        "milvine serve --data-dir /var/lib/milvine --config milvine.yaml",
        "milvine serve --host 0.0.0.0        # other machines may connect; see docs/security.md first",
        "milvine serve --port 0              # a free port, printed as `milvine ready HOST:PORT`",
        "milvine serve --standby             # waits while another head serves; see docs/cluster.md",
        "MILVINE_CLUSTER_PORT=19531 milvine serve --cluster 127.0.0.1:6379    # query nodes by Ray",
        "MILVINE_MEMORY_LIMIT=4GB milvine serve    # any setting, by its variable",
    ),
    _add_arguments,
    _run,
)
