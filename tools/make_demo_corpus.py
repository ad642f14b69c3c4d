"""Makes the demo corpus from the O*NET occupations in BEIR layout: `python tools/make_demo_corpus.py SOURCE_FOLDER`.

Standard library only. The same source gives the same bytes.
"""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from typing import Any

TARGET = Path(__file__).parents[1] / "engine" / "demo_data" / "onet"

# The major groups of the 2018 Standard Occupational Classification, U.S. Bureau of Labor Statistics.
MAJOR_GROUPS = {
    "11": "Management Occupations",
    "13": "Business and Financial Operations Occupations",
    "15": "Computer and Mathematical Occupations",
    "17": "Architecture and Engineering Occupations",
    "19": "Life, Physical, and Social Science Occupations",
    "21": "Community and Social Service Occupations",
    "23": "Legal Occupations",
    "25": "Educational Instruction and Library Occupations",
    "27": "Arts, Design, Entertainment, Sports, and Media Occupations",
    "29": "Healthcare Practitioners and Technical Occupations",
    "31": "Healthcare Support Occupations",
    "33": "Protective Service Occupations",
    "35": "Food Preparation and Serving Related Occupations",
    "37": "Building and Grounds Cleaning and Maintenance Occupations",
    "39": "Personal Care and Service Occupations",
    "41": "Sales and Related Occupations",
    "43": "Office and Administrative Support Occupations",
    "45": "Farming, Fishing, and Forestry Occupations",
    "47": "Construction and Extraction Occupations",
    "49": "Installation, Maintenance, and Repair Occupations",
    "51": "Production Occupations",
    "53": "Transportation and Material Moving Occupations",
    "55": "Military Specific Occupations",
}


def convert(source: Path, target: Path) -> None:
    """Write corpus, queries and judgements into ``target``, which exists."""
    _write_gz(target / "corpus.jsonl.gz", _corpus_lines(source / "corpus.jsonl.gz"))
    _write_gz(target / "queries.jsonl.gz", _read_gz(source / "queries.jsonl.gz"))
    _write_gz(target / "qrels.tsv.gz", _read_gz(source / "qrels.tsv.gz"))


def _corpus_lines(path: Path) -> str:
    lines = [json.dumps(_occupation(json.loads(line)), ensure_ascii=False) for line in _read_gz(path).splitlines()]
    return "\n".join(lines) + "\n"


def _occupation(row: dict[str, Any]) -> dict[str, Any]:
    """Field names as in schema.toml; a value the source lacks is left out."""
    item = {
        "_id": row["_id"],
        "title": row["title"],
        "description": row["text"],
        "major_group": row["major_group"],
        "major_group_title": MAJOR_GROUPS[row["major_group"]],
        "job_zone": row["job_zone"],
        "technology": row["technology"],
    }
    return {name: value for name, value in item.items() if value not in (None, [])}


def _read_gz(path: Path) -> str:
    return gzip.decompress(path.read_bytes()).decode()


def _write_gz(path: Path, text: str) -> None:
    """No name and no time in the header, so that the bytes depend on the text alone."""
    path.write_bytes(gzip.compress(text.encode(), compresslevel=9, mtime=0))


if __name__ == "__main__":
    convert(Path(sys.argv[1]), TARGET)
