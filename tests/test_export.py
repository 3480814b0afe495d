"""Exports: strict JSON, JSON Lines, CSV that no spreadsheet runs, all of which come back; files, all or nothing."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import csv
import errno
import io
import json
import linecache
import os
import pickle
import re
import stat
import subprocess
import sys
import tempfile
import textwrap
import threading
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import example, given, settings
from hypothesis import strategies as st

from booking_resilience import ErrorMonitor, FailedAttempt, load_json
from booking_resilience.monitor import export as exports
from booking_resilience.testing import virtual_time
from fresh import run_fresh

COLUMNS = [
    "id",
    "timestamp",
    "category",
    "severity",
    "operation",
    "error_type",
    "message",
    "outcome",
    "attempts",
    "duration_seconds",
    "fingerprint",
    "function",
    "file",
    "line",
    "context",
    "stacktrace",
]


def filled() -> ErrorMonitor:
    """Return a monitor with a few records of different kinds."""
    monitor = ErrorMonitor()
    try:
        raise ValueError("boom")
    except ValueError as error:
        monitor.log_booking_error("createBooking", error, therapist_id="t1", note="äöü\n2nd line")
    monitor.record(
        KeyError("x"), operation="=1+1", category="chat", severity="critical", attempts=3, outcome="recovered"
    )
    return monitor


def test_json_has_the_schema_and_comes_back() -> None:
    """The JSON document has what the schema says, is plain ASCII, and its records come back equal."""
    monitor = filled()
    text = monitor.to_json()
    document = json.loads(text)
    assert text.isascii()
    assert set(document) == {"schema", "generated_at", "window_seconds", "stats", "alert", "groups", "errors"}
    assert document["schema"] == "booking-resilience/errors/1"
    assert document["stats"]["total"] == 2
    assert document["window_seconds"] == 60.0
    assert set(document["errors"][0]) >= {
        "id",
        "stacktrace",
        "attempt_errors",
        "duration",
        "trace_id",
        "message_length",
    }
    assert load_json(text) == monitor.recent()


def test_json_lines_come_back(tmp_path: Path) -> None:
    """JSON Lines are a head and a record a line, and come back from the file, too."""
    monitor = filled()
    lines = monitor.to_jsonl().splitlines()
    assert len(lines) == 3
    assert json.loads(lines[0])["schema"] == "booking-resilience/errors/1"
    monitor.export(tmp_path / "errors.jsonl")
    assert load_json(tmp_path / "errors.jsonl") == monitor.recent()


def test_csv_is_quoted_guarded_and_complete() -> None:
    """CSV has the sixteen columns, all fields quoted, and a guard in front of what a spreadsheet would run."""
    monitor = filled()
    text = monitor.to_csv()
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert rows[0] == COLUMNS
    assert len(rows) == 3
    assert text.startswith('"id","timestamp",')
    assert rows[1][4] == "'=1+1"
    assert json.loads(rows[2][COLUMNS.index("context")])["therapist_id"] == "t1"


STARTS = re.compile("(?:\\A|(?<=[;\\t\\n])|(?<=\\r)(?!\\n))'")
CELLS = re.compile("[;\\t\\n]|\\r\\n?")


def unguarded(field: str) -> str:
    """Return the text of a field as the documentation says: without the `'` at the start and after each separator."""
    return STARTS.sub("", field)


@given(st.text() | st.text(alphabet="=+-@;\t\r\n\0'\"＝＋－＠＂ab"))
@example("x\r\n=1;'=2;\t@3")
def test_taking_the_guards_off_restores_the_text(text: str) -> None:
    """No cell, however a spreadsheet splits the field, begins like a formula, and the text can be restored exactly."""
    field = exports.guarded(text)
    for number, cell in enumerate(CELLS.split(field)):
        assert not cell.startswith(tuple("=+-@\0＝＋－＠"))
        assert not (number and cell.startswith(('"', "＂")))
    assert unguarded(field) == text


def test_no_field_is_longer_than_what_reads_it() -> None:
    """The csv module reads every field again, and Excel is given no more than it shows; a context stays JSON."""
    monitor = ErrorMonitor()
    context = {f"key {number}": "й" * 1000 for number in range(24)}
    monitor.record(ValueError("x" * 5000), operation="x", context={"a": context, "n": 1})
    for excel, limit in ((False, 131_072), (True, 32_767)):
        text = monitor.to_csv(excel=excel)
        assert text.startswith("\ufeff") is excel
        header, row = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""))
        assert header == COLUMNS
        assert max(map(len, row)) <= limit
        kept = json.loads(unguarded(row[COLUMNS.index("context")]))
        assert kept["a"]["key 0"] == "й" * 1000
        assert all(value == "й" * 1000 for value in kept["a"].values())
        assert limit - len(row[COLUMNS.index("context")]) < 7000


@settings(max_examples=60)
@given(
    message=st.text(max_size=2000), operation=st.text(min_size=1, max_size=50),
    context=st.dictionaries(st.text(max_size=20), st.text(max_size=50) | st.integers() | st.floats(), max_size=5),
)  # fmt: skip
def test_any_record_comes_back(message: str, operation: str, context: dict[str, Any]) -> None:
    """Whatever an error, its operation and its context are, JSON, JSON Lines and CSV hold them and give them back."""
    monitor = ErrorMonitor()
    monitor.record(RuntimeError(message), operation=operation, context=context)
    (record,) = monitor.recent()
    assert load_json(monitor.to_json()) == [record]
    assert load_json(monitor.to_jsonl()) == [record]
    _, row = csv.reader(io.StringIO(monitor.to_csv(), newline=""))
    plain = [unguarded(field) for field in row]
    assert plain[COLUMNS.index("message")] == record.message
    assert plain[COLUMNS.index("operation")] == record.operation
    assert json.loads(plain[COLUMNS.index("context")]) == record.context


@pytest.mark.parametrize("text", ["[]", "{}", '{"schema": "other"}', '"x"', "3", ""])
def test_what_is_no_export_is_refused(text: str) -> None:
    """A text that is no export of this schema is refused with an error that says what was expected."""
    with pytest.raises(ValueError, match=r"schema|Expecting"):
        load_json(text)


@pytest.mark.parametrize("text", ["errors.json", "a,b,c" * 100])
def test_a_path_given_as_text_is_refused_with_what_is_allowed(text: str) -> None:
    """A text that cannot be an export is shown, shortened, with the hint that files are read by their `Path`."""
    with pytest.raises(ValueError, match=r"source must be a Path to read, or the text of an export, not '.{1,30}'$"):
        load_json(text)


def test_records_with_wrong_fields_are_refused() -> None:
    """A record with a missing, an unknown or an impossible field is refused by name."""
    document = json.loads(filled().to_json())
    document["errors"][0].pop("message")
    with pytest.raises(ValueError, match="message"):
        load_json(json.dumps(document))
    document = json.loads(filled().to_json())
    document["errors"][0]["outcome"] = "lost"
    with pytest.raises(ValueError, match="lost"):
        load_json(json.dumps(document))
    document["errors"] = [3]
    with pytest.raises(ValueError, match="int"):
        load_json(json.dumps(document))


@pytest.mark.parametrize("name", ["errors.txt", "errors", "errors.json.bak"])
def test_other_suffixes_are_refused(tmp_path: Path, name: str) -> None:
    """A path with another suffix is refused with an error that names the three, and nothing is written."""
    with pytest.raises(ValueError, match=r"\.json, \.jsonl or \.csv"):
        filled().export(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_files_are_private_and_replace_links(tmp_path: Path) -> None:
    """The file is readable by its owner only, and a symbolic link is replaced, not followed."""
    elsewhere = tmp_path / "elsewhere.json"
    elsewhere.write_text("mine")
    link = tmp_path / "errors.json"
    link.symlink_to(elsewhere)
    filled().export(str(link))
    assert stat.S_IMODE(link.stat().st_mode) == 0o600
    assert not link.is_symlink()
    assert elsewhere.read_text() == "mine"
    assert sorted(item.name for item in tmp_path.iterdir()) == ["elsewhere.json", "errors.json"]


def test_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk is full the error comes out, the old file stays whole, and nothing is left over."""
    path = tmp_path / "errors.csv"
    path.write_text("old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        filled().export(path)
    assert path.read_text() == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["errors.csv"]


def test_crash_in_the_middle_leaves_the_old_file(tmp_path: Path) -> None:
    """A process killed in the middle of an export leaves the old file whole."""
    path = tmp_path / "errors.json"
    path.write_text("old")
    script = """
        import os, signal, sys
        from booking_resilience import ErrorMonitor
        os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
        monitor = ErrorMonitor()
        monitor.log_chat_error("x", ValueError("y" * 1000))
        monitor.export(sys.argv[1])
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script), str(path)], check=False)
    assert done.returncode == -9
    assert path.read_text() == "old"


def test_export_async_under_asyncio_and_trio(tmp_path: Path) -> None:
    """The asynchronous form writes the same file, under asyncio and under trio."""
    monitor = filled()
    asyncio.run(monitor.export_async(tmp_path / "a.json"))
    trio.run(monitor.export_async, tmp_path / "b.json")
    assert load_json(tmp_path / "a.json") == load_json(tmp_path / "b.json") == monitor.recent()
    with pytest.raises(ValueError, match="jsonl"):
        asyncio.run(monitor.export_async(tmp_path / "a.xml"))


def names(folder: Path) -> list[str]:
    """Return the names of all files in the folder."""
    return sorted(item.name for item in folder.iterdir())


def killed_while_exporting(path: Path, where: str) -> None:
    """Export to the path in a process that is killed when it calls what `where` names."""
    script = f"""
        import os, pathlib, signal, sys
        from booking_resilience import ErrorMonitor
        def die(*args, **kwargs):
            os.kill(os.getpid(), signal.SIGKILL)
        monitor = ErrorMonitor()
        monitor.log_chat_error("x", ValueError("y" * 1000))
        {where} = die
        monitor.export(sys.argv[1])
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script), str(path)], check=False)
    assert done.returncode == -9


def test_crash_while_writing_leaves_no_litter(tmp_path: Path) -> None:
    """A process killed before its file is on the disk leaves the old file, and nothing beside it."""
    if not hasattr(os, "O_TMPFILE"):
        pytest.skip("this system has no files without a name")
    path = tmp_path / "errors.json"
    path.write_text("old")
    try:
        os.close(os.open(tmp_path, os.O_WRONLY | os.O_TMPFILE))
    except OSError:
        pytest.skip("this file system has no files without a name")
    killed_while_exporting(path, "os.fsync")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["errors.json"]


def test_crash_before_the_renaming_leaves_the_old_file(tmp_path: Path) -> None:
    """A process killed between writing and renaming leaves the old file whole, and the next export works."""
    path = tmp_path / "errors.jsonl"
    path.write_text("old")
    killed_while_exporting(path, "pathlib.Path.replace")
    assert path.read_text() == "old"
    filled().export(path)
    assert len(load_json(path)) == 2


@pytest.mark.parametrize("nameless", [True, False])
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_whatever_fails_leaves_the_old_file_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, nameless: bool
) -> None:
    """An export that fails or is interrupted at any step leaves the old file whole and nothing beside it."""
    if not nameless:
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    path = tmp_path / "errors.json"
    path.write_text("old")
    for error in (OSError(28, "No space left on device"), KeyboardInterrupt()):

        def fail(*_: object, error: BaseException = error) -> None:
            raise error

        with monkeypatch.context() as patch:
            if step == "replace":
                patch.setattr(Path, "replace", fail)
            else:
                patch.setattr(os, step, fail)
            with pytest.raises(type(error)):
                filled().export(path)
        assert path.read_text() == "old"
        assert names(tmp_path) == ["errors.json"]
    filled().export(path)
    assert len(load_json(path)) == 2
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("refused", ["open", "link"])
def test_file_systems_without_nameless_files_are_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    """Where a file without a name cannot be made, or not be named afterwards, one with a name does as well."""
    if not hasattr(os, "O_TMPFILE"):
        pytest.skip("this system has no files without a name")
    opened = os.open

    def open_(path: Any, flags: int, *more: int) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(95, "Operation not supported")
        return opened(path, flags, *more)

    def link(*_: object, **__: object) -> None:
        raise OSError(2, "No such file or directory")

    monkeypatch.setattr(os, refused, open_ if refused == "open" else link)
    filled().export(tmp_path / "errors.json")
    assert len(load_json(tmp_path / "errors.json")) == 2
    assert names(tmp_path) == ["errors.json"]
    assert stat.S_IMODE((tmp_path / "errors.json").stat().st_mode) == 0o600


def test_file_that_cannot_grow_leaves_the_old_one(tmp_path: Path) -> None:
    """Where the system lets no file grow so far, the error comes out, the old file stays, and nothing is left over."""
    resource = pytest.importorskip("resource")
    path = tmp_path / "errors.json"
    path.write_text("old")
    script = """
        import resource, signal, sys
        from booking_resilience import ErrorMonitor
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        monitor = ErrorMonitor()
        for number in range(100):
            monitor.log_chat_error("x", ValueError("y" * 1000), number=number)
        try:
            monitor.export(sys.argv[1])
        except OSError:
            sys.exit(3)
    """
    assert resource is not None
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script), str(path)], check=False)
    assert done.returncode == 3
    assert path.read_text() == "old"
    assert names(tmp_path) == ["errors.json"]


def test_cancelled_export_leaves_a_whole_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An export that is cancelled leaves a whole file, the old or the new, and no litter."""
    path = tmp_path / "errors.json"
    filled().export(path)
    monitor, begun, go_on = filled(), threading.Event(), threading.Event()
    sync = os.fsync

    def slow(handle: int) -> None:
        begun.set()
        go_on.wait(60)
        sync(handle)

    monkeypatch.setattr(os, "fsync", slow)

    async def cancel() -> None:
        task = asyncio.create_task(monitor.export_async(path))
        await asyncio.to_thread(begun.wait, 60)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go_on.set()

    asyncio.run(cancel())
    assert len(load_json(path)) == 2
    assert names(tmp_path) == ["errors.json"]


def test_exports_to_one_path_at_once_leave_a_whole_file(tmp_path: Path) -> None:
    """Threads that export to the same path at the same time leave one whole file."""
    path = tmp_path / "errors.jsonl"
    monitors = [filled() for _ in range(4)]
    threads = [threading.Thread(target=lambda m=m: [m.export(path) for _ in range(5)]) for m in monitors]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert load_json(path) in [monitor.recent() for monitor in monitors]
    assert names(tmp_path) == ["errors.jsonl"]


def test_records_can_be_pickled_and_copied() -> None:
    """A record comes out of a pickle and a copy equal, with its stack as text."""
    for record in filled().recent():
        for twin in (pickle.loads(pickle.dumps(record)), copy.deepcopy(record)):
            assert twin == record
            assert twin.stacktrace == record.stacktrace
            assert hash(twin) == hash(record)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("timestamp", 3), ("timestamp", "yesterday"), ("timestamp", "9999-12-31T23:59:59.999999+00:00"),
        ("category", "weather"), ("severity", None), ("line", "3"), ("attempts", True), ("context", []),
        ("causes", "x"), ("message", None), ("duration", "1"), ("id", {}), ("id", ""),
    ],
)  # fmt: skip
def test_records_with_impossible_values_are_refused(field: str, value: object) -> None:
    """A field that is not of its type is refused with a `ValueError`, never anything else."""
    document = json.loads(filled().to_json())
    document["errors"][0][field] = value
    with pytest.raises(ValueError, match=rf"{field}|weather|yesterday"):
        load_json(json.dumps(document))


def test_a_file_that_an_editor_saved_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    """A byte order mark at the start of a file means nothing."""
    path = tmp_path / "errors.json"
    for text in (filled().to_json(), filled().to_jsonl()):
        path.write_text(text, encoding="utf-8-sig")
        assert len(load_json(path)) == 2


def test_a_file_cut_short_is_refused(tmp_path: Path) -> None:
    """A JSON Lines file that ends in the middle of a record, or a document without a list, is refused."""
    text = filled().to_jsonl()
    with pytest.raises(ValueError, match=r"Unterminated|Expecting"):
        load_json(text[: len(text) - 30])
    with pytest.raises(ValueError, match="errors must be a list"):
        load_json('{"schema": "booking-resilience/errors/1", "errors": 3}')
    assert load_json(filled().to_jsonl() + "\n\n") != []


HOSTILE_TEXT = st.text(alphabet=st.characters()) | st.text(alphabet="=+-@\t\r\n\0'\"＝＋－＠,;\ud83d\u2028a")


@given(operation=HOSTILE_TEXT, message=HOSTILE_TEXT, cause=HOSTILE_TEXT, key=HOSTILE_TEXT, value=HOSTILE_TEXT)
def test_hostile_texts_survive_every_format(operation: str, message: str, cause: str, key: str, value: str) -> None:
    """Lone surrogates, NUL, line ends and formulas come back from each format as the record has them."""
    monitor = ErrorMonitor()
    try:
        try:
            raise KeyError(cause)
        except KeyError as error:
            raise ValueError(message) from error
    except ValueError as error:
        attempts = (FailedAttempt(1, TypeError(cause), 0.1, 0.2), FailedAttempt(2, error, None, 0.5))
        record = monitor.record(error, operation=operation, context={key: value}, attempts=attempts)
    assert load_json(monitor.to_json()) == [record]
    assert load_json(monitor.to_jsonl()) == [record]
    header, row = csv.reader(io.StringIO(monitor.to_csv(), newline=""))
    assert header == COLUMNS
    facts = {**record.to_dict(), "duration_seconds": 0.5, "context": json.dumps(record.context)}
    for column, field in zip(header, row, strict=True):
        assert not field.startswith(tuple("=+-@\t\r\n\0＝＋－＠"))
        assert unguarded(field) == str(facts[column])


def test_text_nested_too_deeply_is_refused() -> None:
    """A text that is nested too deeply is refused, on whichever line it is."""
    head = ErrorMonitor().to_jsonl()
    for text in ("[" * 100_000, head + "[" * 100_000):
        with pytest.raises(ValueError, match="nested too deeply"):
            load_json(text)


class _RudeLoader:
    """A module's loader that exits when it is asked for the source."""

    def get_source(self, name: str) -> str:
        raise SystemExit(name)


def test_errors_out_of_any_file_are_exported() -> None:
    """Errors out of code whose file has a name that is no Unicode, or whose source cannot be had, are exported."""
    run_fresh(export_errors_out_of_odd_files)  # coverage cannot trace a file whose name has a NUL


def export_errors_out_of_odd_files() -> None:
    """Export an error out of each of some odd files, and read it back."""
    for file in ("caf\udce9.py", "nul\0.py", "=1+1.py", "<rude>"):
        monitor = ErrorMonitor()
        loader: Any = _RudeLoader()
        facts = {"__name__": "rude", "__loader__": loader, "__spec__": ModuleSpec("rude", loader)}
        with contextlib.suppress(ZeroDivisionError), monitor.capture("a"):
            exec(compile("1 / 0", "there", "exec").replace(co_filename=file, co_name="f\udce9"), facts)
        linecache.lazycache(file, facts)
        record = monitor.recent()[0]
        assert record.file is not None
        assert record.file in record.stacktrace
        with tempfile.TemporaryDirectory() as folder:
            for name in ("e.json", "e.jsonl", "e.csv"):
                monitor.export(Path(folder, name))
            assert load_json(Path(folder, "e.json")) == load_json(Path(folder, "e.jsonl")) == [record]


def test_long_names_in_any_script_are_written(tmp_path: Path) -> None:
    """A file whose name is as long as the system takes it, and no ASCII, is written."""
    path = tmp_path / ("\u5bbf" * 83 + ".csv")
    ErrorMonitor().export(path)
    assert [path] == list(tmp_path.iterdir())


def test_json_holds_the_alert_and_the_groups_as_they_are() -> None:
    """The head of an export says what `stats` and `groups` say, moments as texts, and is laid out for reading."""
    with virtual_time():
        monitor = ErrorMonitor()
        for _ in range(11):
            monitor.log_booking_error("createBooking", ValueError("no slot"))
        text, alert, group = monitor.to_json(), monitor.stats().alert, monitor.groups()[0]
    document = json.loads(text)
    assert alert is not None
    assert document["alert"] == {
        "state": alert.state, "rate": alert.rate, "peak": alert.peak, "since": alert.since.isoformat(),
    }  # fmt: skip
    shown = document["groups"][0]
    assert (shown["operation"], shown["count"], shown["fingerprint"]) == ("createBooking", 11, group.fingerprint)
    assert shown["first_seen"] == group.first_seen.isoformat()
    assert text.startswith('{\n  "schema"')


@pytest.mark.parametrize(
    "convert", [exports.to_json, exports.to_jsonl, lambda found: exports.to_csv(found[1:], excel=False, fleet=False)]
)
def test_what_is_no_json_is_never_written(convert: Any) -> None:
    """Should a NaN ever get as far as an export, it fails rather than write what no strict reader takes."""
    record = {**dict.fromkeys([*COLUMNS, "duration"]), "context": {"rate": float("nan")}}
    with pytest.raises(ValueError, match="not JSON compliant"):
        convert([{}, record])


def test_what_is_not_known_is_an_empty_field() -> None:
    """None is no text in CSV; nothing else is empty."""
    assert [exports.guarded(value) for value in (None, 0, False, "None")] == ["", "0", "False", "None"]


def test_what_no_export_has_is_refused_by_name() -> None:
    """A naive moment, a negative count, NaN and lists of other things are refused, and the error names the field."""
    document = json.loads(filled().to_json())
    for field, value in (
        ("timestamp", "2026-03-01T10:00:00"), ("attempts", -5), ("message_length", -1), ("line", -3),
        ("causes", [3]), ("duration", "1"), ("duration", -0.5), ("attempts", True), ("attempts", 1.5), ("context", []),
    ):  # fmt: skip
        changed = copy.deepcopy(document)
        changed["errors"][0][field] = value
        with pytest.raises(ValueError, match=f"{field} must"):
            load_json(json.dumps(changed))
    document["errors"][0]["duration"] = float("nan")
    with pytest.raises(ValueError, match="finite numbers only, not NaN"):
        load_json(json.dumps(document))


def test_line_separators_of_unicode_end_no_line() -> None:
    """JSON Lines that another tool wrote with U+2028 in a text are read."""
    monitor = ErrorMonitor()
    monitor.record(ValueError("one\u2028two\x85three"), operation="x")
    text = "\n".join(
        json.dumps(json.loads(line), ensure_ascii=False) for line in monitor.to_jsonl().split("\n") if line
    )
    assert "\u2028" in text
    assert load_json(text) == monitor.recent()


def test_records_of_the_first_version_are_read() -> None:
    """Records without notes, as version 0.1 wrote them, are read."""
    document = json.loads(filled().to_json())
    for facts in document["errors"]:
        del facts["notes"]
    assert [record.notes for record in load_json(json.dumps(document))] == [(), ()]


@pytest.mark.parametrize("number", ["EINVAL", "ENOTSUP", "EACCES", "EPERM", "EIO"])
@pytest.mark.parametrize("call", ["open", "fsync"])
def test_a_folder_that_cannot_be_synced_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: str, call: str
) -> None:
    """Where the folder cannot be opened or synced the export has succeeded; a real I/O error comes out."""
    if not hasattr(os, "O_DIRECTORY"):
        pytest.skip("this system syncs no folders")
    real, code = getattr(os, call), getattr(errno, number)

    def fails(target: Any, *rest: Any) -> Any:
        is_folder = stat.S_ISDIR(os.fstat(target).st_mode) if call == "fsync" else rest[0] == os.O_DIRECTORY
        if is_folder:
            raise OSError(code, "no")
        return real(target, *rest)

    monkeypatch.setattr(os, call, fails)
    with pytest.raises(OSError, match="no") if number == "EIO" else contextlib.nullcontext():
        filled().export(tmp_path / "errors.json")
    assert len(load_json(tmp_path / "errors.json")) == 2
    assert names(tmp_path) == ["errors.json"]


@pytest.mark.parametrize("wrong", [None, 3, b"{}", ["{}"]])
def test_only_a_path_or_a_text_is_loaded(wrong: Any) -> None:
    """What is neither a path nor a text is a `TypeError` that names the argument."""
    with pytest.raises(TypeError, match=r"^source must be a Path to read"):
        load_json(wrong)
