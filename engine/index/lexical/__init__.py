"""Search by terms: texts analysed, postings in segments, BM25 of every row, and the rows that have all terms."""

from engine.index.lexical.analysers import analysis_of
from engine.index.lexical.analysing import AnalysedTexts
from engine.index.lexical.image import PREFIX, lexical_arrays, lexical_from, renumbered
from engine.index.lexical.lexical_index import LexicalIndex
from engine.index.lexical.merging import Merge, Moment
from engine.index.lexical.term_weights import NO_TERMS, TermWeights

__all__ = [
    "NO_TERMS",
    "PREFIX",
    "AnalysedTexts",
    "LexicalIndex",
    "Merge",
    "Moment",
    "TermWeights",
    "analysis_of",
    "lexical_arrays",
    "lexical_from",
    "renumbered",
]
