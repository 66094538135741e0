"""Objects by name under one URI of an object store. The only home of obstore, which is imported once there is a URI.

Every failure to reach the store is IoFailed, after short retries of its own; callers retry later.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from milvine import metrics
from milvine.errors import IoFailed, UnexpectedError
from milvine.model.records import record

PREFIX = "segments/"
_STEP_BYTES = 16 << 20
_PARTS_AT_A_TIME = 4
_REASON_CHARACTERS = 300
_REMOVED_AT_A_TIME = 500
_LISTED = 1000
"""In a page of S3."""
_NO_OBJECT_OF_OURS = ("NoSuchBucket", "ContainerNotFound", "InvalidAccessKeyId")
"""What a store may say, too, with the status of an object that is missing."""
_SAID = re.compile(r"<Code>([^<]+)</Code>(?:.*?<Message>([^<]+)</Message>)?", re.DOTALL)
_NO_CREDENTIALS = re.compile(
    r"Generic (?P<store>\w+) error: (?:Missing \w+|Account must be specified"
    r"|.*?http\S+?/(?:latest/(?:api/token|meta-data/)|computeMetadata/|metadata/identity/).*)"
)
"""What obstore says without credentials: of the environment, or of the metadata of a machine in a cloud, which it asks
next and which most machines do not have."""
_VARIABLES = {
    "S3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (files in ~/.aws are not read)",
    "GCS": "GOOGLE_APPLICATION_CREDENTIALS, the path of a key file",
    "MicrosoftAzure": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
"""By the store, as obstore names it, the variables that most people set."""
_Result = TypeVar("_Result")


@record
class Place:
    """Where objects are. Credentials come from the environment, under the names of the store's own tools.

    `endpoint` and `region` are empty for the store's defaults.
    """

    uri: str
    endpoint: str = ""
    region: str = ""


class ObjectMissing(Exception):
    """The store answers and has no object of this name."""


class Objects:
    """Small calls over one store, from any thread."""

    def __init__(self, place: Place) -> None:
        """Raises UnexpectedError, in one sentence, if obstore is not installed or does not accept the URI."""
        try:
            import obstore
            from obstore.exceptions import BaseError
            from obstore.store import from_url
        except ImportError as error:
            raise UnexpectedError(f"store.uri {place.uri} needs obstore: pip install 'milvine[store]'") from error
        self.uri = place.uri.rstrip("/")
        self._api: Any = obstore
        self._failures = (BaseError, OSError)
        endpoint = "base_url" if self.uri.startswith("gs://") else "endpoint"
        is_plain = self.uri.startswith(("http://", "https://"))
        given = () if is_plain else ((endpoint, place.endpoint), ("region", place.region))
        options: dict[str, Any] = {
            "config": {n: v for n, v in given if v},
            "client_options": {
                "allow_http": (self.uri if is_plain else place.endpoint).startswith("http://"),
                "connect_timeout": timedelta(seconds=5),
                "timeout": timedelta(seconds=30),
            },
            "retry_config": {"max_retries": 3, "retry_timeout": timedelta(seconds=10)},
        }
        try:
            self._store: Any = from_url(self.uri, **options)
        except (BaseError, ValueError, TypeError) as error:
            raise UnexpectedError(f"store.uri {place.uri} is not accepted: {_reason(error)}") from error

    def _call(self, doing: str, call: Callable[[], _Result]) -> _Result:
        """Raises ObjectMissing, FileExistsError and IoFailed."""
        from obstore.exceptions import AlreadyExistsError

        try:
            return call()
        except AlreadyExistsError as error:
            raise FileExistsError from error
        except FileNotFoundError as error:
            if not any(text in str(error) for text in _NO_OBJECT_OF_OURS):
                raise ObjectMissing(str(error)) from error
            failure: Exception = error
        except self._failures as error:
            failure = error
        metrics.store_failures.inc()
        raise IoFailed(f"cannot {doing} {self.uri}: {_reason(failure)}") from failure

    def create(self, name: str, content: bytes) -> bool:
        """False if there is an object of this name already."""
        try:
            self._call("write to", lambda: self._api.put(self._store, name, content, mode="create"))
        except FileExistsError:
            return False
        except ObjectMissing as error:
            raise IoFailed(f"cannot write to {self.uri}: {_reason(error)}") from error
        return True

    def replace(self, name: str, content: bytes) -> None:
        """Writes a small object, whether it is there or not."""
        try:
            self._call("write to", lambda: self._api.put(self._store, name, content))
        except ObjectMissing as error:
            raise IoFailed(f"cannot write to {self.uri}: {_reason(error)}") from error

    def content(self, name: str) -> bytes | None:
        """None if there is no such object."""
        try:
            return self._call("read from", lambda: bytes(self._api.get(self._store, name).bytes()))
        except ObjectMissing:
            return None

    def upload(self, name: str, path: Path) -> None:
        """Raises IoFailed also if the file is gone."""
        put = partial(self._api.put, self._store, name, path, chunk_size=_STEP_BYTES, max_concurrency=_PARTS_AT_A_TIME)
        try:
            size = path.stat().st_size
            self._call("write to", put)
        except (ObjectMissing, FileNotFoundError) as error:
            reason = _reason(error) if path.exists() else f"{path} is gone"
            raise IoFailed(f"cannot write to {self.uri}: {reason}") from error
        metrics.store_uploaded_bytes.inc(size)

    @contextmanager
    def writing(self, name: str) -> Iterator[Any]:
        """A file that writes an object in steps. The object is there after the block, and not at all if that raises.
        Raises IoFailed."""
        written = _WrittenObject(self, self._call("write to", lambda: self._api.open_writer(self._store, name)))
        yield written
        written.flush()
        self._call("write to", written.opened.close)

    def copy(self, name: str, target: str) -> None:
        """Copies an object inside the store. Raises ObjectMissing."""
        self._call("copy an object of", lambda: self._api.copy(self._store, name, target))

    def download(self, name: str, target: Path, on_step: Callable[[], None]) -> int:
        """Writes and fsyncs `target`; returns its size. `on_step` runs between steps of a few megabytes, and ends the
        download by raising. Raises ObjectMissing."""
        first, size = self._call("read from", lambda: self._first_bytes(name, _STEP_BYTES))
        with target.open("wb") as file:
            file.write(first)
            while file.tell() < size:
                on_step()
                start = file.tell()
                end = min(start + _STEP_BYTES, size)
                read = partial(self._api.get_range, self._store, name, start=start, end=end)
                file.write(self._call("read from", read))
            file.flush()
            os.fsync(file.fileno())
        metrics.store_downloaded_bytes.inc(size)
        return size

    def beginning(self, name: str, most_bytes: int) -> tuple[bytes, int] | None:
        """The first bytes of an object, and its size; None if there is no such object."""
        try:
            size = self._call("read from", lambda: int(self._api.head(self._store, name)["size"]))
            if not size:  # of which no range can be read
                return b"", 0
            start, size = self._call("read from", lambda: self._first_bytes(name, most_bytes))
        except ObjectMissing:
            return None
        return bytes(start), size

    def reader(self, name: str) -> tuple[Any, int] | None:
        """A file that reads an object in steps, and its size; None if there is no such object."""
        try:
            opened = self._call("read from", lambda: self._api.open_reader(self._store, name, buffer_size=_STEP_BYTES))
        except ObjectMissing:
            return None
        return io.BufferedReader(_ObjectFile(self, opened), _STEP_BYTES), int(opened.size)

    def _first_bytes(self, name: str, most_bytes: int) -> tuple[Any, int]:
        found = self._api.get(self._store, name, options={"range": (0, most_bytes)})
        return found.bytes(), int(found.meta["size"])

    def ending(self, name: str, size: int, most_bytes: int) -> bytes:
        """The last bytes of an object of `size` bytes. Raises ObjectMissing."""
        start = max(0, size - most_bytes)
        read = partial(self._api.get_range, self._store, name, start=start, end=size)
        return bytes(self._call("read from", read))

    def sizes(self, prefix: str = PREFIX, after: str | None = None, most: int | None = None) -> dict[str, int]:
        """Sizes by name of all objects under a prefix whose names sort after `after`; with `most`, of the first so
        many, up to the end of a page."""

        def listed() -> dict[str, int]:
            found: dict[str, int] = {}
            for page in self._api.list(self._store, prefix=prefix.rstrip("/"), offset=after, chunk_size=_LISTED):
                found.update((one["path"], int(one["size"])) for one in page)
                if most is not None and len(found) >= most:
                    break
            return found

        return self._call("list", listed)

    def remove(self, names: Iterable[str]) -> None:
        """No error for objects that are gone."""
        left = list(names)
        while left:
            some, left = left[:_REMOVED_AT_A_TIME], left[_REMOVED_AT_A_TIME:]
            try:
                self._call("remove objects of", partial(self._api.delete, self._store, some))
            except ObjectMissing:  # of Azure and Google; the others of the request may be left
                for name in some:
                    with suppress(ObjectMissing):
                        self._call("remove objects of", partial(self._api.delete, self._store, name))


class _ObjectFile(io.RawIOBase):
    """Reads an object as a file. Raises IoFailed if the store fails."""

    def __init__(self, objects: Objects, opened: Any) -> None:
        self._objects = objects
        self._opened = opened

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return int(self._opened.tell())

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return int(self._opened.seek(offset, whence))

    def readinto(self, target: Any) -> int:
        view = memoryview(target).cast("B")
        found = self._objects._call("read from", lambda: self._opened.read(view.nbytes))
        view[: len(found)] = memoryview(found)
        return len(found)


class _WrittenObject(io.RawIOBase):
    """Writes an object as a file. Raises IoFailed if the store fails. Closing it does not end the object."""

    def __init__(self, objects: Objects, opened: Any) -> None:
        self._objects = objects
        self.opened = opened

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        view = memoryview(content).cast("B")
        self._objects._call("write to", lambda: self.opened.write(view))
        return view.nbytes


def _reason(error: Exception) -> str:
    """What the store said or, if it did not, the first line; the rest is for the authors of obstore."""
    if (missing := _NO_CREDENTIALS.match(str(error))) and missing["store"] in _VARIABLES:
        return f"neither the environment nor this machine has credentials: set {_VARIABLES[missing['store']]}"
    if said := _SAID.search(str(error)):
        return ": ".join(" ".join(part.split()) for part in said.groups() if part)[:_REASON_CHARACTERS]
    return str(error).partition("\n")[0].strip()[:_REASON_CHARACTERS]
