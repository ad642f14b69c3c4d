"""Search by terms: texts analysed, postings in segments, BM25 of every row, and the rows that have all terms."""

from engine.index.lexical.analysing import AnalysedTexts
from engine.index.lexical.lexical_index import LexicalIndex

__all__ = ["AnalysedTexts", "LexicalIndex"]
