"""The write-ahead log of one collection: numbered files, group commit, replay.

File: header of 40 bytes (magic b"MLVNWAL\\0", format version u32, collection id u64, file number u32, valid end of the
previous file u64, CRC32C of all that u32, zero u32; little-endian, packed), then records (`wal_format`).

A torn tail (written, never synced, so never acknowledged) is dropped; a bad record at an offset that a later record or
the next file knows to be synced is damage and an error. Files are removed whole and never cut. After a restart the
log continues in the last file if that has no record, else in a new one, whose header says where the last one ends.

Small records overwrite zeros that were written ahead. The sync of a file that has not grown takes half the time, since
the file system writes nothing to its journal. (fallocate does not help, since its extents are marked as unwritten.)
"""

from __future__ import annotations

import contextlib
import os
import struct
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from milvine.crash_points import crash_point
from milvine.errors import DataIntegrityError, DiskLimitExceeded, MilvineError, ServiceInternal, is_full_disk
from milvine.model.records import record
from milvine.storage.directories import entry_names, make_directory, sync_directory
from milvine.storage.files import Buffer, crc32c
from milvine.storage.wal_format import CRC, RECORD_HEAD, RECORD_MAGIC, WalRecord, record_at, record_bytes, sealed_record

FORMAT_VERSION = 1
FILE_BYTES = 64 << 20
_ROLL_SECONDS = 0.1
"""How long a record waits for a full file to be replaced. Then it is written there, so the size is a soft limit."""
_FILE_MAGIC = b"MLVNWAL\0"
_FILE_HEADER_BODY = struct.Struct("<8sIQIQ")
_FILE_HEADER_BYTES = _FILE_HEADER_BODY.size + 8
_SUFFIX = ".wal"
_IOV_MAX = 512
_NOT_BEGUN = -1
_AHEAD_BYTES = 512 << 10
_ZEROS = bytes(_AHEAD_BYTES)
_AHEAD_AFTER_BYTES = 64 << 10
"""A smaller file gets no zeros written ahead, which would take half a gigabyte for a thousand small collections."""
_SMALL_BYTES = 128 << 10
"""Larger writes are appended, since writing them twice would cost more than it saves."""


@record
class LogEnd:
    """Where a log goes on: in file `file_number`, which exists without a record, or which the next write creates.

    `previous_end` is the valid end of the file before it, 0 if there is none; all files before have `earlier_bytes`.
    """

    file_number: int
    previous_end: int
    earlier_bytes: int = 0
    exists: bool = False


class Wal:
    """Appends are buffered under the caller's lock. `sync` writes and fsyncs them for all waiting threads; `write`
    starts the write before a thread waits.

    After a failed write or fsync it is unknown what reached the disk, so all writes are refused until restart.
    """

    def __init__(self, directory: Path, collection_id: int, end: LogEnd | None = None) -> None:
        """Creates a log, or goes on at `end` with the first write, so that idle logs cost no file operation at a start
        and a server starts on a full disk."""
        self._directory = directory
        self._collection_id = collection_id
        self._lock = threading.Lock()
        self._synced = threading.Condition(self._lock)
        self._pending: list[Buffer] = []
        self._appended = self._written = self._durable = 0
        self._leader_active = False
        self._failure: BaseException | None = None
        self._end = end or LogEnd(1, 0)
        self._earlier_bytes = self._end.earlier_bytes
        self._file_offset = _FILE_HEADER_BYTES if self._end.exists else 0
        self._descriptor = _NOT_BEGUN
        self.file_number = self._end.file_number
        if end is None:
            self._begin()

    def _begin(self) -> None:
        """Opens the first file unless it is open. Raises DiskLimitExceeded or ServiceInternal and changes nothing
        then. It may be called again, since the previous file gets no more records."""
        if self._descriptor == _NOT_BEGUN:
            try:
                if self._end.exists:
                    self._reopen_file(self._end.file_number)
                else:
                    self._create_file(self._end.file_number, self._end.previous_end)
            except OSError as error:
                raise _error(f"the log in {self._directory} cannot be written: {error.strerror}", error) from error

    def _reopen_file(self, file_number: int) -> None:
        """Goes on in a file without records. A crash may have come between its header and the sync of its name."""
        sync_directory(self._directory)
        descriptor = os.open(wal_path(self._directory, file_number), os.O_WRONLY | os.O_CLOEXEC)
        self._write_to(descriptor, file_number)

    def _create_file(self, file_number: int, previous_end: int) -> None:
        make_directory(self._directory)
        path = wal_path(self._directory, file_number)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            body = _FILE_HEADER_BODY.pack(_FILE_MAGIC, FORMAT_VERSION, self._collection_id, file_number, previous_end)
            _write_all(descriptor, 0, [body, CRC.pack(crc32c([body]), 0)])
            os.fsync(descriptor)
            sync_directory(self._directory)
        except OSError:
            os.close(descriptor)
            with contextlib.suppress(OSError):
                path.unlink()
            raise
        self._write_to(descriptor, file_number)

    def _write_to(self, descriptor: int, file_number: int) -> None:
        self.file_number = file_number
        self._descriptor = descriptor
        self._file_offset = self._written_offset = self._synced_offset = self._ahead_offset = _FILE_HEADER_BYTES

    def append(self, record_type: int, ts: int, body: Sequence[Buffer]) -> int:
        """Buffers a record; returns the ticket that `sync` waits for. The caller's lock gives the order."""
        length = sum(memoryview(part).nbytes for part in body)
        with self._lock:
            # The threads that wait for records of a full file sync them, and the last one rolls the file.
            self._synced.wait_for(self._has_room, _ROLL_SECONDS)
            self._raise_failure()
            self._begin()
            head = RECORD_HEAD.pack(RECORD_MAGIC, record_type, length, ts, self._synced_offset)
        record = sealed_record(head, length, body)
        with self._lock:
            self._pending += record
            self._file_offset += record_bytes(length)
            self._appended += 1
            return self._appended

    def write(self, ticket: int) -> None:
        """Starts to write the record of `ticket` without waiting, so that the caller may work in the meantime.

        Does nothing if another thread is writing, which will also write this record. `sync` raises the error of a
        failed write.
        """
        with self._lock:
            if self._leader_active or self._written >= ticket or self._failure is not None:
                return
            self._leader_active = True
        failure = self._write_pending()
        with self._lock:
            self._leader_active = False
            self._failure = failure
            self._synced.notify_all()

    def sync(self, ticket: int) -> None:
        """Returns once the record of `ticket` is on disk; one caller writes and fsyncs for all waiting callers.

        Raises ServiceInternal, or DiskLimitExceeded if the disk is full, if the log failed, now or before.
        """
        while True:
            with self._lock:
                while self._leader_active and self._durable < ticket and self._failure is None:
                    self._synced.wait()
                if self._durable >= ticket:
                    return
                self._raise_failure()
                self._leader_active = True
            before = self._synced_offset
            failure = self._write_pending() or self._sync_written()
            if failure is None:
                with self._lock:
                    self._durable, self._synced_offset = self._written, self._written_offset
                    self._synced.notify_all()
                failure = self._write_ahead(self._synced_offset - before)
            with self._lock:
                self._leader_active = False
                self._failure = failure or self._roll_if_full()
                self._synced.notify_all()

    def _write_pending(self) -> OSError | None:
        """The leader's work; returns the error, if any."""
        with self._lock:
            buffers, self._pending = self._pending, []
            upto, start, end = self._appended, self._written_offset, self._file_offset
        if not buffers:
            return None
        try:
            _write_all(self._descriptor, start, buffers)
            _begin_writing(self._descriptor, start, end - start)
        except OSError as error:
            return error
        self._written, self._written_offset = upto, end
        return None

    def _sync_written(self) -> OSError | None:
        try:
            crash_point("log.written")
            os.fdatasync(self._descriptor)
            crash_point("log.synced")
        except OSError as error:
            return error
        return None

    def _write_ahead(self, size: int) -> OSError | None:
        """Writes zeros for the next small records if another `size` bytes would exceed the present ones; the next sync
        makes them durable. A full disk may lack space for zeros but not for records. Returns the error, if any."""
        end = self._written_offset
        if end + size <= self._ahead_offset or size > _SMALL_BYTES or end < _AHEAD_AFTER_BYTES:
            return None
        start = max(end, self._ahead_offset)
        self._ahead_offset = end + min(_AHEAD_BYTES, end)
        try:
            _write_all(self._descriptor, start, [memoryview(_ZEROS)[: self._ahead_offset - start]])
            _begin_writing(self._descriptor, start, self._ahead_offset - start)
        except OSError as error:
            return None if is_full_disk(error) else error
        return None

    def _has_room(self) -> bool:
        return self._file_offset < FILE_BYTES or self._failure is not None

    def _roll_if_full(self) -> OSError | None:
        """Continues in the next file if this one is full and synced; returns the error, if any."""
        if self._pending or self._file_offset < FILE_BYTES:
            return None
        try:
            self._next_file()
        except OSError as error:
            return error
        return None

    def _next_file(self) -> None:
        """After a failure the log must refuse writes: the new file may exist, and it says where this one ends."""
        old_descriptor, old_bytes = self._descriptor, self._file_offset
        self._create_file(self.file_number + 1, old_bytes)
        os.close(old_descriptor)
        self._earlier_bytes += old_bytes

    def when_late(self, call: Callable[[int], None]) -> None:
        """Never: what a failed write or sync has left is unknown until restart."""

    def rotate(self) -> int:
        """Continues in a new file and returns its number, the checkpoint. All appended records must be synced."""
        with self._lock:
            while self._leader_active:  # its records are on disk, but zeros after them may still be written
                self._synced.wait()
            self._raise_failure()
            assert not self._pending and self._durable == self._appended
            try:
                if self._descriptor == _NOT_BEGUN:
                    self._begin()
                else:
                    self._next_file()
            except OSError as error:
                self._failure = error
                self._raise_failure()
            self._earlier_bytes = 0
            crash_point("log.rotated")
            return self.file_number

    @property
    def bytes_since_checkpoint(self) -> int:
        """Bytes that a recovery would replay, including buffered ones."""
        return self._earlier_bytes + self._file_offset

    def close(self) -> None:
        """Closes the file; later writes are refused."""
        with self._lock:
            while self._leader_active:
                self._synced.wait()
            if self._failure is None:
                self._failure = ValueError("it is closed")
            if self._descriptor != _NOT_BEGUN:
                os.close(self._descriptor)
                self._descriptor = _NOT_BEGUN

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise _failed(self._directory, self._failure)


def _failed(directory: Path, failure: BaseException) -> MilvineError:
    return _error(f"the log in {directory} failed and takes no writes until restart: {failure}", failure)


def _error(text: str, failure: BaseException) -> MilvineError:
    return DiskLimitExceeded(text) if is_full_disk(failure) else ServiceInternal(text)


def _write_all(descriptor: int, offset: int, buffers: list[Buffer]) -> None:
    views = [memoryview(b).cast("B") for b in buffers if len(b)]
    position = 0
    while position < len(views):
        written = os.pwritev(descriptor, views[position : position + _IOV_MAX], offset)
        offset += written
        while position < len(views) and written >= len(views[position]):
            written -= len(views[position])
            position += 1
        if written:
            views[position] = views[position][written:]


def _begin_writing(descriptor: int, offset: int, length: int) -> None:
    """Starts writeback: the kernel may drop these pages, which are not read, and writes them in order to do so."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # a file system may ignore advice; syncs work all the same
            os.posix_fadvise(descriptor, offset, length, os.POSIX_FADV_DONTNEED)


def wal_path(directory: Path, file_number: int) -> Path:
    return directory / f"{file_number:010d}{_SUFFIX}"


def wal_file_numbers(directory: Path) -> list[int]:
    """Numbers of the existing log files, ascending."""
    return sorted(int(name.removesuffix(_SUFFIX)) for name in entry_names(directory) if name.endswith(_SUFFIX))


def _is_idle(directory: Path, collection_id: int, first_file: int) -> bool:
    """Whether a log is one intact file without a record, as most of ten thousand are; False if it is damaged. It costs
    a few system calls and nothing else."""
    try:
        name = f"{first_file:010d}{_SUFFIX}"
        if entry_names(directory) != [name]:
            return False
        descriptor = os.open(f"{directory}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            data = os.read(descriptor, _FILE_HEADER_BYTES + 1)
        finally:
            os.close(descriptor)
    except OSError:
        return False
    if len(data) != _FILE_HEADER_BYTES:
        return False
    *own, _ = _FILE_HEADER_BODY.unpack_from(data)
    crc, _ = CRC.unpack_from(data, _FILE_HEADER_BODY.size)
    is_intact = crc == crc32c([data[: _FILE_HEADER_BODY.size]])
    return is_intact and own == [_FILE_MAGIC, FORMAT_VERSION, collection_id, first_file]


def first_ts(path: Path) -> int | None:
    """The timestamp of a file's first record, None if it has none."""
    found = record_at(memoryview(path.read_bytes()), _FILE_HEADER_BYTES)
    return None if found is None else found.ts


def remove_files_before(directory: Path, file_number: int) -> None:
    """Remove the log files whose rows are all in sealed segments."""
    stale = [n for n in wal_file_numbers(directory) if n < file_number]
    for number in stale:
        wal_path(directory, number).unlink(missing_ok=True)
    if stale:
        sync_directory(directory)


class WalReader:
    """Reads the files from `first_file` on; afterwards knows where the log may continue.

    `unborn` is then a last file whose creation a crash cut short, to be removed before `sync_tail`; `last_file` is the
    number of the last file before it, 0 if there is none; `unread_bytes` follow its valid end: a torn tail, without
    zeros written ahead.
    """

    def __init__(self, directory: Path, collection_id: int, first_file: int) -> None:
        self._directory = directory
        self._collection_id = collection_id
        self._first_file = first_file
        self.shown = str(directory)
        self.last_file = 0
        self._last_file_bytes = self._earlier_bytes = 0
        self.valid_end = 0
        self.unread_bytes = 0
        self.unborn: Path | None = None

    def records(self) -> Iterator[WalRecord]:
        """All durable records in order. Raises DataIntegrityError naming the file for damage before the tail."""
        if _is_idle(self._directory, self._collection_id, self._first_file):
            self.last_file, self._last_file_bytes = self._first_file, _FILE_HEADER_BYTES
            self.valid_end = _FILE_HEADER_BYTES
            return
        numbers = [n for n in wal_file_numbers(self._directory) if n >= self._first_file]
        if numbers and numbers != list(range(numbers[0], numbers[0] + len(numbers))):
            raise DataIntegrityError(f"{self._directory} lacks a log file between {numbers[0]} and {numbers[-1]}")
        if not numbers or numbers[0] != self._first_file:
            path = wal_path(self._directory, self._first_file)
            raise DataIntegrityError(f"{path} is missing")
        contents: tuple[Path, memoryview] | None = None
        for number in numbers:
            path = wal_path(self._directory, number)
            data = memoryview(path.read_bytes())
            previous_end = self._read_header(path, data, number)
            if previous_end is None:
                # A crash between creating the file and syncing its header: it cannot have records.
                if number != numbers[-1] or len(data) > _FILE_HEADER_BYTES:
                    raise DataIntegrityError(f"{path} has no valid header")
                self.unborn = path
                break
            if contents is not None:
                yield from self._file_records(*contents, known_end=previous_end)
            contents = (path, data)
            self._earlier_bytes += self._last_file_bytes
            self.last_file, self._last_file_bytes = number, len(data)
        if contents is not None:
            yield from self._file_records(*contents, known_end=None)

    def sync_tail(self) -> None:
        """Makes replayed records durable, since a record that was written but never synced is relied on from now.

        Files before the last one were synced before the next one was created.
        """
        if self.valid_end > _FILE_HEADER_BYTES:
            descriptor = os.open(wal_path(self._directory, self.last_file), os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def go_on(self) -> Wal:
        """The log, ready to continue."""
        if self.unborn is not None:
            self.unborn.unlink()
        self.sync_tail()
        return Wal(self._directory, self._collection_id, self.end)

    @property
    def end(self) -> LogEnd:
        """Where the log goes on: in a last file of nothing but its header, else in a new one."""
        if not self.last_file:
            return LogEnd(self._first_file, 0)
        if self._last_file_bytes == _FILE_HEADER_BYTES:
            return LogEnd(self.last_file, 0, self._earlier_bytes, exists=True)
        return LogEnd(self.last_file + 1, self.valid_end, self._earlier_bytes + self._last_file_bytes)

    def _read_header(self, path: Path, data: memoryview, number: int) -> int | None:
        if len(data) < _FILE_HEADER_BYTES:
            return None
        magic, version, collection_id, file_number, previous_end = _FILE_HEADER_BODY.unpack_from(data)
        if magic == _FILE_MAGIC and version != FORMAT_VERSION:
            raise DataIntegrityError(
                f"{path} has format version {version}, this program reads version {FORMAT_VERSION}"
            )
        crc, _ = CRC.unpack_from(data, _FILE_HEADER_BODY.size)
        if magic != _FILE_MAGIC or crc != crc32c([data[: _FILE_HEADER_BODY.size]]):
            return None
        if (collection_id, file_number) != (self._collection_id, number):
            raise DataIntegrityError(f"{path} belongs to collection {collection_id}, file {file_number}")
        return int(previous_end)

    def _file_records(self, path: Path, data: memoryview, known_end: int | None) -> Iterator[WalRecord]:
        """Records of one file; `known_end` is its synced end if a next file exists, None for the last file."""
        offset = _FILE_HEADER_BYTES
        while offset < len(data) if known_end is None else offset < known_end:
            record = record_at(data, offset)
            if record is None:
                if known_end is not None or _synced_beyond(data, offset):
                    raise DataIntegrityError(f"{path} is damaged at offset {offset}, before its end")
                break
            yield record
            offset += record_bytes(len(record.body))
        self.valid_end = offset
        self.unread_bytes = len(bytes(data[offset:]).rstrip(b"\0"))


def _synced_beyond(data: memoryview, offset: int) -> bool:
    """Whether a later intact record says that `offset` was synced, which makes this damage and not a torn tail."""
    raw = data.obj
    assert isinstance(raw, bytes)
    position = raw.find(RECORD_MAGIC, offset + 1)
    while position != -1:
        if (position - _FILE_HEADER_BYTES) % 8 == 0 and record_at(data, position) is not None:
            synced = RECORD_HEAD.unpack_from(data, position)[4]
            if synced > offset:
                return True
        position = raw.find(RECORD_MAGIC, position + 1)
    return False
