"""How far a migration has come, in a file, so that the same command goes on after an interruption."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from milvine.migration.shape import MigrationError


@dataclass(slots=True)
class Progress:
    """Of one collection. `samples` maps keys, as JSON, to the digests of the row's fields."""

    place: Any = None
    rows: int = 0
    batch_rows: int = 0
    is_made: bool = False
    is_copied: bool = False
    samples: dict[str, dict[str, str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


class State:
    """The file is there from the first collection made until the migration is done."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._progress: dict[str, Progress] = {}
        if file.exists():
            try:
                self._progress = {name: Progress(**one) for name, one in json.loads(file.read_text()).items()}
            except (OSError, ValueError, TypeError, AttributeError) as error:
                raise MigrationError(f"{file} is not a state of milvine migrate: {error}") from None

    def of(self, name: str) -> Progress | None:
        return self._progress.get(name)

    def save(self, name: str, progress: Progress) -> None:
        self._progress[name] = progress
        self._file.parent.mkdir(parents=True, exist_ok=True)
        new = self._file.with_suffix(".new")
        with new.open("w") as out:
            json.dump({name: asdict(one) for name, one in self._progress.items()}, out)
            out.flush()
            os.fsync(out.fileno())
        new.replace(self._file)

    def remove(self) -> None:
        self._file.unlink(missing_ok=True)


def default_file(source: str, target: str, database: str) -> Path:
    """One file for each source and target, in the user's directory of states."""
    home = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    names = [name if "://" in name else str(Path(name).absolute()) for name in (source, target)]
    digest = hashlib.sha256("\n".join([*names, database]).encode()).hexdigest()[:16]
    return home / "milvine" / f"migrate-{digest}.json"
