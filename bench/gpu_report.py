"""The lines that the GPU bench tells: one a measurement, printed and kept at once; no speed without its recall."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.machine import MachineWatch, commit
from bench.measured import SEED, Samples, Target, append_line, plain, rounded


@dataclass(slots=True)
class Lines:
    """Of one part. ``out`` is None on the host, whose figures mean nothing."""

    part: str
    device: str
    facts: Mapping[str, Any]
    out: Path | None
    missed: int = 0
    told: list[dict[str, Any]] = field(default_factory=list)
    _watch: MachineWatch = field(default_factory=MachineWatch)
    _commit: str = field(default_factory=commit)
    _began: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        """Since the part began."""
        return time.perf_counter() - self._began

    def tell(
        self, case: Mapping[str, object], figures: Mapping[str, object], targets: Mapping[str, Target] | None = None
    ) -> None:
        """One line: what was measured, what came out, and what was wanted of it."""
        wanted = {name: target.as_json() for name, target in (targets or {}).items()}
        self.missed += sum(not one["ok"] for one in wanted.values())
        line = {
            "bench": "gpu",
            "part": self.part,
            "device": self.device,
            "commit": self._commit,
            "seed": SEED,
            "case": plain(case),
            "figures": plain(figures),
            "targets": wanted,
            "since_start_s": rounded(self.seconds),
            "machine": {**self._watch.facts(), **self.facts},
        }
        print(json.dumps(line), flush=True)
        self.told.append(line)
        if self.out is not None:
            append_line(self.out, line)


@dataclass(frozen=True, slots=True)
class Answered:
    """A search and how good its answers are; ``note``: what one has to know about it."""

    seconds: Samples
    recall: float
    note: str = ""

    def figures(self, batch: int) -> dict[str, object]:
        milliseconds = {name: rounded(1000 * value) for name, value in self.seconds.figures().items()}
        told: dict[str, object] = {"ms": milliseconds, "qps": batch / self.seconds.median, "recall": self.recall}
        return {**told, "note": self.note} if self.note else told


def ways(answered: Mapping[str, Answered], batch: int) -> dict[str, object]:
    return {name: one.figures(batch) for name, one in answered.items()}
