"""What every command has: a name, help, arguments, examples and a function that returns the exit code."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from milvine.model.records import record

OK, FAILED = 0, 1


class Failed(Exception):
    """Why a command cannot do its work, in one sentence."""


@record
class Command:
    """`help` is a sentence without its capital and its full stop."""

    name: str
    help: str
    examples: tuple[str, ...]
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


def names(text: str) -> list[str]:
    """The type of an option that takes names with commas between them."""
    return [name for name in text.split(",") if name]


def add_store_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--endpoint", default="", metavar="URL", help="of the object store; default: the store's own")
    parser.add_argument("--region", default="", help="of the object store; default: the store's own")
