"""Filters and scorings of a call, each compiled once however many of its queries have it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from engine.index.filters import FilterProgram, compile_filter
from engine.limits import Limits
from engine.pipeline.scoring import CompiledScoring, compile_scoring
from engine.scoring import Mode
from engine.types import Filter, Schema, SearchParams


@dataclass(frozen=True, slots=True, eq=False)
class Compiler:
    """Of one call, whose parameters outlive it: they are known again by being the same object, not an equal one."""

    schema: Schema
    limits: Limits
    programs: dict[int, FilterProgram] = field(default_factory=dict)
    scorings: dict[tuple[int, Mode | None], CompiledScoring | None] = field(default_factory=dict)

    def program(self, tree: Filter) -> FilterProgram:
        """See ``compile_filter``."""
        if id(tree) not in self.programs:
            self.programs[id(tree)] = compile_filter(tree, self.schema)
        return self.programs[id(tree)]

    def scoring(self, params: SearchParams, path: str) -> CompiledScoring | None:
        """See ``compile_scoring``."""
        key = (id(params.scoring), params.mode)
        if key not in self.scorings:
            self.scorings[key] = compile_scoring(params.scoring, self.schema, self.limits, path, params.mode)
        return self.scorings[key]
