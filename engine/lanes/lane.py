"""A lane: one thread that forms batches of what waits and runs them, never idle while anything waits.

Knows nothing of what a batch does. Results go back to the event loop once per batch, not once per entry.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from engine.errors import Cancelled, DeadlineExceeded, Draining, EngineError, QueueFull
from engine.lanes.batching import BatchLimits, Dropped, plan_batch

P = TypeVar("P")
R = TypeVar("R")
T = TypeVar("T")

logger = logging.getLogger(__name__)

_ACTION_SECONDS = 0.002
"""For which a batch waits for actions, where that is more than their share of the batch before it."""
_ACTION_SHARE = 0.5
_STEP_SECONDS = 0.002
"""So much has to be owed to steps that are due a share of a busy lane before one of them is run."""
_MOST_CREDIT_SECONDS = 0.1
"""Of what such steps have had in idle moments, so much counts as had already."""
_MOST_SHARE = 0.25
"""Of a busy lane: with half of it, searches at half of what the lane can take would wait ever longer (docs/log.md,
2026-11-27).
"""


@dataclass(frozen=True, slots=True)
class Done(Generic[R]):
    """One entry's result, and the seconds it waited before its batch began and its batch ran."""

    result: R
    queue_seconds: float
    run_seconds: float
    batch_entries: int


@dataclass(eq=False, slots=True)
class Ticket(Generic[P, R]):
    """An entry of a lane's queue; ``future`` belongs to the event loop that submitted it."""

    payload: P
    future: asyncio.Future[Done[R]]
    group: Hashable
    cost: float
    priority: int
    deadline: float | None
    leave_queue_by: float | None
    enqueued: float

    @property
    def is_cancelled(self) -> bool:
        return self.future.cancelled()


@dataclass(slots=True)
class LaneFigures:
    """Counters since the start; read from any thread, written by the lane's."""

    batches: int = 0
    entries: int = 0
    dropped: int = 0
    failed_batches: int = 0
    busy_seconds: float = 0.0
    cost_done: float = 0.0


@dataclass(frozen=True, slots=True)
class _Step:
    """Work for when nothing waits; ``share``: of the time of a busy lane that it is due nevertheless."""

    run: Callable[[], bool]
    share: Callable[[], float]


def _none() -> float:
    return 0.0


Run = Callable[[Sequence[P]], Sequence["R | EngineError"]]
"""Runs a batch in the lane's thread; one outcome for each payload, in order. What it raises fails the whole batch."""


class Lane(Generic[P, R]):
    """One thread, one queue.

    Args:
        name: of the thread, and in messages.
        run: what to do with a batch's payloads.
        limits: of one batch.
        queue_cost: admission stops when what waits costs more than this.
        on_failure: turns what ``run`` raised, where that is no error of ours, into what every caller of the batch gets.
    """

    def __init__(
        self,
        name: str,
        run: Run[P, R],
        *,
        limits: BatchLimits,
        queue_cost: float,
        on_failure: Callable[[Exception], EngineError],
    ) -> None:
        self.name = name
        self.limits = limits
        self.figures = LaneFigures()
        self._run = run
        self._queue_cost = queue_cost
        self._on_failure = on_failure
        self._waiting: deque[Ticket[P, R]] = deque()
        self._waiting_cost = 0.0
        self._actions: deque[Callable[[], None]] = deque()
        self._steps: deque[_Step] = deque()
        self._owed_seconds = 0.0
        self._wake = threading.Condition()
        self._draining = False
        self._batch_seconds = 0.0
        self._is_running = False
        self._thread = threading.Thread(target=self._loop, name=f"lane-{name}", daemon=True)
        self._thread.start()

    @property
    def is_busy(self) -> bool:
        """Whether a batch runs or entries wait for one. From any thread."""
        return self._is_running or bool(self._waiting)

    @property
    def waiting_cost(self) -> float:
        return self._waiting_cost

    async def submit(
        self,
        payload: P,
        *,
        group: Hashable = None,
        cost: float = 1.0,
        priority: int = 0,
        deadline: float | None = None,
        max_queue_delay: float | None = None,
    ) -> Done[R]:
        """Wait for the payload's result; a cancelled waiter's entry is dropped uncomputed.

        Raises:
            QueueFull: more waits already than the lane admits, or the entry waited longer than ``max_queue_delay``.
            DeadlineExceeded: the deadline (``time.monotonic`` seconds) passed in the queue.
            Draining: the lane takes no new work.
            EngineError: what the batch raised.
        """
        return await self.enqueue(
            payload,
            group=group,
            cost=cost,
            priority=priority,
            deadline=deadline,
            max_queue_delay=max_queue_delay,
        )

    def enqueue(
        self,
        payload: P,
        *,
        group: Hashable = None,
        cost: float = 1.0,
        priority: int = 0,
        deadline: float | None = None,
        max_queue_delay: float | None = None,
    ) -> asyncio.Future[Done[R]]:
        """The same as ``submit`` without waiting, for callers that enter several entries at once."""
        now = time.monotonic()
        future: asyncio.Future[Done[R]] = asyncio.get_running_loop().create_future()
        leave_by = None if max_queue_delay is None else now + max_queue_delay
        ticket = Ticket(payload, future, group, cost, priority, deadline, leave_by, now)
        with self._wake:
            self._admit(cost)
            self._waiting.append(ticket)
            self._waiting_cost += cost
            self._wake.notify()
        return future

    def post(self, action: Callable[[], None]) -> None:
        """Run ``action`` in the lane's thread soon; actions keep their order.

        A batch that waits goes first once they have taken 2 ms, or half of what the batch before took.
        """
        with self._wake:
            self._actions.append(action)
            self._wake.notify()

    def post_idle(self, step: Callable[[], bool], *, share: Callable[[], float] = _none) -> None:
        """Run ``step`` when nothing waits, again and again until it answers False; each call should be short.

        ``share``: asked after each batch, in the lane's thread, what share of the time of a lane that is never idle the
        step is due, a quarter of it at most: work that batches wait for the longer, the longer it is left undone.
        """
        self._post_step(_Step(step, share))

    def _post_step(self, step: _Step) -> None:
        with self._wake:
            self._steps.append(step)
            self._wake.notify()

    async def call(self, action: Callable[[], T]) -> T:
        """``post`` an action and wait for what it returns or raises."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def act() -> None:
            try:
                result = action()
            except Exception as error:
                loop.call_soon_threadsafe(_fail, future, error)
            else:
                loop.call_soon_threadsafe(_succeed, future, result)

        self.post(act)
        return await future

    async def call_idle(self, step: Callable[[], bool]) -> None:
        """``post_idle`` a step and wait until it answers False; what it raises, if it does, ends it too."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()

        def act() -> bool:
            try:
                more = not future.done() and step()
            except Exception as error:
                loop.call_soon_threadsafe(_fail, future, error)
                return False
            if not more:
                loop.call_soon_threadsafe(_succeed, future, None)
            return more

        self.post_idle(act)
        await future

    def drain(self) -> None:
        """Take no new work, finish what waits, end the thread; blocks until then."""
        with self._wake:
            self._draining = True
            self._wake.notify()
        self._thread.join()

    def _admit(self, cost: float) -> None:
        if self._draining:
            raise Draining("the server is shutting down")
        if self._waiting and self._waiting_cost + cost > self._queue_cost:
            raise QueueFull(
                f"the {self.name} queue is full",
                retry_after_ms=self._ms_to_clear(),
                queue=self.name,
                waiting=round(self._waiting_cost),
                limit=round(self._queue_cost),
            )

    def _ms_to_clear(self) -> int:
        rate = self.figures.cost_done / self.figures.busy_seconds if self.figures.busy_seconds else self._queue_cost
        return int(1000 * self._waiting_cost / rate) + 1 if rate else 1000

    def _loop(self) -> None:
        while True:
            actions, idle, tickets = self._next()
            self._act_in_turn(actions, tickets)
            if tickets is None:
                return
            if tickets:
                self._run_batch(tickets)
                self._step_between()
            elif idle is not None:
                self._take_idle(idle)

    def _next(
        self,
    ) -> tuple[list[Callable[[], None]], _Step | None, Sequence[Ticket[P, R]] | None]:
        """What to do now; waits until there is something. The last is None when the lane is to end."""
        with self._wake:
            while not (self._actions or self._waiting or self._steps or self._draining):
                self._wake.wait()
            actions = list(self._actions)
            self._actions.clear()
            if not self._waiting:
                if self._draining:
                    return actions, None, None
                idle = self._steps.popleft() if self._steps and not actions else None
                return actions, idle, ()
            pending = tuple(self._waiting)
            self._waiting.clear()
            self._waiting_cost = 0.0
        return actions, None, self._plan(pending)

    def _plan(self, pending: Sequence[Ticket[P, R]]) -> Sequence[Ticket[P, R]]:
        plan = plan_batch(pending, self.limits, time.monotonic())
        with self._wake:
            self._waiting.extendleft(reversed(plan.rest))
            self._waiting_cost += sum(ticket.cost for ticket in plan.rest)
        if plan.dropped:
            self.figures.dropped += len(plan.dropped)
            self._deliver([(ticket, self._refusal(why)) for ticket, why in plan.dropped])
        return plan.batch

    def _refusal(self, why: Dropped) -> EngineError:
        if why is Dropped.WAITED_TOO_LONG:
            return QueueFull(f"waited longer than max_queue_delay for the {self.name} lane", retry_after_ms=1)
        if why is Dropped.EXPIRED:
            return DeadlineExceeded(f"the deadline passed in the {self.name} queue")
        return Cancelled("the caller went away")

    def _run_batch(self, tickets: Sequence[Ticket[P, R]]) -> None:
        began = time.monotonic()
        self._is_running = True
        outcomes: Sequence[R | EngineError]
        try:
            outcomes = self._run([ticket.payload for ticket in tickets])
            assert len(outcomes) == len(tickets)
        except Exception as error:
            self.figures.failed_batches += 1
            outcomes = [self._failure(error, len(tickets))] * len(tickets)
        self._is_running = False
        self._batch_seconds = seconds = time.monotonic() - began
        self._count(tickets, seconds)
        self._deliver(
            [
                (
                    ticket,
                    out if isinstance(out, EngineError) else Done(out, began - ticket.enqueued, seconds, len(tickets)),
                )
                for ticket, out in zip(tickets, outcomes, strict=True)
            ]
        )

    def _failure(self, error: Exception, n_tickets: int) -> EngineError:
        """What is an error of ours says by itself what is wrong, and whether to try again."""
        if isinstance(error, EngineError):
            return error
        logger.exception("a batch of %d failed in the %s lane", n_tickets, self.name, exc_info=error)
        return self._on_failure(error)

    def _count(self, tickets: Sequence[Ticket[P, R]], seconds: float) -> None:
        self.figures.batches += 1
        self.figures.entries += len(tickets)
        self.figures.busy_seconds += seconds
        self.figures.cost_done += sum(ticket.cost for ticket in tickets)

    def _act_in_turn(self, actions: list[Callable[[], None]], tickets: Sequence[Ticket[P, R]] | None) -> None:
        """Until a batch that waits has waited long enough; the rest go on after it. All of them before the end."""
        end = time.monotonic() + max(_ACTION_SECONDS, _ACTION_SHARE * self._batch_seconds)
        for place, action in enumerate(actions):
            self._act(action)
            has_batch = bool(tickets) or (tickets is not None and bool(self._waiting))
            if has_batch and time.monotonic() >= end:
                with self._wake:
                    self._actions.extendleft(reversed(actions[place + 1 :]))
                return

    def _act(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception:
            logger.exception("an action failed in the %s lane", self.name)

    def _take_idle(self, step: _Step) -> None:
        """What a step has had is owed no more: a lane with idle moments enough has its batches wait for nothing."""
        began = time.monotonic()
        self._take(step)
        if step.share is not _none:
            owed = self._owed_seconds - (time.monotonic() - began)
            self._owed_seconds = max(owed, -_MOST_CREDIT_SECONDS)

    def _step_between(self) -> None:
        """The step that is due most, once as much is owed as it takes."""
        with self._wake:
            steps = tuple(self._steps)
        shares = [(self._share_of(step), step) for step in steps]
        share, step = max(shares, key=lambda one: one[0], default=(0.0, None))
        if step is None or share <= 0.0:
            self._owed_seconds = min(self._owed_seconds, 0.0)
            return
        share = min(share, _MOST_SHARE)
        self._owed_seconds += self._batch_seconds * share / (1 - share)
        while self._owed_seconds >= _STEP_SECONDS:
            with self._wake:
                self._steps.remove(step)
            began = time.monotonic()
            goes_on = self._take(step)
            self._owed_seconds -= max(time.monotonic() - began, _STEP_SECONDS)
            if not goes_on:
                return

    def _take(self, step: _Step) -> bool:
        """One call of a step, which is posted again where there is more of it."""
        try:
            goes_on = step.run()
        except Exception:
            logger.exception("background work failed in the %s lane", self.name)
            return False
        if goes_on:
            self._post_step(step)
        return goes_on

    def _share_of(self, step: _Step) -> float:
        try:
            return step.share()
        except Exception:
            logger.exception("background work failed in the %s lane", self.name)
            return 0.0

    def _deliver(self, outcomes: list[tuple[Ticket[P, R], Done[R] | EngineError]]) -> None:
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[Ticket[P, R], Done[R] | EngineError]]] = {}
        for ticket, outcome in outcomes:
            by_loop.setdefault(ticket.future.get_loop(), []).append((ticket, outcome))
        for loop, of_loop in by_loop.items():
            if not loop.is_closed():
                loop.call_soon_threadsafe(_settle, of_loop)


def _settle(outcomes: Sequence[tuple[Ticket[P, R], Done[R] | EngineError]]) -> None:
    for ticket, outcome in outcomes:
        if isinstance(outcome, EngineError):
            _fail(ticket.future, outcome)
        else:
            _succeed(ticket.future, outcome)


def _fail(future: asyncio.Future[T], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)


def _succeed(future: asyncio.Future[T], result: T) -> None:
    if not future.done():
        future.set_result(result)
