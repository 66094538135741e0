"""`make demo`: the whole life of a Milvine server, on real vectors.

Starts `milvine serve` on a temporary directory, drives it with the official `pymilvus` client, and after
each step prints the collection's load state, the time taken and the server's memory. Ends with status 0
only if every step did what it should, and removes what it made either way.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import shorten
from types import FrameType, TracebackType
from typing import Any, Self

import numpy as np
from demo_data import DIM, DemoData, Floats, embed, load
from pymilvus import DataType, MilvusClient, MilvusException
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

COLLECTION = "icd10"
BATCH = 1_000
WIDTH = 100
TOP = 10
SHOWN = 3
SEARCH = {"metric_type": "COSINE", "params": {"ef": 128}}

READY_SECONDS = 60.0
STEP_SECONDS = 90.0
STOP_SECONDS = 10.0
SETTLE_SECONDS = 4.0
LIMIT_SECONDS = 240

QUESTIONS = (
    "my baby keeps crying",
    "attacked by a shark",
    "trouble sleeping at night",
    "allergic to peanuts",
)

NO_STATE = "-"


@dataclass(frozen=True)
class Filtered:
    question: str
    condition: str
    passes: Callable[[dict[str, Any]], bool]


FILTERED = (
    Filtered(
        "stress at work",
        "chapter == 5 and leaf == true",
        lambda row: row["chapter"] == 5 and row["leaf"] is True,
    ),
    Filtered(
        "attacked by a shark",
        'notes["section"] == "W50-W64" and rarity < 11 and parent != "W56.4"',
        lambda row: row["notes"]["section"] == "W50-W64" and row["rarity"] < 11 and row.get("parent") != "W56.4",
    ),
)

LISTED = Filtered("attacked by a shark", 'title like "%shark%" and id > 40000', lambda row: "shark" in row["title"])


class DemoError(Exception):
    """A step that failed; the message is one sentence for the reader."""


def expect(held: bool, sentence: str) -> None:
    if not held:
        raise DemoError(sentence)


class Server:
    """`milvine serve` as a child process, in a process group of its own."""

    def __init__(self, data_dir: str) -> None:
        command = [sys.executable, "-m", "milvine", "serve"]
        command += ["--data-dir", data_dir, "--port", "0", "--metrics-port", "0"]
        self.uri = ""
        self.died = False
        self._last_lines: deque[str] = deque(maxlen=15)
        self._heard = threading.Event()
        self._stopping = False
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, name="server output", daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.stop()
        except DemoError:
            if error is None:
                raise

    @property
    def last_lines(self) -> list[str]:
        return list(self._last_lines)

    def wait_ready(self) -> None:
        expect(self._heard.wait(READY_SECONDS), f"the server was not ready within {READY_SECONDS:.0f} s")
        expect(bool(self.uri), "the server ended before it was ready")

    def stop(self) -> None:
        """Asks the process to end, and kills it if it has not ended after a while."""
        if self._stopping:
            return
        self._stopping = True
        ignore_signals()
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            raise DemoError(f"the server had to be killed: it had not stopped after {STOP_SECONDS:.0f} s") from None
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._reader.join(1)

    def memory(self) -> float:
        return memory_of(self._process.pid)

    def _read(self) -> None:
        """Keep the pipe empty, find the ready line, and wake the main thread if the server dies on it."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._last_lines.append(line.rstrip())
            if not self.uri and (ready := re.match(r"milvine ready (\S+:\d+)\s*$", line)):
                self.uri = f"http://{ready[1]}"
                self._heard.set()
        self.died = not self._stopping
        was_ready, main = self._heard.is_set(), threading.main_thread().ident
        self._heard.set()
        if self.died and was_ready and main is not None:
            signal.pthread_kill(main, signal.SIGINT)


def memory_of(*pids: int) -> float:
    """Resident megabytes of processes and of those that they started."""
    sizes = {pid: (parent, rss) for pid, parent, rss in _processes()}
    total, family = 0, set(pids)
    while family:
        total += sum(sizes[pid][1] for pid in family if pid in sizes)
        family = {pid for pid, (parent, _) in sizes.items() if parent in family}
    return total / 1024


def _processes() -> Iterator[tuple[int, int, int]]:
    """(process, its parent, its resident kilobytes) of everything that runs here."""
    if not Path("/proc/self/status").exists():
        listing = subprocess.run(["ps", "-axo", "pid=,ppid=,rss="], capture_output=True, text=True, check=True)
        for line in listing.stdout.splitlines():
            pid, parent, rss = map(int, line.split())
            yield pid, parent, rss
        return
    for status in Path("/proc").glob("[0-9]*/status"):
        with suppress(OSError):  # it ended while we looked
            found = dict(re.findall(r"^(PPid|VmRSS):\s+(\d+)", status.read_text(), re.MULTILINE))
            yield int(status.parent.name), int(found.get("PPid", 0)), int(found.get("VmRSS", 0))


@dataclass
class Step:
    title: str
    state: str = NO_STATE
    seconds: float = 0.0
    memory: float = 0.0
    notes: list[str] = field(default_factory=list)

    def cells(self) -> tuple[str, str, str, str]:
        memory = f"{self.memory:,.0f} MB" if self.memory else NO_STATE
        return self.title, self.state, f"{self.seconds:.2f} s", memory


class Demo:
    def __init__(self, console: Console) -> None:
        self.console = console
        self.steps: list[Step] = []
        self.server: Server | None = None
        self.client: Any = None

    @property
    def has_lost_server(self) -> bool:
        """Whether the server ended without being asked."""
        return self.server is not None and self.server.died

    @property
    def last_lines(self) -> list[str]:
        """Of the server's output."""
        return [] if self.server is None else self.server.last_lines

    def run(self) -> None:
        began = time.perf_counter()
        with self.step("Read the rows") as step:
            rows = load()
            step.notes.append(f"{len(rows):,} diseases and injuries of ICD-10-CM, {DIM} dimensions each")
        with tempfile.TemporaryDirectory(prefix="milvine-demo-") as data_dir, Server(data_dir) as server:
            self.server = server
            with self.step("Start the server") as step:
                server.wait_ready()
                self.client = MilvusClient(server.uri)
                step.notes.append(f"{server.uri}, Milvus {self.client.get_server_version()}, data in {data_dir}")
            try:
                self.tour(rows)
            finally:
                with suppress(MilvusException):
                    self.client.close()
            server.stop()
        expect(not Path(data_dir).exists(), f"{data_dir} is still there")
        self.summary(time.perf_counter() - began)

    def tour(self, rows: DemoData) -> None:
        with self.step("Create a collection") as step:
            step.notes.append(self.create())
        with self.step(f"Insert {len(rows):,} rows"):
            self.insert(rows)
        with self.step("Flush") as step:
            self.client.flush(COLLECTION)
            stored = int(self.client.get_collection_stats(COLLECTION)["row_count"])
            expect(stored == len(rows), f"{len(rows):,} rows went in, but the collection counts {stored:,}")
            step.notes.append(f"{stored:,} rows stored")
        with self.step("Build an HNSW index") as step:
            step.notes.append(self.build_index(len(rows)))
        with self.step("Load all fields") as step:
            self.load()
        whole = step.memory
        with self.step(f"Search by {len(QUESTIONS)} questions") as step:
            step.notes.append(self.search(rows))
        with self.step("Search and count with filters") as step:
            step.notes.extend(self.filtered(rows))
        with self.step("Release", frees=True):
            self.release()
        with self.step("Load only some fields") as step:
            self.load(load_fields=["id", "vector", "title"], skip_load_dynamic_field=True)
            step.notes.append("id, vector and title; neither the other fields nor the dynamic ones")
            step.notes.append(f"server memory {self.memory():,.0f} MB, {whole:,.0f} MB after loading every field")
        with self.step("Use what is not loaded") as step:
            step.notes.append(self.refusals())
        with self.step("Release again", frees=True):
            self.release()

    def create(self, **properties: str) -> str:
        schema = self.client.create_schema(auto_id=False, enable_dynamic_field=True)
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("code", DataType.VARCHAR, max_length=16)
        schema.add_field("title", DataType.VARCHAR, max_length=512)
        schema.add_field("chapter", DataType.INT64)
        schema.add_field("rarity", DataType.DOUBLE)
        schema.add_field("notes", DataType.JSON)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIM)
        self.client.create_collection(COLLECTION, schema=schema, consistency_level="Strong", properties=properties)
        described = self.client.describe_collection(COLLECTION)
        return ", ".join(f"{each['name']} {each['type'].name}" for each in described["fields"]) + ", dynamic fields"

    def insert(self, rows: DemoData) -> None:
        with self.bar("rows", len(rows)) as advance:
            for start in range(0, len(rows), BATCH):
                batch = list(as_dicts(rows, range(start, min(start + BATCH, len(rows)))))
                inserted = self.client.insert(COLLECTION, batch)["insert_count"]
                expect(inserted == len(batch), f"a batch of {len(batch)} rows was taken in as {inserted}")
                advance(start + len(batch))

    def build_index(self, rows: int) -> str:
        wanted = self.client.prepare_index_params()
        wanted.add_index("vector", "HNSW", "by_meaning", metric_type="COSINE", params={"M": 16, "efConstruction": 128})
        self.client.create_index(COLLECTION, wanted, sync=False)
        index: dict[str, Any] = {}
        with self.bar("rows", rows) as advance:

            def built() -> bool:
                index.update(self.client.describe_index(COLLECTION, "by_meaning"))
                advance(int(index["indexed_rows"]))
                expect(
                    index["state"] != "Failed",
                    f"the index was not built: {index.get('index_state_fail_reason')}",
                )
                return index["state"] == "Finished" and int(index["pending_index_rows"]) == 0

            wait_until(built, "the index was not built")
        numbers = {key: int(index[key]) for key in ("total_rows", "indexed_rows", "pending_index_rows")}
        expect(numbers["indexed_rows"] == rows, f"{numbers['indexed_rows']:,} of {rows:,} rows are indexed")
        return ", ".join(f"{key} {number:,}" for key, number in numbers.items())

    def load(self, **wanted: Any) -> None:
        """Loads the collection, or the given fields of it, and shows the progress."""
        self.client.load_collection(COLLECTION, _async=True, **wanted)
        with self.bar("percent", 100) as advance:

            def loaded() -> bool:
                now = self.client.get_load_state(COLLECTION)
                state = str(now["state"].name)
                advance(100 if state == "Loaded" else int(now.get("progress", 0)))
                expect(state in ("Loading", "Loaded"), f"loading stopped in state {state}")
                return state == "Loaded"

            wait_until(loaded, "the collection was not loaded")

    def search(self, rows: DemoData) -> str:
        questions = [embed(question) for question in QUESTIONS]
        answers = self.client.search(
            COLLECTION, questions, anns_field="vector", limit=TOP, search_params=SEARCH,
            output_fields=["code", "title", "parent"],
        )  # fmt: skip
        table = grid("question", "score", "code", "title", "parent")
        for question, answer in zip(QUESTIONS, answers, strict=True):
            expect(len(answer) > 0, f"the search for '{question}' found nothing")
            for place, hit in enumerate(answer[:SHOWN]):
                asked = question if place == 0 else ""
                table.add_row(asked, *shown(hit, "code", "title", "parent"))
            table.add_section()
        self.console.print(table)
        found = [recall(rows.vectors, *each) for each in zip(questions, answers, strict=True)]
        mean = sum(found) / len(found)
        expect(mean >= 0.9, f"the search found only {mean:.0%} of what an exact search finds")
        return f"recall@{TOP} against an exact search in numpy: {mean:.3f}"

    def filtered(self, rows: DemoData) -> Iterator[str]:
        for each in FILTERED:
            (answer,) = self.client.search(
                COLLECTION, [embed(each.question)], anns_field="vector", limit=TOP, search_params=SEARCH,
                filter=each.condition,
                output_fields=["code", "title", "chapter", "rarity", "notes", "leaf", "parent"],
            )  # fmt: skip
            self.show_hits(each, answer, "code", "title", "chapter", "rarity", "leaf", "parent")
            for hit in answer:
                row = hit["entity"]
                expect(each.passes(row), f"{row['code']} came back, but does not pass: {each.condition}")

        leaf = np.array(rows.leaf)
        counts = {
            "": len(rows),
            "chapter == 19 and leaf == true": int(((rows.chapter == 19) & leaf).sum()),
            'rarity > 12 and notes["section"] == "W50-W64"': sum(
                note["section"] == "W50-W64" and rare > 12 for note, rare in zip(rows.notes, rows.rarity, strict=True)
            ),
            'parent == "W56.4"': rows.parent.count("W56.4"),
        }
        for condition, expected in counts.items():
            found = int(self.client.query(COLLECTION, filter=condition, output_fields=["count(*)"])[0]["count(*)"])
            expect(
                found == expected,
                f"{found:,} rows where {condition or 'all'}, but {expected:,} were inserted",
            )
            yield f"count(*) where {condition or 'anything'}: {found:,}"

    def refusals(self) -> str:
        """Searches on the loaded fields, then shows the refusal of each other field."""
        question = [embed(LISTED.question)]

        def search(condition: str, output: str) -> Any:
            return self.client.search(
                COLLECTION, question, anns_field="vector", limit=SHOWN, search_params=SEARCH,
                filter=condition, output_fields=[output],
            )  # fmt: skip

        (answer,) = search(LISTED.condition, "title")
        self.show_hits(LISTED, answer, "id", "title")
        expect(
            all(map(LISTED.passes, (hit["entity"] for hit in answer))),
            f"a hit does not pass: {LISTED.condition}",
        )

        attempts: dict[str, Callable[[], Any]] = {
            "filter: chapter == 20": lambda: search("chapter == 20", "title"),
            "output field: chapter": lambda: search("", "chapter"),
            "filter: leaf == true (dynamic)": lambda: search("leaf == true", "title"),
            "output field: leaf (dynamic)": lambda: search("", "leaf"),
        }
        table = grid("asked for", "code", "the server's answer")
        for asked, attempt in attempts.items():
            try:
                attempt()
            except MilvusException as refused:
                table.add_row(asked, str(refused.code), Text(brief(refused.message)))
            else:
                raise DemoError(f"a field that is not loaded was served ({asked})")
        self.console.print(table)
        return f"{len(attempts)} of {len(attempts)} refused"

    def show_hits(self, asked: Filtered, answer: Any, *fields: str) -> None:
        expect(len(answer) > 0, f"the search for '{asked.question}' where {asked.condition} found nothing")
        table = grid("score", *fields)
        for hit in answer[:SHOWN]:
            table.add_row(*shown(hit, *fields))
        self.console.print(Text(f"  {asked.question}, where {asked.condition}", style="italic"))
        self.console.print(table)

    def release(self) -> None:
        self.client.release_collection(COLLECTION)
        state = self.state()
        expect(state == "NotLoad", f"the collection is {state} after its release")

    @contextmanager
    def step(self, title: str, frees: bool = False) -> Iterator[Step]:
        """Times its body, then prints the step's line."""
        step = Step(title)
        self.console.rule(f"[bold]{len(self.steps) + 1}. {escape(title)}", align="left", style="dim")
        before, began = self.memory(), time.perf_counter()
        yield step
        step.seconds = time.perf_counter() - began
        step.state, step.memory = self.state(), self.settled(before) if frees else self.memory()
        if frees:
            step.notes.append(f"server memory {before:,.0f} MB before, {step.memory:,.0f} MB after")
        for note in step.notes:
            self.console.print(Padding.indent(Text(note), 2))
        line = steps_table(header=False)
        line.add_row(*step.cells(), style="bold green")
        self.console.print(Padding.indent(line, 1))
        self.steps.append(step)

    def settled(self, before: float) -> float:
        """The server's memory once its allocator has had a moment to return pages to the system."""
        until, latest = time.perf_counter() + SETTLE_SECONDS, self.memory()
        while time.perf_counter() < until:
            time.sleep(0.5)
            previous, latest = latest, self.memory()
            if latest < before - 5 and abs(previous - latest) < 1:
                break
        return latest

    def state(self) -> str:
        if self.client is None:
            return NO_STATE
        return str(self.client.get_load_state(COLLECTION)["state"].name)

    def memory(self) -> float:
        return 0.0 if self.server is None else self.server.memory()

    @contextmanager
    def bar(self, unit: str, total: int) -> Iterator[Callable[[int], None]]:
        """A progress bar; call the yielded function with the amount done."""
        columns = (
            TextColumn("  "),
            BarColumn(46),
            MofNCompleteColumn(),
            TextColumn(unit),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self.console) as progress:
            task = progress.add_task(unit, total=total)
            yield lambda done: progress.update(task, completed=done)

    def summary(self, seconds: float) -> None:
        self.console.rule("[bold]All steps", align="left", style="dim")
        table = steps_table(header=True)
        for step in self.steps:
            table.add_row(*step.cells())
        self.console.print(table)
        self.console.print(
            f"  Every step succeeded, in {seconds:.0f} s; the server has stopped and its data is deleted.\n"
        )


def as_dicts(rows: DemoData, places: Iterable[int]) -> Iterator[dict[str, Any]]:
    """Rows as the client takes them; `leaf` and `parent` are in no schema, so they are dynamic."""
    for i in places:
        row = {
            "id": int(rows.id[i]),
            "code": rows.code[i],
            "title": rows.title[i],
            "chapter": int(rows.chapter[i]),
            "rarity": float(rows.rarity[i]),
            "notes": rows.notes[i],
            "vector": rows.vectors[i],
            "leaf": rows.leaf[i],
        }
        if rows.parent[i] is not None:
            row["parent"] = rows.parent[i]
        yield row


def recall(vectors: Floats, question: Floats, answer: Any) -> float:
    """How many of the hits score as high as the last of the exact best."""
    expect(len(answer) == TOP, f"a search for {TOP} rows found {len(answer)}")
    exact = vectors @ question
    bar = np.partition(exact, -TOP)[-TOP] - 1e-4
    return float(np.mean([exact[hit["id"] - 1] >= bar for hit in answer]))


def wait_until(done: Callable[[], bool], otherwise: str, seconds: float = STEP_SECONDS) -> None:
    until = time.perf_counter() + seconds
    while not done():
        expect(time.perf_counter() < until, f"{otherwise} within {seconds:.0f} s")
        time.sleep(0.05)


def grid(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, header_style="dim")
    for column in columns:
        number = column in ("score", "rarity", "chapter", "id")
        table.add_column(column, justify="right" if number else "left")
    return table


def shown(hit: Any, *fields: str) -> list[str]:
    """Table cells of a hit: its score, then the fields."""
    values = [hit["id"] if name == "id" else hit["entity"].get(name, NO_STATE) for name in fields]
    texts = [
        f"{value:.1f}" if isinstance(value, float) else shorten(str(value), 48, placeholder=" ...") for value in values
    ]
    return [f"{hit['distance']:.3f}", *map(escape, texts)]


def steps_table(header: bool) -> Table:
    table = Table(box=box.SIMPLE_HEAD if header else None, show_header=header, pad_edge=header, padding=(0, 1))
    table.add_column("step", width=36)
    table.add_column("load state", width=12)
    table.add_column("time", width=10, justify="right")
    table.add_column("server memory", width=14, justify="right")
    return table


def brief(message: str, longest: int = 220) -> str:
    """The message on one line, without its middle if it is long."""
    line = " ".join(message.split())
    half = (longest - 5) // 2
    return line if len(line) <= longest else f"{line[:half]} ... {line[-half:]}"


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def interrupt(signum: int, frame: FrameType | None) -> None:
    """End the demo on the first of these signals; leave the tidying up that follows alone."""
    ignore_signals()
    raise KeyboardInterrupt


def give_up(signum: int, frame: FrameType | None) -> None:
    ignore_signals()
    raise DemoError(f"it was not done after {LIMIT_SECONDS} s")


def ignore_signals() -> None:
    signal.alarm(0)
    for each in SIGNALS:
        signal.signal(each, signal.SIG_IGN)


def main(kind: type[Demo] = Demo) -> int:
    logging.disable(logging.CRITICAL)
    for each in SIGNALS:
        signal.signal(each, interrupt)
    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(LIMIT_SECONDS)
    console = Console(highlight=False)
    console.width = min(console.width, WIDTH)
    demo = kind(console)
    try:
        demo.run()
    except KeyboardInterrupt:
        problem, status = ("the server ended on its own", 1) if demo.has_lost_server else ("interrupted", 130)
    except DemoError as error:
        problem, status = str(error), 1
    except MilvusException as error:
        problem, status = f"the server answered with code {error.code}: {brief(error.message)}", 1
    except Exception as error:  # noqa: BLE001 - the reader gets one sentence for any error
        problem, status = f"{type(error).__name__}: {brief(str(error))}", 1
    else:
        return 0
    console.print(Text(f"\nThe demo stopped: {problem}.", style="bold red"))
    if status == 1 and demo.last_lines:
        console.print(Text("The server's last lines:\n  " + "\n  ".join(demo.last_lines), style="dim"))
    return status


if __name__ == "__main__":
    sys.exit(main())
