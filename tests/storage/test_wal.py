"""The log: synced records come back in order, a torn tail is dropped, damage is an error that names the file."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sealed_damage import flip_bit, truncate
from sync_sizes import sizes_at_sync

from milvine.errors import DataIntegrityError, DiskLimitExceeded, MilvineError, ServiceInternal
from milvine.storage import wal as wal_module
from milvine.storage.files import crc32c
from milvine.storage.wal import (
    LogEnd,
    Wal,
    WalReader,
    remove_files_before,
    wal_file_numbers,
    wal_path,
)

COLLECTION = 77
FILE_HEADER_BYTES = 40
RECORD_HEADER_BYTES = 40
Record = tuple[int, int, bytes]


def replay(directory: Path, first_file: int = 1) -> tuple[list[Record], WalReader]:
    reader = WalReader(directory, COLLECTION, first_file)
    return [(r.record_type, r.ts, bytes(r.body)) for r in reader.records()], reader


def go_on(directory: Path, first_file: int = 1) -> tuple[list[Record], Wal]:
    """Restarts the log: a replay; the next record goes to a new file, or to the last one if that has no record."""
    records, reader = replay(directory, first_file)
    if reader.unborn is not None:
        reader.unborn.unlink()
    reader.sync_tail()
    return records, Wal(directory, COLLECTION, reader.end)


def write(wal: Wal, records: Sequence[Record]) -> None:
    """Syncs each record separately, so every later one says that it was synced."""
    for record_type, ts, body in records:
        wal.sync(wal.append(record_type, ts, [body]))


@contextlib.contextmanager
def bystander(directory: Path) -> Iterator[None]:
    """A file that gets the log's descriptor if the log closes it too early; the log must not write into it."""
    path = directory / "bystander"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    yield
    os.close(descriptor)
    assert path.read_bytes() == b"", "the log has written into another file"


def record_bytes(body: bytes) -> int:
    return RECORD_HEADER_BYTES + len(body) + -len(body) % 8


def offsets(records: Sequence[Record]) -> list[int]:
    """Where each record of a file starts, and where the last one ends."""
    found = [FILE_HEADER_BYTES]
    for _, _, body in records:
        found.append(found[-1] + record_bytes(body))
    return found


def refused(directory: Path, path: Path, first_file: int = 1) -> str:
    with pytest.raises(DataIntegrityError, match=re.escape(str(path))) as caught:
        replay(directory, first_file)
    return caught.value.message


SOME: list[Record] = [(1, 10, b"one"), (2, 11, b""), (1, 12, b"REC\0" * 20), (1, 13, bytes(range(200)))]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "wal" / str(COLLECTION)


@pytest.fixture
def written(directory: Path) -> Path:
    """A closed log of SOME."""
    wal = Wal(directory, COLLECTION)
    write(wal, SOME)
    wal.close()
    return directory


record_lists = st.lists(
    st.tuples(st.sampled_from([1, 2]), st.integers(0, 2**63 - 1), st.binary(max_size=100)), max_size=8
)


@given(st.lists(record_lists, min_size=1, max_size=4))
@settings(max_examples=40, deadline=None)
def test_all_synced_records_come_back_in_order_over_any_number_of_files(
    tmp_path_factory: pytest.TempPathFactory, files: list[list[Record]]
) -> None:
    directory = tmp_path_factory.mktemp("wal")
    wal = Wal(directory, COLLECTION)
    for number, records in enumerate(files, 1):
        assert wal.file_number == number
        write(wal, records)
        assert wal.bytes_since_checkpoint == wal_path(directory, number).stat().st_size == offsets(records)[-1]
        assert wal.rotate() == number + 1
    wal.close()
    found, reader = replay(directory)
    assert found == [record for records in files for record in records]
    earlier = sum(offsets(records)[-1] for records in files)
    assert reader.end == LogEnd(len(files) + 1, 0, earlier, exists=True)


def test_a_body_in_several_buffers_is_one_record(directory: Path) -> None:
    wal = Wal(directory, COLLECTION)
    parts = [os.urandom(n) for n in (0, 1, 7, 8, 9, 5000)] + [b"x"] * 1500  # more than one write takes
    wal.sync(wal.append(1, 5, [memoryview(part) for part in parts]))
    wal.close()
    assert replay(directory)[0] == [(1, 5, b"".join(parts))]


def test_sync_returns_only_when_the_record_is_on_disk(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_disk = sizes_at_sync(monkeypatch, "fdatasync")
    wal = Wal(directory, COLLECTION)
    for ts in range(5):
        ticket = wal.append(1, ts, [b"body"])
        assert [0, *on_disk][-1] < wal.bytes_since_checkpoint
        wal.sync(ticket)
        assert on_disk[-1] == wal.bytes_since_checkpoint
    wal.close()


def test_many_threads_share_syncs_and_lose_nothing(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    syncs: list[int] = []
    real = os.fdatasync

    def slow(descriptor: int) -> None:
        threading.Event().wait(0.002)
        real(descriptor)
        syncs.append(os.fstat(descriptor).st_size)

    monkeypatch.setattr(os, "fdatasync", slow)
    wal = Wal(directory, COLLECTION)
    order = threading.Lock()
    clock = [0]
    too_early: list[int] = []

    def writer(number: int) -> None:
        for turn in range(25):
            with order:
                clock[0] += 1
                ticket = wal.append(1, clock[0], [b"%d-%d" % (number, turn), bytes(turn)])
                end = wal.bytes_since_checkpoint
            if number % 2:
                wal.write(ticket)
            wal.sync(ticket)
            if max(syncs) < end:
                too_early.append(ticket)

    threads = [threading.Thread(target=writer, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wal.close()
    assert not too_early, "sync returned before the record was on disk"
    assert len(syncs) < 400 / 4, "no group commit: nearly every record was synced separately"
    records, _ = replay(directory)
    assert [ts for _, ts, _ in records] == list(range(1, 401))
    expected = {b"%d-%d" % (n, turn) + bytes(turn) for n in range(16) for turn in range(25)}
    assert {body for _, _, body in records} == expected


def test_a_full_file_is_followed_by_the_next_one_and_nothing_is_lost_between(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wal_module, "FILE_BYTES", 2000)
    wal = Wal(directory, COLLECTION)
    order = threading.Lock()
    clock = [0]

    def writer() -> None:
        for _ in range(40):
            with order:
                clock[0] += 1
                ticket = wal.append(1, clock[0], [os.urandom(clock[0] % 300)])
            wal.sync(ticket)

    threads = [threading.Thread(target=writer) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for ts in range(321, 401):  # alone, so that every full file is followed by the next one at once
        write(wal, [(1, ts, os.urandom(100))])
    numbers = wal_file_numbers(directory)
    assert len(numbers) > 3
    sizes = [wal_path(directory, n).stat().st_size for n in numbers]
    assert wal.bytes_since_checkpoint == sum(sizes)
    wal.close()
    assert [ts for _, ts, _ in replay(directory)[0]] == list(range(1, 401))
    records, wal = go_on(directory)
    assert len(records) == 400
    assert wal.bytes_since_checkpoint == sum(sizes), "a restart must not forget the older files"
    wal.rotate()
    assert wal.bytes_since_checkpoint == FILE_HEADER_BYTES
    wal.close()


def test_a_next_file_that_cannot_be_created_poisons_the_log_after_its_sync(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wal_module, "FILE_BYTES", 100)
    wal = Wal(directory, COLLECTION)
    ticket = wal.append(1, 1, [bytes(100)])

    def broken(*_arguments: object, **_named: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", broken)
        wal.sync(ticket)
    with pytest.raises(DiskLimitExceeded):
        wal.append(1, 2, [b"never"])
    assert replay(directory)[0] == [(1, 1, bytes(100))]


def test_a_torn_tail_of_any_length_is_dropped_twice_in_a_row(written: Path, tmp_path: Path) -> None:
    places = offsets(SOME)
    path = wal_path(written, 1)
    assert path.stat().st_size == places[-1]
    for size in range(places[-2], places[-1]):
        copy = tmp_path / "copy"
        shutil.copytree(written, copy)
        truncate(wal_path(copy, 1), size)
        records, wal = go_on(copy)
        assert records == SOME[:-1], f"torn at {size}"
        again = [(1, 20, b"after the first crash"), (2, 21, b"and torn in its own turn")]
        write(wal, again)
        wal.close()
        truncate(wal_path(copy, 2), offsets(again)[-1] - 1 - size % 40)
        records, wal = go_on(copy)
        assert records == [*SOME[:-1], again[0]], f"torn at {size}, then again"
        write(wal, SOME[:1])
        wal.close()
        assert replay(copy)[0] == [*SOME[:-1], again[0], SOME[0]]
        shutil.rmtree(copy)


@given(record_lists, st.data())
@settings(max_examples=80, deadline=None)
def test_a_log_cut_anywhere_returns_exactly_the_records_before_the_cut(
    tmp_path_factory: pytest.TempPathFactory, records: list[Record], data: st.DataObject
) -> None:
    directory = tmp_path_factory.mktemp("wal")
    wal = Wal(directory, COLLECTION)
    write(wal, records)
    wal.close()
    places = offsets(records)
    cut = data.draw(st.integers(FILE_HEADER_BYTES, places[-1]))
    truncate(wal_path(directory, 1), cut)
    whole = sum(end - (-len(body) % 8) <= cut for end, (_, _, body) in zip(places[1:], records, strict=True))
    found, reader = replay(directory)
    assert found == records[:whole]
    whole_end = places[whole]
    torn = LogEnd(2, whole_end, cut)
    assert reader.end == (LogEnd(1, 0, 0, exists=True) if cut == FILE_HEADER_BYTES else torn)


def test_garbage_after_the_last_record_is_a_torn_tail(written: Path) -> None:
    with wal_path(written, 1).open("ab") as file:
        file.write(bytes(64))
    records, wal = go_on(written)
    assert records == SOME
    wal.close()
    assert replay(written)[0] == SOME


@pytest.mark.parametrize("number", range(len(SOME) - 1))
def test_any_flipped_bit_of_a_record_that_others_follow_names_the_file(written: Path, number: int) -> None:
    start, end = offsets(SOME)[number : number + 2]
    path = wal_path(written, 1)
    body_bytes = len(SOME[number][2])
    for offset in range(start, end):
        in_record = offset - start
        if RECORD_HEADER_BYTES - 4 <= in_record < RECORD_HEADER_BYTES or in_record >= RECORD_HEADER_BYTES + body_bytes:
            continue  # reserved zeros and padding say nothing
        flip_bit(path, offset, offset % 8)
        assert str(start) in refused(written, path)
        flip_bit(path, offset, offset % 8)
    assert replay(written)[0] == SOME


def test_reserved_bytes_and_padding_may_hold_anything(written: Path) -> None:
    start = offsets(SOME)[0]
    flip_bit(wal_path(written, 1), start + RECORD_HEADER_BYTES - 1)
    flip_bit(wal_path(written, 1), start + RECORD_HEADER_BYTES + 3)
    assert replay(written)[0] == SOME


def test_damage_of_the_last_record_is_a_torn_tail_unless_known_to_be_synced(written: Path) -> None:
    flip_bit(wal_path(written, 1), offsets(SOME)[-2] + RECORD_HEADER_BYTES + 5)
    assert replay(written)[0] == SOME[:-1]


@pytest.mark.parametrize("following", ["rotation", "restart"])
def test_damage_of_the_last_record_is_an_error_if_the_next_file_says_it_was_synced(
    written: Path, following: str
) -> None:
    if following == "restart":
        _, wal = go_on(written)
    else:
        shutil.rmtree(written)
        wal = Wal(written, COLLECTION)
        write(wal, SOME)
    wal.rotate()
    wal.close()
    path = wal_path(written, 1)
    last = offsets(SOME)[-2]
    flip_bit(path, last + RECORD_HEADER_BYTES + 5)
    assert str(last) in refused(written, path)
    flip_bit(path, last + RECORD_HEADER_BYTES + 5)
    truncate(path, last)
    refused(written, path)


def test_one_sync_for_several_records_makes_them_one_tail(directory: Path) -> None:
    wal = Wal(directory, COLLECTION)
    write(wal, SOME[:1])
    tickets = [wal.append(*record[:2], [record[2]]) for record in SOME[1:]]
    wal.sync(tickets[-1])
    wal.close()
    flip_bit(wal_path(directory, 1), offsets(SOME)[1])
    assert replay(directory)[0] == SOME[:1], "a crash may have written any part of one sync"
    flip_bit(wal_path(directory, 1), offsets(SOME)[1])
    flip_bit(wal_path(directory, 1), offsets(SOME)[0])
    refused(directory, wal_path(directory, 1))


def test_a_record_inside_a_body_is_not_mistaken_for_one(directory: Path, tmp_path: Path) -> None:
    other = Wal(tmp_path / "other", COLLECTION)
    write(other, [(1, 1, b"a"), (1, 2, b"b")])
    other.close()
    copied = wal_path(tmp_path / "other", 1).read_bytes()[FILE_HEADER_BYTES:]
    wal = Wal(directory, COLLECTION)
    records = [(1, 5, copied), (1, 6, b"end")]
    write(wal, records)
    wal.close()
    assert replay(directory)[0] == records


def test_reading_starts_at_the_checkpoint(directory: Path) -> None:
    wal = Wal(directory, COLLECTION)
    for record in SOME:
        write(wal, [record])
        wal.rotate()
    wal.close()
    assert wal_file_numbers(directory) == [1, 2, 3, 4, 5]
    assert replay(directory, 3)[0] == SOME[2:]
    remove_files_before(directory, 3)
    assert wal_file_numbers(directory) == [3, 4, 5]
    assert replay(directory, 3)[0] == SOME[2:]
    remove_files_before(directory, 3)
    assert wal_file_numbers(directory) == [3, 4, 5]
    assert replay(directory, 5)[0] == []


def test_a_rotation_before_everything_is_synced_fails_an_assertion(directory: Path) -> None:
    wal = Wal(directory, COLLECTION)
    wal.append(1, 1, [b"x"])
    with pytest.raises(AssertionError):
        wal.rotate()
    wal.close()


@pytest.fixture
def three_files(directory: Path) -> Path:
    wal = Wal(directory, COLLECTION)
    write(wal, SOME[:2])
    wal.rotate()
    write(wal, SOME[2:])
    wal.rotate()
    write(wal, SOME)
    wal.close()
    return directory


def test_a_missing_file_in_the_middle_is_an_error(three_files: Path) -> None:
    wal_path(three_files, 2).unlink()
    refused(three_files, three_files)


def test_a_missing_first_file_is_named(three_files: Path) -> None:
    wal_path(three_files, 1).unlink()
    refused(three_files, wal_path(three_files, 1))


def test_a_log_without_any_file_is_an_error(three_files: Path) -> None:
    for number in (1, 2, 3):
        wal_path(three_files, number).unlink()
    refused(three_files, three_files)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_no_flipped_bit_of_a_file_header_changes_or_drops_records_silently(three_files: Path, number: int) -> None:
    path = wal_path(three_files, number)
    expected, _ = replay(three_files)
    silent: list[tuple[int, int]] = []
    for offset in range(FILE_HEADER_BYTES):
        for bit in range(8):
            flip_bit(path, offset, bit)
            try:
                found, _ = replay(three_files)
            except DataIntegrityError as error:
                assert ".wal" in error.message
            else:
                if found != expected:
                    silent.append((offset, bit))
            flip_bit(path, offset, bit)
    assert not silent, f"(byte, bit) of the header whose flip drops synced records without a word: {silent}"


def test_an_unknown_version_of_the_log_is_refused_by_its_number(three_files: Path) -> None:
    path = wal_path(three_files, 2)
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, 8, 9)
    struct.pack_into("<I", data, FILE_HEADER_BYTES - 8, crc32c([bytes(data[: FILE_HEADER_BYTES - 8])]))
    path.write_bytes(data)
    assert "version 9" in refused(three_files, path)


def test_the_log_of_another_collection_is_refused(three_files: Path) -> None:
    with pytest.raises(DataIntegrityError, match=re.escape(str(wal_path(three_files, 1)))):
        list(WalReader(three_files, COLLECTION + 1, 1).records())


@pytest.mark.parametrize("size", [0, 1, FILE_HEADER_BYTES - 1])
def test_a_last_file_without_its_header_is_replaced(written: Path, size: int) -> None:
    _, wal = go_on(written)
    wal.rotate()
    wal.close()
    truncate(wal_path(written, 2), size)
    records, wal = go_on(written)
    assert records == SOME
    assert wal.file_number == 2
    write(wal, SOME[:1])
    wal.close()
    assert replay(written)[0] == [*SOME, SOME[0]]


def test_a_middle_file_without_its_header_is_damage(three_files: Path) -> None:
    truncate(wal_path(three_files, 2), FILE_HEADER_BYTES - 1)
    refused(three_files, wal_path(three_files, 2))


@pytest.mark.parametrize("call", ["fdatasync", "pwritev"])
def test_a_failed_write_or_sync_poisons_the_log_but_replay_still_works(
    written: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    _, wal = go_on(written)
    write(wal, [(1, 50, b"good")])

    def broken(*_arguments: object) -> int:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, call, broken)
        ticket = wal.append(1, 51, [b"bad"])
        with pytest.raises(ServiceInternal, match=re.escape(str(written))):
            wal.sync(ticket)
    for attempt in range(2):  # the disk works again, but not the log, since its content is unknown
        with pytest.raises(ServiceInternal):
            wal.append(1, 52 + attempt, [b"never"])
    with pytest.raises(ServiceInternal):
        wal.sync(ticket)
    with pytest.raises(ServiceInternal):
        wal.rotate()
    wal.close()
    records, _ = replay(written)
    assert records[: len(SOME) + 1] == [*SOME, (1, 50, b"good")]
    assert records[len(SOME) + 1 :] in ([], [(1, 51, b"bad")])


def test_a_record_handed_to_the_disk_is_written_before_a_sync(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = sizes_at_sync(monkeypatch, "fdatasync")
    wal = Wal(directory, COLLECTION)
    tickets = []
    for record_type, ts, body in SOME:
        tickets.append(wal.append(record_type, ts, [body]))
        wal.write(tickets[-1])
        wal.write(tickets[-1])
        assert wal_path(directory, 1).stat().st_size == wal.bytes_since_checkpoint
    assert synced == []
    wal.sync(tickets[-1])
    assert synced == [wal.bytes_since_checkpoint], "one sync is enough for all of them"
    wal.write(tickets[0])
    wal.sync(tickets[0])
    assert len(synced) == 1
    wal.close()
    assert replay(directory)[0] == SOME


def test_the_sync_of_a_record_that_could_not_be_written_fails(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, wal = go_on(written)

    def broken(*_arguments: object) -> int:
        raise OSError(5, "Input/output error")

    ticket = wal.append(1, 50, [b"bad"])
    with monkeypatch.context() as patched:
        patched.setattr(os, "pwritev", broken)
        wal.write(ticket)
    with pytest.raises(ServiceInternal, match="Input/output error"):
        wal.sync(ticket)
    with pytest.raises(ServiceInternal):
        wal.append(1, 51, [b"never"])
    wal.write(ticket)
    wal.close()
    assert replay(written)[0] == SOME


def test_a_failed_sync_fails_for_all_its_waiters(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started, go = threading.Event(), threading.Event()

    def broken(_descriptor: int) -> None:
        started.set()
        go.wait(10)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", broken)
    wal = Wal(directory, COLLECTION)
    outcomes: list[str] = []

    def waiter(ticket: int) -> None:
        try:
            wal.sync(ticket)
            outcomes.append("acknowledged")
        except MilvineError:
            outcomes.append("refused")

    threads = [threading.Thread(target=waiter, args=(wal.append(1, 0, [b"x"]),))]
    threads[0].start()
    assert started.wait(10)
    for ts in range(1, 5):
        threads.append(threading.Thread(target=waiter, args=(wal.append(1, ts, [b"x"]),)))
        threads[-1].start()
    go.set()
    for thread in threads:
        thread.join(10)
    wal.close()
    assert outcomes == ["refused"] * 5


def test_a_partial_write_is_continued(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwritev

    def few_bytes(descriptor: int, buffers: Sequence[memoryview], offset: int) -> int:
        return real(descriptor, [bytes(buffers[0])[:7]], offset)

    monkeypatch.setattr(os, "pwritev", few_bytes)
    wal = Wal(directory, COLLECTION)
    write(wal, SOME)
    wal.close()
    assert replay(directory)[0] == SOME


@pytest.mark.parametrize("call", ["open", "pwritev", "fsync"])
def test_a_failed_rotation_acknowledges_nothing_that_a_restart_would_lose(
    written: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, call: str
) -> None:
    _, wal = go_on(written)
    write(wal, [(1, 50, b"before")])

    def broken(*_arguments: object, **_named: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, call, broken)
        with pytest.raises((OSError, MilvineError)):
            wal.rotate()
    acknowledged = [*SOME, (1, 50, b"before")]
    with bystander(tmp_path):
        try:
            wal.sync(wal.append(1, 51, [b"after"]))
            acknowledged.append((1, 51, b"after"))
        except (OSError, MilvineError):
            pass  # a refusal is fine
    assert replay(written)[0] == acknowledged


def test_a_closed_log_takes_no_writes_and_touches_no_other_file(directory: Path, tmp_path: Path) -> None:
    """A collection may be dropped during an insert."""
    wal = Wal(directory, COLLECTION)
    wal.close()
    refusal: BaseException | None = None
    with bystander(tmp_path):
        try:
            wal.sync(wal.append(1, 1, [b"late"]))
        except (OSError, MilvineError) as error:
            refusal = error
    assert refusal is not None, "a write into a closed log was acknowledged"


def held_up_writes(
    monkeypatch: pytest.MonkeyPatch, is_meant: Callable[[bytes], bool] = lambda _: True
) -> tuple[threading.Event, threading.Event]:
    """Writes whose first buffer matches wait for the second event; the first event is set when one waits."""
    waiting, go = threading.Event(), threading.Event()
    real = os.pwritev

    def held_up(descriptor: int, buffers: Sequence[memoryview], offset: int) -> int:
        if is_meant(bytes(buffers[0])):
            waiting.set()
            assert go.wait(10)
        return real(descriptor, buffers, offset)

    monkeypatch.setattr(os, "pwritev", held_up)
    return waiting, go


def begin_meanwhile(
    call: Callable[[], object], held_up: threading.Thread, go: threading.Event, directory: Path
) -> None:
    """Starts the call while a write is held, then lets both go on; the log must not write into another file."""
    calling = threading.Thread(target=call)
    calling.start()
    calling.join(0.2)
    with bystander(directory):
        go.set()
        held_up.join(10)
        calling.join(10)


def test_closing_a_log_waits_for_a_running_sync(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wal = Wal(directory, COLLECTION)
    leading, go = held_up_writes(monkeypatch)
    outcomes: list[str] = []

    def write_one() -> None:
        try:
            wal.sync(wal.append(1, 1, [b"under way"]))
            outcomes.append("acknowledged")
        except (OSError, MilvineError):
            outcomes.append("refused")

    writer = threading.Thread(target=write_one)
    writer.start()
    assert leading.wait(10)
    begin_meanwhile(wal.close, writer, go, tmp_path)
    assert len(outcomes) == 1
    expected = [(1, 1, b"under way")] if outcomes == ["acknowledged"] else []
    assert replay(directory)[0][: len(expected)] == expected


def test_a_new_log_file_never_replaces_an_existing_one(written: Path) -> None:
    with pytest.raises(ServiceInternal, match="File exists"):
        Wal(written, COLLECTION)
    assert replay(written)[0] == SOME


def test_idle_logs_cost_no_sync_and_no_file_at_a_restart(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Wal(directory, COLLECTION).close()
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    for _ in range(3):
        found, wal = go_on(directory)
        assert found == []
        assert wal.bytes_since_checkpoint == FILE_HEADER_BYTES
        wal.close()
    assert synced == []
    assert wal_file_numbers(directory) == [1]


def test_a_log_without_records_goes_on_in_its_file_after_a_sync_of_its_name(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash between the header of a file and the sync of its directory leaves a name that a power loss may take."""
    Wal(directory, COLLECTION).close()
    _, wal = go_on(directory)
    synced: list[str] = []
    real = os.fsync

    def recording(descriptor: int) -> None:
        real(descriptor)
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))

    monkeypatch.setattr(os, "fsync", recording)
    write(wal, SOME)
    wal.close()
    assert synced == [str(directory)]
    assert wal_file_numbers(directory) == [1]
    found, wal = go_on(directory)
    assert found == SOME
    assert wal_file_numbers(directory) == [1]
    write(wal, SOME[:1])
    wal.close()
    assert wal_file_numbers(directory) == [1, 2]
    assert replay(directory)[0] == [*SOME, SOME[0]]


def test_a_log_that_is_rotated_after_a_restart_names_its_next_file_as_the_checkpoint(written: Path) -> None:
    _, wal = go_on(written)
    before = wal.bytes_since_checkpoint
    assert before == offsets(SOME)[-1]
    assert wal.rotate() == 2
    assert wal.bytes_since_checkpoint == FILE_HEADER_BYTES
    wal.close()
    _, wal = go_on(written, first_file=2)
    assert wal.rotate() == 2
    wal.close()


def test_a_directory_without_a_log_reads_as_empty_file_list(tmp_path: Path) -> None:
    assert wal_file_numbers(tmp_path / "gone") == []


def small_records(count: int) -> list[Record]:
    return [(1, ts, os.urandom(1000)) for ts in range(1, count + 1)]


def test_small_records_overwrite_zeros_and_syncs_do_not_grow_the_file(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = sizes_at_sync(monkeypatch, "fdatasync")
    wal = Wal(directory, COLLECTION)
    records = small_records(800)
    write(wal, records)
    end = wal.bytes_since_checkpoint
    assert end == offsets(records)[-1], "zeros count as if a recovery would replay them"
    assert len(set(sizes[:50])) == 50, "a log of a few records is larger than they are"
    assert len(set(sizes)) < 100, "most syncs have let the file grow"
    assert end < sizes[-1] <= end + (512 << 10)
    wal.sync(wal.append(1, 801, [os.urandom(1 << 20)]))
    assert wal_path(directory, 1).stat().st_size == wal.bytes_since_checkpoint, "zeros after a large record"
    assert wal.rotate() == 2
    write(wal, records[:1])
    wal.close()
    found, reader = replay(directory)
    assert [ts for _, ts, _ in found] == [*range(1, 802), 1]
    assert found[:800] == records
    assert reader.unread_bytes == 0


def test_a_log_moves_to_the_next_file_only_after_writing_its_zeros(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wal = Wal(directory, COLLECTION)
    zeros, go = held_up_writes(monkeypatch, lambda first: not any(first))

    tickets: list[int] = []

    def write_until_zeros() -> None:
        for record_type, ts, body in small_records(100):
            tickets.append(wal.append(record_type, ts, [body]))
            wal.sync(tickets[-1])
            if zeros.is_set():
                return

    writer = threading.Thread(target=write_until_zeros)
    writer.start()
    assert zeros.wait(10)
    wal.sync(tickets[-1])  # a sync of records does not wait for zeros
    begin_meanwhile(wal.rotate, writer, go, tmp_path)
    assert wal.file_number == 2
    wal.close()


def test_a_torn_tail_and_damage_are_distinguished_before_zeros(directory: Path) -> None:
    wal = Wal(directory, COLLECTION)
    records = small_records(200)
    write(wal, records)
    wal.close()
    path = wal_path(directory, 1)
    places = offsets(records)
    assert path.stat().st_size > places[-1]
    found, reader = replay(directory)
    assert (found, reader.valid_end, reader.unread_bytes) == (records, places[-1], 0)

    whole = path.read_bytes()
    torn = places[-2] + 500
    path.write_bytes(whole[:torn] + bytes(len(whole) - torn))
    found, reader = replay(directory)
    assert (found, reader.valid_end) == (records[:-1], places[-2])
    assert 450 < reader.unread_bytes <= 500

    hole = places[-3] + 500
    path.write_bytes(whole[:hole] + bytes(300) + whole[hole + 300 :])
    assert str(places[-3]) in refused(directory, path)


def test_a_disk_without_room_for_zeros_still_takes_records(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwritev

    def without_zeros(descriptor: int, buffers: Sequence[memoryview], offset: int) -> int:
        if not any(bytes(buffers[0])):
            raise OSError(28, "No space left on device")
        return real(descriptor, buffers, offset)

    monkeypatch.setattr(os, "pwritev", without_zeros)
    wal = Wal(directory, COLLECTION)
    records = small_records(300)
    write(wal, records)
    assert wal_path(directory, 1).stat().st_size == wal.bytes_since_checkpoint
    wal.close()
    assert replay(directory)[0] == records
