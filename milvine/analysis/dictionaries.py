"""The files of words that parameters of analyzers name.

They are the same for all of a process, which sets once what reads them: filters, segments and child processes build
analyzers, too, and have only the schema.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from milvine.analysis.params import internal_error, invalid_argument
from milvine.errors import AnalyzerInvalid
from milvine.model.file_resources import LOCAL, REMOTE, FileResource, names_in

MAX_ANALYZER_BYTES = 9 << 20
"""Of all files of one analyzer."""
_BYTE_ORDER_MARK = "\ufeff"


class Dictionaries(Protocol):
    """Reads file resources."""

    def find(self, name: str) -> FileResource | None: ...

    def content(self, resource: FileResource) -> bytes:
        """Raises AnalyzerInvalid if it was removed."""


class _Installed:
    dictionaries: Dictionaries | None = None

    def find(self, name: str) -> FileResource | None:
        return None if self.dictionaries is None else self.dictionaries.find(name)

    def content(self, resource: FileResource) -> bytes:
        assert self.dictionaries is not None
        return self.dictionaries.content(resource)


_installed = _Installed()


def install(dictionaries: Dictionaries) -> None:
    """From now on all analyzers of this process read these."""
    _installed.dictionaries = dictionaries


def installed() -> Dictionaries:
    """Those of this process."""
    return _installed


def resources_of(params: Any) -> list[FileResource]:
    """The known resources that parameters name, each as often as it is there. Raises AnalyzerInvalid if they have too
    many bytes together."""
    found = [resource for resource in map(_installed.find, names_in(params)) if resource is not None]
    size = sum(resource.file_bytes for resource in found)
    if size > MAX_ANALYZER_BYTES:
        raise invalid_argument(f"the files of the analyzer have {size} bytes, more than {MAX_ANALYZER_BYTES}")
    return found


def lines_of_file(value: Any, label: str) -> Sequence[str]:
    """The lines of a file that are not empty. Raises AnalyzerInvalid."""
    if not isinstance(value, dict):
        raise invalid_argument(f"file config of {label} must be object")
    if "type" not in value:
        raise invalid_argument(f"file type of {label} must be set")
    kind = value["type"]
    if not isinstance(kind, str):
        raise invalid_argument(f"file type of {label} must be string")
    if kind == LOCAL:
        raise _local(value, label)
    if kind != REMOTE:
        raise invalid_argument(f"unsupported file type {kind} of {label}")
    return _lines(_installed.content(_named(value, label)), label)


def _local(value: Mapping[str, Any], label: str) -> AnalyzerInvalid:
    """Why a file by its path on the server is refused: whoever may run analyzers could read every file there."""
    if "path" not in value:
        return invalid_argument(f"file path of local file `{label}` must be set")
    if not isinstance(value["path"], str):
        return invalid_argument(f"file path of local file `{label}` must be string")
    return AnalyzerInvalid(
        f"a local file ({label}) is not supported by this version of Milvine: add it as a file resource and name "
        f'that with the type "{REMOTE}"'
    )


def _named(value: Mapping[str, Any], label: str) -> FileResource:
    if "resource_name" not in value:
        raise invalid_argument(f"resource name of remote file `{label}` must be set")
    name = value["resource_name"]
    if not isinstance(name, str):
        raise invalid_argument(f"remote file resource name of remote file `{label}` must be string")
    if "file_name" not in value:
        raise invalid_argument(f"file name of remote file `{label}` must be set")
    file_name = value["file_name"]
    if not isinstance(file_name, str):
        raise invalid_argument(f"remote file resource name of {label} must be string")
    resource = _installed.find(name)
    if resource is None:
        raise internal_error(f"file resource: {name} not found in local resource list")
    if file_name != resource.file_name:
        raise internal_error(f"the file of the file resource {name} is {resource.file_name}, not {file_name}")
    return resource


def _lines(content: bytes, label: str) -> list[str]:
    try:
        text = content.decode().removeprefix(_BYTE_ORDER_MARK)
    except UnicodeDecodeError as error:
        raise internal_error(f"read {label} file failed, error: stream did not contain valid UTF-8") from error
    return [line for line in (line.removesuffix("\r") for line in text.split("\n")) if line]
