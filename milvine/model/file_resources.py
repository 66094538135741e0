"""Files of words under names, which the parameters of analyzers name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from milvine.model.records import record

MAX_FILE_BYTES = 17 << 19
MAX_RESOURCES = 1000
MAX_NAME_CHARACTERS = 255
MAX_PATH_CHARACTERS = 1024
REMOTE, LOCAL = "remote", "local"
FILE_KEYS = frozenset({"extra_dict_file", "stop_words_file", "synonyms_file", "word_list_file"})
"""The parameters of analyzers that name a file."""


@record
class FileResource:
    """`path`: where the content was copied from. `file_bytes`: the size of our copy with its footer."""

    resource_id: int
    name: str
    path: str
    file_bytes: int

    @property
    def file_name(self) -> str:
        return PurePosixPath(self.path).name


def names_in(params: Any) -> Iterator[str]:
    """The names of file resources in the parameters of an analyzer, each as often as it is there."""
    pending = [params]
    while pending:
        value = pending.pop()
        if isinstance(value, list):
            pending += (one for one in value if isinstance(one, list | dict))
        elif isinstance(value, dict):
            for key, one in value.items():
                if key in FILE_KEYS and isinstance(one, dict) and one.get("type") == REMOTE:
                    name = one.get("resource_name")
                    if isinstance(name, str):
                        yield name
                else:
                    pending.append(one)
