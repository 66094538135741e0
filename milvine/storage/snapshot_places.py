"""Where snapshots are exported to and restored from: below directories and URIs that the settings name."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from milvine.errors import ParameterInvalid
from milvine.model.records import record
from milvine.storage.backup_places import BackupPlace, open_backup_place

_SETTING = "snapshot.path, directories and URIs of object stores"


@record
class SnapshotPlaces:
    """`places`: absolute directories and URIs; relative paths are below the first."""

    places: tuple[str, ...]
    endpoint: str = ""
    region: str = ""

    def full(self, path: str) -> str:
        """A path or URI of a request, absolute. Raises ParameterInvalid for one that is not below a place."""
        return "/".join(self._split(path)).rstrip("/")

    def find(self, path: str) -> tuple[BackupPlace, str]:
        """The place and the name below it. Raises ParameterInvalid, and UnexpectedError for a URI that is none."""
        place, name = self._split(path)
        if "://" not in place:
            root = Path(place).resolve()
            if not (root / name).resolve().is_relative_to(root):
                raise ParameterInvalid(f"{path!r} leads outside of the setting {_SETTING}")
        return open_backup_place(place, self.endpoint, self.region), name

    def _split(self, path: str) -> tuple[str, str]:
        if not self.places:
            raise ParameterInvalid(f"snapshots are exported and restored below the setting {_SETTING}, which is empty")
        scheme, has_scheme, rest = path.partition("://")
        if "\0" in path or ".." in PurePosixPath(rest if has_scheme else scheme).parts:
            raise ParameterInvalid(f"{path!r} must not have ..")
        if not has_scheme and not path.startswith("/"):
            return self.places[0].rstrip("/"), path.strip("/")
        for place in self.places:
            root = place.rstrip("/")
            if path == root or path.startswith(f"{root}/"):
                return root, path.removeprefix(root).strip("/")
        raise ParameterInvalid(f"{path!r} is not below the setting {_SETTING}")
