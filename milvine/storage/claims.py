"""Which URI of an object store belongs to which data directory: one to one, since a sweep removes what the directory's
catalog does not name.

An object under the URI names the directory, and a file of the directory names the URI. Another object names the server
that started last, so that one with a copy of the directory is noticed before the two remove each other's objects.
"""

from __future__ import annotations

import logging
import platform
import threading
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path

import orjson

from milvine.config import LOCAL_STORE, Settings
from milvine.crash_points import crash_point
from milvine.errors import IoFailed, UnexpectedError
from milvine.storage.markers import Marker, read_marker, write_marker
from milvine.storage.objects import Objects, Place

_log = logging.getLogger(__name__)
OWNER = "milvine.json"
"""The object that names the data directory."""
CATALOG = "milvine-catalog.json"
"""The object that names the catalog, if directories of one catalog take turns."""
SERVER = "milvine-server.json"
"""The object that names the server."""
MARKER = "store.json"
"""The file that names the URI."""


class Claim:
    """The claim of one data directory to one URI."""

    def __init__(self, root: Path, objects: Objects, catalog: str = "", epoch: int = 0) -> None:
        """`catalog` names a catalog whose directories all may use the URI: they hold nothing that is not there.
        `epoch`: that of the server in its catalog, 0 if it has none."""
        self._root = root
        self._objects = objects
        self._epoch = epoch
        self._catalog = orjson.dumps({"owner": catalog}) if catalog else None
        self._server = orjson.dumps(
            {
                "id": uuid.uuid4().hex,
                "host": platform.node(),
                "since": datetime.now(UTC).isoformat(timespec="seconds"),
                "epoch": epoch,
            }
        )
        self._lock = threading.Lock()
        self._is_made = False

    def make(self) -> None:
        """Makes sure that the URI belongs to the directory; costs nothing once that is so.

        Raises UnexpectedError if it belongs to another directory or does not create objects conditionally.
        """
        with self._lock:
            if self._is_made:
                return
            root, uri, known = self._root, self._objects.uri, read_marker(self._root / MARKER)
            found = self._objects.content(OWNER)
            owner = uuid.uuid4().hex if known is None else known.owner
            if found is not None and not (known and known.is_claimed) and self._is_of_catalog():
                owner = orjson.loads(found)["owner"]
            content = orjson.dumps({"owner": owner})
            if found is None:
                if known is not None and known.is_claimed and known.uri != uri:
                    raise UnexpectedError(
                        f"the segment files of {root} are in {known.uri}, and {uri} has no copy of them"
                    )
                # The file first: with the object alone, no start after a crash would know whose it is.
                write_marker(root / MARKER, Marker(uri, owner, is_claimed=False))
                crash_point("store.marked")
                self._objects.create(OWNER, content)
                crash_point("store.claimed")
                found = self._objects.content(OWNER)
            if found != content:
                raise UnexpectedError(f"{uri} belongs to another data directory than {root}")
            if self._objects.create(OWNER, content):
                raise UnexpectedError(
                    f"{uri} overwrites objects that are to be created only if they are new, as two servers would"
                )
            claimed = Marker(uri, owner, is_claimed=True)
            if known != claimed:
                write_marker(root / MARKER, claimed)
            if self._catalog is None:
                self._objects.remove([CATALOG])
            elif not self._is_of_catalog():
                self._objects.replace(CATALOG, self._catalog)
            self._objects.replace(SERVER, self._server)
            self._is_made = True

    def _is_of_catalog(self) -> bool:
        return self._catalog is not None and self._objects.content(CATALOG) == self._catalog

    def check(self) -> None:
        """Raises IoFailed if another server has claimed the URI since. Called before a commit and before a sweep.

        One of an earlier epoch stood still while it took over, and was replaced by this one: it loses the claim.
        """
        found = self._objects.content(SERVER)
        if found is None or found == self._server:
            return
        other = orjson.loads(found)
        epoch = other.get("epoch", 0)
        if 0 < epoch < self._epoch:
            self._objects.replace(SERVER, self._server)
            return
        if 0 < self._epoch < epoch:
            raise IoFailed(
                f"a server on {other['host']} has taken over {self._objects.uri}: this one neither stores nor removes "
                "objects"
            )
        raise IoFailed(
            f"{self._objects.uri} is used since {other['since']} by another server, on {other['host']}, with a "
            f"copy of {self._root}: stop it, and start this server again"
        )


_PATIENCE_SECONDS = 10.0
"""How long a head that serves may take to name its catalog."""
_PAUSE_SECONDS = 0.5
_REFUSED = ("NoSuchBucket", "ContainerNotFound", "InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied")
"""What a store says to settings that are wrong. A head that starts with them will never have its turn."""


def check_before_turn(root: Path, place: Place, catalog: str, *, is_filled: bool) -> None:
    """For a head that waits for its turn: whether it could claim the URI then. `catalog`: as of Claim; `is_filled`: it
    has collections, so there is a claim.

    Raises UnexpectedError if it could not. A store that does not answer now may do so when the turn comes.
    """
    objects = Objects(place)
    deadline = time.monotonic() + _PATIENCE_SECONDS
    try:
        found = objects.content(OWNER)
        owner = None if found is None else orjson.loads(found)["owner"]
        known = read_marker(root / MARKER)  # a head of the same directory may just have written it
        if known is not None and (known.owner == owner or (owner is None and known.uri == objects.uri)):
            return
        if owner is None:
            if is_filled or (known is not None and known.is_claimed):
                raise UnexpectedError(f"{objects.uri} has no copy of the segment files of this catalog")
            return
        while (content := objects.content(CATALOG) if catalog else None) is None:
            if not catalog or time.monotonic() > deadline:
                break
            time.sleep(_PAUSE_SECONDS)
        if content is None or orjson.loads(content)["owner"] != catalog:
            raise UnexpectedError(f"{objects.uri} belongs to another data directory than {root}")
    except IoFailed as error:
        if any(text in error.message for text in _REFUSED):
            raise UnexpectedError(error.message.removesuffix(f": {error.text}")) from error
        _log.warning("%s", error.message)


def was_claimed(root: Path, uri: str) -> bool:
    """Whether an earlier start claimed this URI for the directory."""
    known = read_marker(root / MARKER)
    return known is not None and known.is_claimed and known.uri == uri


def refuse_alone(root: Path) -> None:
    """Raises UnexpectedError if the segment files of a directory are elsewhere."""
    known = read_marker(root / MARKER)
    if known is not None and known.is_claimed:
        raise UnexpectedError(f"the segment files of {root} are in {known.uri}: set store.uri to it")


def place_of(settings: Settings) -> Place | None:
    """Where the settings put segment files; None: in the data directory alone."""
    if settings.store_uri == LOCAL_STORE:
        return None
    return Place(settings.store_uri, settings.store_endpoint, settings.store_region)


def objects_of(root: Path, settings: Settings) -> Objects | None:
    """The objects of a server's directory; None if all files are in the directory. Without `store.uri` they are where
    the directory says. Raises UnexpectedError if the settings name another place than the directory does."""
    place, known = place_of(settings), read_marker(root / MARKER)
    if place is None:
        if known is None or not known.is_claimed:
            return None
        place = Place(known.uri, settings.store_endpoint, settings.store_region)
    objects = Objects(place)
    if known is None or known.uri != objects.uri:
        raise UnexpectedError(f"{objects.uri} is not the store of {root}")
    return objects
