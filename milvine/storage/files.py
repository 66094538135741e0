"""Sealed files. Only this module writes whole files and maps them.

A sealed file is a payload from offset 0 (so that a reader can map it and pass it to a library unchanged) and a
footer of 32 bytes, little-endian: kind (8 bytes, ASCII, NUL padded), format version u32, CRC32C of the payload
u32, payload length u64, CRC32C of the 24 bytes before u32, magic b"MLVN".
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
import shutil
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import google_crc32c
import numpy as np

from milvine.errors import DataIntegrityError, write_failure
from milvine.model.records import record
from milvine.storage.directories import sync_directory

Buffer = bytes | bytearray | memoryview
MAGIC = b"MLVN"
_FOOTER_BODY = struct.Struct("<8sIIQ")
_FOOTER_END = struct.Struct("<I4s")
FOOTER_BYTES = _FOOTER_BODY.size + _FOOTER_END.size
_CRC_STEP_BYTES = 4 << 20
_READ_STEP_BYTES = 256 << 10
_POPULATE_STEP_BYTES = 8 << 20
_MADV_POPULATE_READ = 22
_SYNC_THREADS = 8
_FEW_SYNCS = 16
# Not mmap.madvise, which holds the GIL while pages come from the disk.
_madvise = ctypes.CDLL(None).madvise
_madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


def crc32c(buffers: Iterable[Buffer], crc: int = 0) -> int:
    """CRC32C of the buffers in order. Works in steps, so that other threads get the GIL."""
    for buffer in buffers:
        array = np.frombuffer(buffer, np.uint8)  # google_crc32c accepts arrays but not memoryview
        for start in range(0, len(array), _CRC_STEP_BYTES):
            crc = google_crc32c.extend(crc, array[start : start + _CRC_STEP_BYTES])
    return crc


def save_sealed(path: Path, kind: str, version: int, payload: Iterable[Buffer], *, synced: bool = True) -> int:
    """Write a sealed file and, if `synced`, fsync it; the caller syncs the directory. Returns the file's size in bytes.

    Raises FileExistsError if the file exists, and DiskLimitExceeded or WriteFailed if it cannot be written; the
    incomplete file is then removed.
    """
    with path.open("xb") as file:
        try:
            crc = length = 0
            for buffer in payload:
                content = memoryview(buffer)
                if not content.nbytes:
                    continue
                content = content.cast("B")
                for start in range(0, content.nbytes, _CRC_STEP_BYTES):
                    step = content[start : start + _CRC_STEP_BYTES]
                    file.write(step)
                    crc = crc32c([step], crc)
                length += content.nbytes
            file.write(footer(kind, version, crc, length))
            file.flush()
            if synced:
                os.fsync(file.fileno())
        except OSError as error:
            path.unlink(missing_ok=True)
            raise write_failure(path, error) from error
    return length + FOOTER_BYTES


def sync_all(paths: Sequence[Path]) -> None:
    """Makes files, and the entries of directories, durable.

    Many are synced side by side: the file system then writes its journal once for several of them.
    """
    if len(paths) <= _FEW_SYNCS:
        for path in paths:
            sync_directory(path)
        return
    with ThreadPoolExecutor(_SYNC_THREADS, thread_name_prefix="sync") as pool:
        list(pool.map(sync_directory, paths))


def footer(kind: str, version: int, crc: int, length: int) -> bytes:
    body = _FOOTER_BODY.pack(kind.encode(), version, crc, length)
    return body + _FOOTER_END.pack(google_crc32c.value(body), MAGIC)


def seal_written(path: Path, kind: str, version: int) -> int:
    """Adds the footer to a payload written by a library, and fsyncs. Returns the file's size in bytes."""
    with path.open("r+b") as file:
        length = os.fstat(file.fileno()).st_size
        with mmap.mmap(file.fileno(), length, prot=mmap.PROT_READ) as mapped, memoryview(mapped) as view:
            crc = crc32c([view])
        file.seek(length)
        file.write(footer(kind, version, crc, length))
        file.flush()
        os.fsync(file.fileno())
    return length + FOOTER_BYTES


@record
class MappedFile:
    """A sealed file's payload, mapped read-only; the pages are returned when the last array over it is gone."""

    path: Path
    mapping: mmap.mmap
    payload: memoryview

    @property
    def payload_bytes(self) -> int:
        return self.payload.nbytes


OnBytes = Callable[[int], None]
"""Called with the number of further bytes that are resident; an exception ends the opening."""


def ignore_bytes(_more_bytes: int) -> None:
    pass


def open_sealed(path: Path, kind: str, version: int, *, resident: bool, on_bytes: OnBytes = ignore_bytes) -> MappedFile:
    """Maps a sealed file of a version up to `version`. `resident` verifies its checksum and reads every page.

    Raises DataIntegrityError, naming the file, for a missing, short, flipped or unknown file.
    """
    mapped, found_kind, found_version, crc = _map_sealed(path)
    if found_kind != kind:
        raise DataIntegrityError(f"{path} is not a {kind} file")
    if not 1 <= found_version <= version:
        raise DataIntegrityError(f"{path} has format version {found_version}, this program reads version {version}")
    if resident:
        _verify(mapped, crc, on_bytes, populate=True)
    return mapped


def verify_sealed(path: Path) -> None:
    """Verifies the checksum of a sealed file of any kind. Raises DataIntegrityError naming it."""
    mapped, _, _, crc = _map_sealed(path)
    _verify(mapped, crc)


def checksum_in(ending: bytes, size: int, name: object) -> int:
    """The checksum of a sealed file's payload, from its last bytes. Raises DataIntegrityError naming the file."""
    return _footer_of(Path(str(name)), ending[-FOOTER_BYTES:], size)[2]


def stored_checksum(path: Path) -> int:
    """The checksum that a sealed file says that its payload has. Raises DataIntegrityError naming the file."""
    return _map_sealed(path)[3]


def checksum_of(file: BinaryIO, size: int, name: object) -> int:
    """The checksum of a sealed file's payload, read in steps and compared with its footer. Raises DataIntegrityError
    naming the file."""
    crc, left = 0, size - FOOTER_BYTES
    while left > 0:
        step = file.read(min(_CRC_STEP_BYTES, left))
        if not step:
            raise _truncated(Path(str(name)), size - left)
        crc = google_crc32c.extend(crc, step)
        left -= len(step)
    if crc != checksum_in(file.read(FOOTER_BYTES + 1), size, name):
        raise DataIntegrityError(f"{name} does not match its checksum")
    return crc


def read_and_verify(path: Path, pause: Callable[[int], None]) -> None:
    """Like `verify_sealed`, in small reads. A file that this process has not mapped is not kept in the page cache.
    `pause` is called after each read with its number of bytes. Raises DataIntegrityError naming the file."""
    try:
        file = path.open("rb", buffering=0)
    except FileNotFoundError as error:
        raise DataIntegrityError(f"{path} is missing") from error
    with file:
        descriptor = file.fileno()
        is_mapped = str(path) in Path("/proc/self/maps").read_text()
        size = os.fstat(descriptor).st_size
        _, _, expected, length = _footer_of(path, os.pread(descriptor, FOOTER_BYTES, max(0, size - FOOTER_BYTES)), size)
        crc = offset = 0
        while offset < length:
            step = file.read(min(_READ_STEP_BYTES, length - offset))
            if not step:
                raise _truncated(path, offset)
            crc = google_crc32c.extend(crc, step)
            if not is_mapped:
                os.posix_fadvise(descriptor, offset, len(step), os.POSIX_FADV_DONTNEED)
            offset += len(step)
            pause(len(step))
    if crc != expected:
        raise DataIntegrityError(f"{path} does not match its checksum")


def mapped_files() -> set[str]:
    """Paths of the files that this process has mapped; none where the system cannot say."""
    try:
        maps = Path("/proc/self/maps").read_text()
    except OSError:
        return set()
    return {line[line.index("/") :] for line in maps.splitlines() if "/" in line}


def _verify(mapped: MappedFile, crc: int, on_bytes: OnBytes = ignore_bytes, *, populate: bool = False) -> None:
    found = 0
    for start in range(0, mapped.payload_bytes, _POPULATE_STEP_BYTES):
        step = mapped.payload[start : start + _POPULATE_STEP_BYTES]
        if populate:  # kernels before 5.14 cannot, but the checksum touches every page
            _madvise(np.frombuffer(step, np.uint8).ctypes.data, step.nbytes, _MADV_POPULATE_READ)
        found = crc32c([step], found)
        on_bytes(step.nbytes)
    if found != crc:
        raise DataIntegrityError(f"{mapped.path} does not match its checksum")


def _map_sealed(path: Path) -> tuple[MappedFile, str, int, int]:
    """The file, and the kind, version and checksum from its footer."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size < FOOTER_BYTES:
                raise _truncated(path, size)
            mapping = mmap.mmap(file.fileno(), size, prot=mmap.PROT_READ)
    except FileNotFoundError as error:
        raise DataIntegrityError(f"{path} is missing") from error
    view = memoryview(mapping)
    kind, version, crc, length = _footer_of(path, bytes(view[size - FOOTER_BYTES :]), size)
    return MappedFile(path, mapping, view[:length]), kind, version, crc


def _truncated(path: Path, size: int) -> DataIntegrityError:
    return DataIntegrityError(f"{path} is truncated: {size} bytes")


def _footer_of(path: Path, found: bytes, size: int) -> tuple[str, int, int, int]:
    """Kind, version, checksum and length of the payload, from the last bytes of a file of `size` bytes."""
    if size < FOOTER_BYTES:
        raise _truncated(path, size)
    body = found[: _FOOTER_BODY.size]
    body_crc, magic = _FOOTER_END.unpack(found[_FOOTER_BODY.size :])
    if magic != MAGIC or google_crc32c.value(body) != body_crc:
        raise DataIntegrityError(f"{path} has no valid footer: it is truncated or damaged")
    found_kind, found_version, crc, length = _FOOTER_BODY.unpack(body)
    if length != size - FOOTER_BYTES:
        raise DataIntegrityError(f"{path} has {size} bytes, not {length + FOOTER_BYTES}")
    return found_kind.rstrip(b"\0").decode(), found_version, crc, length


@contextlib.contextmanager
def removed_on_failure() -> Iterator[list[Path]]:
    """If the body fails, removes the files that it added to the list, so that no garbage fills the disk.

    An OSError of the body becomes DiskLimitExceeded or WriteFailed.
    """
    made: list[Path] = []
    try:
        yield made
    except BaseException as error:
        for path in made:
            with contextlib.suppress(OSError):
                remove_tree(path)
        if isinstance(error, OSError):
            raise write_failure(error.filename or "a file", error) from error
        raise


def link_or_copy(source: Path, target: Path) -> None:
    """Makes `target` a further name of a sealed file, or a synced copy where the file system cannot; the caller syncs
    the directory. Raises FileNotFoundError."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP):
            raise
        shutil.copyfile(source, target)
        descriptor = os.open(target, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove_tree(path: Path) -> None:
    """Removes one of our files, or a directory with all its files; no error if it is gone, or if another thread that
    removes it is faster."""
    if not path.is_dir():
        path.unlink(missing_ok=True)
        return
    with contextlib.suppress(FileNotFoundError):
        for child in list(path.iterdir()):
            remove_tree(child)
        path.rmdir()


def walk_files(path: Path) -> Iterator[Path]:
    """All files below `path`, in any order; none if it does not exist."""
    if path.is_dir():
        for child in path.iterdir():
            if child.is_dir():
                yield from walk_files(child)
            else:
                yield child
