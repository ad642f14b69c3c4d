from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from engine.errors import ConfigError
from engine.models.protocol import Role
from engine.models.tokenization import Tokenization
from tests.engine.models.folders import SPECIAL, WORDS, make_folder

MAX_TOKENS = 7
CLS, SEP = SPECIAL.index("[CLS]"), SPECIAL.index("[SEP]")
NO_PROMPTS: dict[Role, str] = {"query": "", "item": ""}


@pytest.fixture(scope="module")
def tokenizer_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("model")) / "tokenizer.json"


@pytest.fixture(scope="module")
def tokenization(tokenizer_file: Path) -> Tokenization:
    return Tokenization.from_file(tokenizer_file, max_tokens=MAX_TOKENS, prompts=NO_PROMPTS)


@given(
    texts=st.lists(st.lists(st.sampled_from(WORDS), max_size=40).map(" ".join), max_size=5),
    chunks=st.integers(1, 6),
)
def test_windows_hold_all_tokens_in_order_up_to_the_last_and_the_rest_is_counted(
    tokenization: Tokenization, texts: list[str], chunks: int
) -> None:
    tokenized = tokenization.tokenize(texts, chunks=chunks)
    assert len(tokenized) == len(texts)
    for text, found in zip(texts, tokenized, strict=True):
        words = [len(SPECIAL) + WORDS.index(word) for word in text.split()]
        assert all(window[0] == CLS and window[-1] == SEP for window in found.windows)
        assert [token for window in found.windows for token in window[1:-1]] == words[
            : len(words) - found.truncated_tokens
        ]
        assert all(len(window) == MAX_TOKENS for window in found.windows[:-1])
        assert 2 <= len(found.windows[-1]) <= MAX_TOKENS
        assert found.truncated_tokens == max(0, len(words) - chunks * (MAX_TOKENS - 2))
        assert 1 <= len(found.windows) <= chunks


def test_each_role_has_its_prompt(tokenizer_file: Path) -> None:
    prompted = Tokenization.from_file(tokenizer_file, max_tokens=9, prompts={"query": "w1 ", "item": ""})
    bare = Tokenization.from_file(tokenizer_file, max_tokens=9, prompts=NO_PROMPTS)
    assert prompted.tokenize(["w2"], role="query") == bare.tokenize(["w1 w2"])
    assert prompted.tokenize(["w2"]) == bare.tokenize(["w2"])


def test_the_windows_are_those_of_the_tokenizer_itself(tokenizer_file: Path, tokenization: Tokenization) -> None:
    plain = Tokenizer.from_file(str(tokenizer_file))
    plain.no_padding()
    plain.enable_truncation(MAX_TOKENS)
    texts = ["", "W1, w2!", "w3 w4 w5 w6 w7 w8 w9"]
    assert [one.windows[0] for one in tokenization.tokenize(texts)] == [plain.encode(text).ids for text in texts]


def test_lower_case_is_applied_before_the_tokenizer(tokenizer_file: Path, tmp_path: Path) -> None:
    cased = tmp_path / "tokenizer.json"
    content = json.loads(tokenizer_file.read_text("utf-8"))
    content["normalizer"]["lowercase"] = False
    cased.write_text(json.dumps(content), "utf-8")
    kept = Tokenization.from_file(cased, max_tokens=9, prompts=NO_PROMPTS)
    lowered = Tokenization.from_file(cased, max_tokens=9, prompts=NO_PROMPTS, lower_case=True)
    assert kept.tokenize(["W5"]) != kept.tokenize(["w5"])
    assert lowered.tokenize(["W5"]) == kept.tokenize(["w5"])


def test_a_megabyte_of_text_is_counted_to_the_last_token(tokenization: Tokenization) -> None:
    n_words = 330_000
    (found,) = tokenization.tokenize(["w1 " * n_words], chunks=3)
    assert found.truncated_tokens == n_words - 3 * (MAX_TOKENS - 2)
    assert len(found.windows) == 3


def test_a_window_without_room_for_text_is_refused(tokenizer_file: Path) -> None:
    with pytest.raises(ConfigError, match="max_seq_length is 2"):
        Tokenization.from_file(tokenizer_file, max_tokens=2, prompts=NO_PROMPTS)


def test_a_file_that_is_no_tokenizer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ConfigError, match="cannot read the tokenizer"):
        Tokenization.from_file(tmp_path / "tokenizer.json", max_tokens=9, prompts=NO_PROMPTS)
