from __future__ import annotations

import gzip
import json
import tomllib
from pathlib import Path
from typing import Any

from tools import make_demo_corpus


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).decode().splitlines()]


def test_the_corpus_holds_what_its_attribution_says(demo_dir: Path) -> None:
    occupations = _rows(demo_dir / "corpus.jsonl.gz")
    assert len(occupations) == 1_016
    assert sum("job_zone" in row for row in occupations) == 923
    assert sum("technology" in row for row in occupations) == 910
    assert len(_rows(demo_dir / "queries.jsonl.gz")) == 49_267


def test_every_value_fits_the_schema(demo_dir: Path) -> None:
    schema = tomllib.loads((demo_dir / "schema.toml").read_text())
    checks = {"keyword": str, "int": int, "keyword_list": list}
    attributes = {spec["name"]: checks[spec["type"]] for spec in schema["attribute"]}
    texts = {field["name"] for field in schema["text"]}
    for row in _rows(demo_dir / "corpus.jsonl.gz"):
        assert row.keys() <= {"_id"} | texts | attributes.keys()
        assert texts <= row.keys()
        assert all(isinstance(row[name], kind) for name, kind in attributes.items() if name in row)


def test_every_judgement_is_about_a_query_and_an_occupation_that_exist(demo_dir: Path) -> None:
    queries = {row["_id"] for row in _rows(demo_dir / "queries.jsonl.gz")}
    occupations = {row["_id"] for row in _rows(demo_dir / "corpus.jsonl.gz")}
    lines = gzip.decompress((demo_dir / "qrels.tsv.gz").read_bytes()).decode().splitlines()
    pairs = [tuple(line.split("\t")) for line in lines[1:]]
    assert len(set(pairs)) == 60_293
    assert {pair[0] for pair in pairs} == queries
    assert {pair[1] for pair in pairs} <= occupations


def test_no_title_that_is_a_query_was_added_to_an_occupation(demo_dir: Path) -> None:
    row = _rows(demo_dir / "corpus.jsonl.gz")[0]
    assert row["title"] == "Chief Executives"
    assert row["description"].startswith("Determine and formulate policies")
    assert row["major_group_title"] == "Management Occupations"


def test_the_committed_corpus_is_what_the_converter_makes(demo_dir: Path, data_dir: Path, tmp_path: Path) -> None:
    make_demo_corpus.convert(data_dir / "onet", tmp_path)
    for made in tmp_path.iterdir():
        assert gzip.decompress(made.read_bytes()) == gzip.decompress((demo_dir / made.name).read_bytes())
