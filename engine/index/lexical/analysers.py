"""Texts to terms, by tantivy's tokeniser and filters. Knows no fields."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from importlib.metadata import version
from typing import TypeAlias

from engine.types import Analyser, Schema

Analyse: TypeAlias = Callable[[str], Sequence[str]]

_LONGEST_TERM_BYTES = 255
"""Longer ones are left out: no word is, and encoded files would fill the dictionary."""


@cache
def analyser(kind: Analyser) -> Analyse:
    """A function from a text to its terms, in their order; any thread may call it."""
    import tantivy

    filters = [tantivy.Filter.remove_long(_LONGEST_TERM_BYTES + 1), tantivy.Filter.lowercase()]
    if kind == "english":
        filters += [tantivy.Filter.stopword("english"), tantivy.Filter.stemmer("english")]
    builder = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple())
    for one in filters:
        builder = builder.filter(one)
    analyse: Analyse = builder.build().analyze
    return analyse


def analysis_of(schema: Schema) -> str:
    """What terms and postings of such a schema depend on, beside the texts; empty where no field is analysed."""
    fields = schema.analysed_fields
    if not fields:
        return ""
    told = ", ".join(f"{one.name}: {one.analyser} {one.lexical_weight!r}" for one in fields)
    return f"tantivy {version('tantivy')}; {told}"
