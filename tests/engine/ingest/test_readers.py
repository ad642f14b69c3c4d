from __future__ import annotations

import csv
import gzip
import io
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.errors import InvalidArgument
from engine.ingest import readers
from engine.ingest.readers import open_records


def _write(path: Path, content: str | bytes) -> Path:
    encoded = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(encoded) if path.suffix == ".gz" else encoded)
    return path


def _fields(path: Path) -> list[dict[str, Any]]:
    return [dict(record.fields) for record in open_records(path)]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.ndjson", "A.JSONL"])
def test_json_lines_are_read_with_their_types(tmp_path: Path, name: str) -> None:
    rows = [{"_id": "ä", "n": 1.5, "list": ["x"], "none": None}, {"_id": "b"}]

    assert _fields(_write(tmp_path / name, "\n".join(json.dumps(row) for row in rows))) == rows


def test_a_line_that_is_no_object_is_told_and_loses_no_other(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.jsonl", b'{"_id": 1}\n{"_id":\n\n[1]\n"\xff"\n{"_id": 2}\n')

    records = list(open_records(path))

    assert [record.place for record in records] == [1, 2, 4, 5, 6]
    assert [bool(record.error) for record in records] == [False, True, True, True, False]
    assert "not an object" in records[2].error


def test_a_place_is_the_same_at_every_reading(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.jsonl", '{"a": 1}\n\n\n{"a": 2}\n')

    assert [one.place for one in open_records(path)] == [one.place for one in open_records(path)] == [1, 4]


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
def test_csv_is_read_as_strings_under_the_names_of_its_first_line(tmp_path: Path, name: str) -> None:
    path = _write(tmp_path / name, '\ufeffid,text\r\n1,"two\nlines, ""quoted"""\r\n\r\n2,\r\n')

    records = open_records(path)

    assert not records.has_types
    assert [dict(one.fields) for one in records] == [
        {"id": "1", "text": 'two\nlines, "quoted"'},
        {"id": "2", "text": ""},
    ]
    assert records.expected_records() == 2


def test_a_csv_row_of_another_length_is_told_and_loses_no_other(tmp_path: Path) -> None:
    records = list(open_records(_write(tmp_path / "a.csv", "id,a\n1,x\n2\n3,y,z\n4,w\n")))

    assert [record.error for record in records] == ["", "1 values for 2 columns", "3 values for 2 columns", ""]


cells = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\r\x00"), max_size=20)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(st.integers(0, 9).map(str), cells), max_size=8))
def test_what_a_csv_writer_wrote_is_what_is_read(tmp_path: Path, rows: list[tuple[str, str]]) -> None:
    written = io.StringIO(newline="")
    csv.writer(written).writerows([("id", "text"), *rows])

    assert _fields(_write(tmp_path / "a.csv", written.getvalue())) == [{"id": i, "text": t} for i, t in rows]


def test_parquet_is_read_with_its_types_and_times_to_the_microsecond(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    from pyarrow import parquet

    moment = datetime(2025, 1, 2, 3, 4, 5, 678901, UTC)
    table = pa.table(
        {
            "id": pa.array([1, 2], pa.uint64()),
            "at": pa.array([1735787045678901234, None], pa.timestamp("ns", "UTC")),
            "words": pa.array([["a", "b"], []], pa.list_(pa.string())),
            "vector": pa.array([[1.0, 2.0], [3.0, 4.0]], pa.list_(pa.float32(), 2)),
        }
    )
    parquet.write_table(table, tmp_path / "a.parquet")

    records = open_records(tmp_path / "a.parquet")

    assert [dict(one.fields) for one in records] == [
        {"id": 1, "at": moment, "words": ["a", "b"], "vector": [1.0, 2.0]},
        {"id": 2, "at": None, "words": [], "vector": [3.0, 4.0]},
    ]
    assert records.expected_records() == 2


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl.gz", b"not gzip"),
        ("a.csv", b"id,a\n1,\xff\n"),
        ("a.csv", b"id,id\n1,2\n"),
        ("a.csv", b'id\n"open\n'),
        ("a.parquet", b"not parquet"),
    ],
)
def test_a_file_that_cannot_be_read_is_an_error_that_names_it(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)

    with pytest.raises(InvalidArgument, match=name):
        list(open_records(path))


def test_a_gzip_file_cut_short_is_an_error_after_the_rows_before_it(tmp_path: Path) -> None:
    lines = "".join(json.dumps({"_id": str(i), "text": "x" * (i % 97)}) + "\n" for i in range(20_000))
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(lines.encode())[:-1000])
    records = iter(open_records(path))

    assert next(records).fields["_id"] == "0"
    with pytest.raises(InvalidArgument, match="cannot read"):
        list(records)


@pytest.mark.parametrize("name", ["a.txt", "a", "a.gz", "a.jsonl.zip"])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidArgument, match="is none of"):
        open_records(_write(tmp_path / name, ""))


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="is no file"):
        open_records(tmp_path / "a.jsonl")


def test_how_many_rows_there_will_be_is_counted_in_a_small_file_and_estimated_in_a_large_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _write(tmp_path / "a.jsonl", '{"_id": "x"}\n' * 100_000)
    assert open_records(path).expected_records() == 100_000

    monkeypatch.setattr(readers, "_COUNTED_BYTES", 10)
    records = open_records(path)
    reading = iter(records)
    for _ in range(50_000):
        next(reading)

    assert records.expected_records() == pytest.approx(100_000, rel=0.05)
