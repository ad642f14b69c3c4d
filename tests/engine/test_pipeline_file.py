from __future__ import annotations

from pathlib import Path

import pytest

from engine.errors import ConfigError
from engine.pipeline_file import read_pipeline
from engine.ranking import KeywordInput, LegInput, NumberInput, Pipeline, QueryInput, RankStage
from engine.schema_file import read_schema
from engine.store.codec import decode_schema, encode_schema

DECLARED = """
retrieve = 10
[rank]
model = "sub/m.onnx"
max_candidates = 20
[[rank.input]]
leg = "lexical"
form = "raw"
missing = -1
[[rank.input]]
number = "pay"
name = "salary"
[[rank.input]]
keyword = "place"
buckets = 8
[[rank.input]]
query = "user"
size = 2
missing = [0.0, 1]
"""
INPUTS = (
    LegInput("lexical", "raw", -1),
    NumberInput("pay", name="salary"),
    KeywordInput("place", buckets=8),
    QueryInput("user", 2, (0.0, 1)),
)


def test_a_folder_s_pipeline_is_read_with_its_model_beside_it(tmp_path: Path) -> None:
    (tmp_path / "pipeline.toml").write_text(DECLARED)
    model = str(tmp_path / "sub" / "m.onnx")
    assert read_pipeline(tmp_path) == Pipeline(10, RankStage(model, INPUTS, max_candidates=20))


def test_a_schema_file_may_have_a_pipeline_which_is_stored_as_it_is(tmp_path: Path) -> None:
    head = 'name = "jobs"\ndimension = 4\n[[attribute]]\nname = "pay"\ntype = "float"\n'
    head += '[[attribute]]\nname = "place"\ntype = "keyword_list"\n'
    table = DECLARED.replace("\nretrieve", "\n[pipeline]\nretrieve").replace("[rank", "[pipeline.rank")
    (tmp_path / "jobs.toml").write_text(head + table)
    schema = read_schema(tmp_path / "jobs.toml")
    assert schema.pipeline == Pipeline(10, RankStage("sub/m.onnx", INPUTS, max_candidates=20))
    assert decode_schema(encode_schema(schema)) == schema


@pytest.mark.parametrize(
    ("before", "after", "match"),
    [
        ("retrieve = 10", "retrieve = 10\nk = 3", "pipeline.k: is unknown"),
        ("retrieve = 10", "", "pipeline.retrieve: is missing"),
        ("retrieve = 10", 'retrieve = "10"', "not of type int"),
        ('query = "user"', "", "has 0 of leg, number, keyword, query"),
        ('query = "user"', 'query = "user"\nleg = "similarity"', "has 2 of"),
        ("buckets = 8", "buckets = 8\nmissing = 1", r"input\[2\].missing: is unknown"),
        ("buckets = 8", "vocabulary = [1]", "with one of another type"),
        ("missing = [0.0, 1]", 'missing = ["0"]', "with one of another type"),
        ("[rank]", "[rank", "is not TOML"),
    ],
)
def test_what_no_pipeline_has_is_told_by_its_field(tmp_path: Path, before: str, after: str, match: str) -> None:
    (tmp_path / "pipeline.toml").write_text(DECLARED.replace(before, after, 1))
    with pytest.raises(ConfigError, match=match):
        read_pipeline(tmp_path)


def test_a_folder_without_one_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        read_pipeline(tmp_path)
