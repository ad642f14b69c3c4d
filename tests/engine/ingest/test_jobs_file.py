from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.errors import EngineError
from engine.ingest.coerce import map_fields, to_item
from engine.ingest.readers import open_records
from engine.items import validate_item
from engine.limits import Limits
from engine.schema_file import read_schema
from engine.types import Timestamp

ROOT = Path(__file__).parents[3]
JOBS = Path(os.environ.get("EBR_DATA") or ROOT.parent / "shared" / "data") / "jobs" / "corpus.jsonl.gz"


def test_the_postings_beside_the_schema_fit_it_and_use_all_of_it() -> None:
    schema = read_schema(ROOT / "examples" / "jobs.toml")
    records = list(open_records(ROOT / "examples" / "postings.jsonl"))
    items = [validate_item(to_item(one.fields, schema, map_fields(schema)), schema, 384, Limits()) for one in records]
    assert len({item.id for item in items}) == len(items) >= 20
    assert {name for item in items for name in item.attributes} == {one.name for one in schema.attributes}


@pytest.mark.skipif(not JOBS.is_file(), reason="the job postings are not here (EBR_DATA)")
def test_every_posting_fits_the_schema_of_the_example() -> None:
    schema = read_schema(ROOT / "examples" / "jobs.toml")
    records = open_records(JOBS)
    fields = map_fields(schema)
    read: set[str] = set()
    for record in records:
        try:
            item = validate_item(to_item(record.fields, schema, fields), schema, 384, Limits())
        except EngineError as error:
            pytest.fail(f"row {record.place}: {error.message}")
        read |= item.attributes.keys()
        assert isinstance(item.attributes["published_at"], Timestamp)

    assert record.place == records.expected_records() == 5_983
    assert read == {one.name for one in schema.attributes}
