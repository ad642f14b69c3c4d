"""Runs a scenario once for every call it makes on its files and every fault: ``python -m tests.recovery.sweep NAME``.

To be started with the faulty disk preloaded. Each run is a fork of this process on a fresh copy of the same folder.
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy.ma  # noqa: F401  loaded here once, and not by every fork

from engine.errors import Unavailable
from engine.store import writing
from tests.recovery.faults import CUTS, FAULTS, FORMS, Fault, Form
from tests.recovery.faulty_disk import ENDED, Action, FaultyDisk, Kind
from tests.recovery.forks import in_fork
from tests.recovery.power_cut import cut_power
from tests.recovery.scenarios import SCENARIOS, Scenario, Stage, State, Step

_NEVER = 0


class Sweep:
    """One scenario; ``failures`` tells what went wrong where, ``n_runs`` counts."""

    def __init__(self, scenario: Scenario, base: Path, form: Form) -> None:
        self._scenario = scenario
        self._base = base
        self._form = form
        self._numbers = itertools.count()
        self._disk = FaultyDisk()
        if scenario.is_large:
            writing._LOGGED_BYTES = 0
        self.failures: list[str] = []
        self.n_runs = 0
        self._seed()
        self.history = self._states(self._scenario.act)
        self._ghosts = [self._states(scenario.ghost)[-1]] if scenario.ghost else []
        self.writable_maps = 0
        self.calls = {fault.kinds: self._calls(fault.kinds) for fault in FAULTS}

    def run(self) -> None:
        for place, fault in enumerate(FAULTS):
            # The short form skips other calls under each fault.
            for nth in range(1 + place % self._form.every, len(self.calls[fault.kinds]) + 1, self._form.every):
                if not fault.ends:
                    self._refuse(fault, nth)
                    continue
                for cut in ("", *self._form.cuts):
                    self._end(fault, nth, cut=cut)
        for cut in self._form.cuts:
            self._end(Fault("acknowledged", Action.NOTHING), _NEVER, cut=cut)

    def _seed(self) -> None:
        stage = self._stage(self._base / "seed")
        for step in self._scenario.seed:
            step.acts(stage)
        stage.close()

    def _states(self, last: Step) -> list[State]:
        """Of the seed and after each step, without any fault."""
        root = self._fresh()

        def run() -> list[State]:
            history = [self._look(root)]
            stage = self._stage(root)
            self._open_unless_new(stage)
            for step in self._scenario.before:
                step.acts(stage)
                history.append(stage.look())
            last.acts(stage)
            stage.close()
            return [*history, self._look(root)]

        return list(_sound(in_fork(run)))

    def _calls(self, kinds: Kind) -> list[str]:
        """Those that the act makes, as ``name path``."""
        root = self._fresh()
        self._prepare_restart(root)

        def run() -> tuple[list[str], int]:
            stage = self._stage(root)
            self._before(stage)
            self._disk.watch(root)
            self._disk.arm(Action.NOTHING, _NEVER, kinds=kinds)
            self._act(stage)
            return self._disk.calls, self._disk.writable_maps

        calls, self.writable_maps = _sound(in_fork(run))
        return list(calls)

    def _refuse(self, fault: Fault, nth: int) -> None:
        root = self._fresh()
        self._prepare_restart(root)

        def run() -> list[str]:
            stage = self._stage(root)
            self._before(stage)
            self._disk.watch(root)
            self._disk.arm(fault.action, nth, fault.error, lasts=fault.lasts, kinds=fault.kinds)
            refusal = _refusal(lambda: self._act(stage))
            self._disk.disarm()
            self._disk.watch(self._base / "none")
            if refusal is not None and fault.lasts:
                self._scenario.clears(stage)
            return list(self._after_refusal(stage, root, refusal))

        self._record(fault, nth, "", *in_fork(run))
        shutil.rmtree(root.parent)

    def _after_refusal(self, stage: Stage, root: Path, refusal: Exception | None) -> Iterator[str]:
        """What is wrong once the fault has gone again."""
        before, after = self.history[-2] if len(self.history) > 1 else None, self.history[-1]
        if refusal is not None and not isinstance(refusal, Unavailable):
            yield f"raised {refusal!r}"
        # What is closed, or could not be, is looked at below.
        if self._scenario.stays_open and stage.store is not None:
            found = stage.look()
            if found != (before if refusal else after):
                yield f"{'refused' if refusal else 'done'}, then found {self._name(found)}"
        if refusal is not None:
            again = _refusal(lambda: self._act_again(stage))
            if again is not None:
                yield f"refused, and tried again without the fault: {again!r}"
        stage.close()
        if (found := self._look(root)) != after:
            yield f"done in the end, then found {self._name(found)}"

    def _end(self, fault: Fault, nth: int, *, cut: str) -> None:
        root = self._fresh()
        journal = root.parent / "journal"
        self._prepare_restart(root, journal if cut else None)

        def run() -> None:
            self._disk.watch(root)
            if cut:
                self._disk.keep_journal(journal)
            stage = self._stage(root)
            self._before(stage)
            self._disk.arm(fault.action, nth)
            self._act(stage)
            self._disk.disarm()
            os._exit(0)

        status, told = in_fork(run)
        if status not in {0, ENDED}:
            self.failures.append(f"{fault.name} at call {nth}: {told}")
        if cut:
            keeps, keeps_names = CUTS[cut]
            cut_power(root, journal, keeps=keeps, keeps_names=keeps_names)
        is_done = status == 0
        if cut:
            allowed = self.history[self._durable_steps(is_done=is_done) :]
        else:
            allowed = self.history[-1:] if is_done else self.history[-2:]
        if not is_done or (cut and not self._scenario.act.is_durable):
            allowed = [*allowed, *self._ghosts]
        self._record(fault, nth, cut, *in_fork(lambda: self._what_is_wrong(root, allowed)))
        shutil.rmtree(root.parent)

    def _what_is_wrong(self, root: Path, allowed: list[State]) -> list[str]:
        found = self._look(root)
        return [] if found in allowed else [f"found {self._name(found)}, {len(allowed)} states of the history allowed"]

    def _durable_steps(self, *, is_done: bool) -> int:
        """Of the history, the first state that may be found after a power cut."""
        steps = [*self._scenario.before, *([self._scenario.act] if is_done else [])]
        return max((place for place, step in enumerate(steps, 1) if step.is_durable), default=0)

    def _prepare_restart(self, root: Path, journal: Path | None = None) -> None:
        """The steps before, in a process that dies without closing anything."""
        if not self._scenario.restarts:
            return

        def run() -> None:
            self._disk.watch(root)
            if journal is not None:
                self._disk.keep_journal(journal)
            stage = self._stage(root)
            self._open_unless_new(stage)
            for step in self._scenario.before:
                step.acts(stage)
            os._exit(0)

        _sound(in_fork(run))

    def _before(self, stage: Stage) -> None:
        if not self._scenario.restarts:
            self._open_unless_new(stage)
            for step in self._scenario.before:
                step.acts(stage)
            if self._scenario.ghost is not None:
                self._be_refused(stage, self._scenario.ghost)

    def _be_refused(self, stage: Stage, ghost: Step) -> None:
        self._disk.watch(stage.collections.parent)
        # That of the log: a large group syncs its vectors first.
        self._disk.arm(Action.REFUSE, 2 if self._scenario.is_large else 1, errno.EIO, kinds=Kind.SYNC)
        assert isinstance(_refusal(lambda: ghost.acts(stage)), Unavailable)
        self._disk.disarm()

    def _act(self, stage: Stage) -> None:
        if self._scenario.restarts:
            stage.open()
        self._scenario.act.acts(stage)

    def _act_again(self, stage: Stage) -> None:
        if self._scenario.restarts and stage.store is None:
            stage.open()
        self._scenario.act.acts(stage)

    def _open_unless_new(self, stage: Stage) -> None:
        if self._scenario.seed:
            stage.open()

    def _look(self, root: Path) -> State:
        stage = self._stage(root)
        stage.open()
        found = stage.look()
        stage.close()
        return found

    def _stage(self, root: Path) -> Stage:
        return Stage(root / "collections", self._scenario.limits)

    def _fresh(self) -> Path:
        root = self._base / str(next(self._numbers)) / "root"
        seed = self._base / "seed"
        if seed.exists():
            shutil.copytree(seed, root)
        else:
            root.mkdir(parents=True)
        return root

    def _name(self, found: State) -> str:
        if found in self.history:
            return f"state {self.history.index(found)} of {len(self.history)}"
        return f"no state of the history: {found}"

    def _record(self, fault: Fault, nth: int, cut: str, status: int, told: Any) -> None:
        self.n_runs += 1
        wrong = told if status == 0 and isinstance(told, list) else [f"status {status}: {told}"]
        call = self.calls[fault.kinds][nth - 1] if nth else "after the last"
        self.failures += [f"{fault.name} at call {nth} ({call}){', ' + cut if cut else ''}: {one}" for one in wrong]


def _sound(ended: tuple[int, Any]) -> Any:
    status, told = ended
    assert status == 0, told
    return told


def _refusal(acts: Callable[[], None]) -> Exception | None:
    try:
        acts()
    except Exception as error:
        return error
    return None


def main(name: str, form: str) -> None:
    base = Path(tempfile.mkdtemp())
    try:
        sweep = Sweep(SCENARIOS[name], base, FORMS[form])
        sweep.run()
        told = {
            "calls": sweep.calls[Kind(0)],
            "runs": sweep.n_runs,
            "failures": sweep.failures,
            "maps": sweep.writable_maps,
        }
        sys.stdout.write(json.dumps({**told, "maps": sweep.writable_maps}))
    finally:
        shutil.rmtree(base)


if __name__ == "__main__":
    main(*sys.argv[1:])
