"""The command `milvine`: its commands, one module each, and their exit codes."""

from __future__ import annotations

import argparse
import sys

from milvine import __version__
from milvine.cli import (
    backup,
    check,
    collections,
    doctor,
    estimate,
    exports,
    imports,
    jobs,
    loading,
    migrate,
    node,
    rows,
    serve,
    snapshots,
)
from milvine.cli.command import FAILED, Command, Failed

COMMANDS: tuple[Command, ...] = (
    serve.COMMAND,
    node.COMMAND,
    doctor.COMMAND,
    check.COMMAND,
    collections.LIST,
    collections.STATS,
    rows.QUERY,
    rows.SEARCH,
    loading.LOAD,
    loading.RELEASE,
    estimate.COMMAND,
    exports.COMMAND,
    imports.COMMAND,
    jobs.COMMAND,
    snapshots.COMMAND,
    backup.BACKUP,
    backup.RESTORE,
    migrate.COMMAND,
)
_EPILOG = """exit codes:
  0  done; of serve: stopped by SIGTERM or Ctrl-C
  1  not done, with one sentence on stderr; of check: damage; of estimate: it does not fit;
     of doctor: a problem
  2  the command line cannot be read
  130  interrupted by Ctrl-C (not serve)

`milvine COMMAND --help` shows the options of a command, their defaults and examples."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="milvine",
        description="The Milvus vector database in one process.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"milvine {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        examples = "examples:\n" + "\n".join(f"  {example}" for example in command.examples)
        subparser = subparsers.add_parser(
            command.name,
            help=command.help,
            description=f"{command.help[0].upper()}{command.help[1:]}.",
            epilog=examples,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(subparser)
        subparser.set_defaults(run=command.run, parser=subparser, words=1)
    return parser


def main(arguments: list[str] | None = None) -> None:
    """Parses, runs and exits."""
    given = sys.argv[1:] if arguments is None else arguments
    parsed, unknown = _parser().parse_known_args(given)
    if unknown:  # perhaps because options stand between the other arguments
        parsed, unknown = parsed.parser.parse_known_intermixed_args(given[parsed.words :])
    if unknown:
        parsed.parser.error(f"unknown arguments: {' '.join(unknown)}")  # with the usage of the command
    try:
        code = parsed.run(parsed)
    except Failed as error:
        print(f"milvine: {error}", file=sys.stderr)
        code = FAILED
    except KeyboardInterrupt:
        code = 128 + 2  # as shells count SIGINT
    except BrokenPipeError:  # `milvine ... | head`
        sys.stderr.close()
        code = FAILED
    sys.exit(code)
