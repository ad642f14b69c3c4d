"""Texts to windows of token ids; knows prompts and lengths, no tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tokenizers import Tokenizer

from engine.errors import ConfigError
from engine.models.protocol import Role, TokenizedText


class Tokenization:
    """Safe to share between threads; works outside the GIL.

    A text is tokenised whole however long it is, for the count of truncated tokens to be right: a megabyte takes about
    half a second. Of a prompted text with several windows, the first alone has the prompt.

    Args:
        tokenizer: becomes this object's: its truncation and padding are switched off.
        max_tokens: of a window, special tokens included.
        prompts: what stands before the text of each role.
    """

    def __init__(
        self, tokenizer: Tokenizer, *, max_tokens: int, prompts: Mapping[Role, str], lower_case: bool = False
    ) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self._prompts = dict(prompts)
        self._lower_case = lower_case
        self._before, self._after = _special_tokens(tokenizer)
        self._body_tokens = max_tokens - len(self._before) - len(self._after)
        self.max_tokens = max_tokens
        if self._body_tokens < 1:
            raise ConfigError(f"max_seq_length is {max_tokens}, which the tokenizer's special tokens fill alone")

    @classmethod
    def from_file(
        cls, path: Path, *, max_tokens: int, prompts: Mapping[Role, str], lower_case: bool = False
    ) -> Tokenization:
        """Open a tokenizer.json.

        Raises:
            ConfigError: the file is not one.
        """
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises nothing narrower
            raise ConfigError(f"cannot read the tokenizer {path}: {error}") from error
        return cls(tokenizer, max_tokens=max_tokens, prompts=prompts, lower_case=lower_case)

    def tokenize(self, texts: Sequence[str], *, role: Role = "item", chunks: int = 1) -> list[TokenizedText]:
        """As ``Encoder.tokenize``."""
        prompt = self._prompts[role]
        whole = [prompt + text for text in texts]
        if self._lower_case:
            whole = [text.lower() for text in whole]
        encodings = self._tokenizer.encode_batch_fast(whole, add_special_tokens=False)
        return [self._cut(encoding.ids, chunks) for encoding in encodings]

    def _cut(self, ids: list[int], chunks: int) -> TokenizedText:
        size = self._body_tokens
        ends = min(len(ids), chunks * size)
        windows = [self._before + ids[at : at + size] + self._after for at in range(0, max(ends, 1), size)]
        return TokenizedText(windows, len(ids) - ends)


def _special_tokens(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """What the tokenizer puts before and behind a text."""
    bare = tokenizer.encode("a", add_special_tokens=False).ids
    dressed = tokenizer.encode("a", add_special_tokens=True).ids
    for at in range(len(dressed) - len(bare) + 1):
        if dressed[at : at + len(bare)] == bare:
            return dressed[:at], dressed[at + len(bare) :]
    raise ConfigError("the tokenizer changes a text's own tokens when it adds special ones")
