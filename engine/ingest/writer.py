"""The write path of a collection: validate, encode what changed, commit in groups, then apply to the index."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from engine.embeddings import joined
from engine.errors import EngineError, InvalidArgument, ItemNotFound, SequenceMismatch
from engine.ingest.columns import PreparedColumns
from engine.ingest.replies import Refusal, Written, decode_reply, encode_reply
from engine.ingest.texts import Reading, normalised, readings_of, text_hash
from engine.items import validate_id, validate_update
from engine.lanes.encode import EncodedText, EncodeLane
from engine.lanes.lane import Lane
from engine.lanes.turns import IDS_A_TURN, ITEMS_A_TURN, in_turns
from engine.models.protocol import Encoder
from engine.store import Change, CollectionStore, Conflict, DeleteOp, UpdateOp, UpsertOp, WriteOutcome, WriteRequest
from engine.types import Float32Array, Item, ItemId, ItemUpdate, Priority, Schema, Visibility


@dataclass(frozen=True, slots=True)
class Commit:
    """A write on its way through the commit lane."""

    writer: Writer
    request: WriteRequest


CommitLane = Lane[Commit, WriteOutcome]


def commit_batch(commits: Sequence[Commit]) -> list[WriteOutcome | EngineError]:
    """Commit writes of one collection as a group, then hand the changes on in the order of their sequence numbers."""
    writer = commits[0].writer
    outcomes = writer.store.commit([commit.request for commit in commits])
    for outcome in outcomes:
        writer.committed(outcome)
    return list(outcomes)


@dataclass(slots=True)
class _Draft:
    """A valid item on its way to an op."""

    place: int
    item: Item
    hash: bytes
    vectors: Float32Array | None = None
    is_encoded: bool = False


@dataclass(frozen=True, slots=True)
class PreparedItems:
    """Items of one request that are valid, and what was refused of it so far."""

    drafts: list[_Draft]
    refusals: list[Refusal]

    @property
    def n_items(self) -> int:
        return len(self.drafts) + len(self.refusals)


class Writer:
    """See the module. Methods run on the event loop; ``committed`` is called in the commit lane's thread.

    Args:
        validate: raises what is wrong with an item.
        committed: what to do with an outcome, in the order of commits.
        are_busy: whether others are, whom the items of a large request make way for.
    """

    def __init__(
        self,
        store: CollectionStore,
        encoder: Encoder | None,
        *,
        encode_lane: EncodeLane,
        commit_lane: CommitLane,
        validate: Callable[[Item, Schema], Item],
        committed: Callable[[WriteOutcome], None],
        are_busy: Callable[[], bool],
    ) -> None:
        self.store = store
        self.committed = committed
        self._are_busy = are_busy
        self._encoder = encoder
        self._encode_lane = encode_lane
        self._commit_lane = commit_lane
        self._validate = validate

    async def prepare(self, items: Iterable[Item | Refusal]) -> PreparedItems:
        """Read, check and hash the items of a request, which may be read only now, in turns with what else waits.

        So many that they are of one turn or fewer are done at once.
        """
        drafts = await in_turns(items, self._draft, a_turn=ITEMS_A_TURN, are_busy=self._are_busy)
        return PreparedItems(
            [one for one in drafts if isinstance(one, _Draft)], [one for one in drafts if isinstance(one, Refusal)]
        )

    async def upsert(
        self,
        prepared: PreparedItems,
        *,
        visibility: Visibility,
        request_id: str = "",
        priority: Priority = Priority.WRITE,
        deadline: float | None = None,
    ) -> Written:
        """Write items whole; those already refused, or refused here, are told and lose no others."""
        written = Written(refusals=prepared.refusals)
        drafts = prepared.drafts
        await self._encode(await self._changed(drafts), written, priority=priority, deadline=deadline)
        refused = {refusal.index for refusal in written.refusals}
        drafts = [draft for draft in drafts if draft.place not in refused]
        written.unchanged_texts = sum(draft.vectors is None for draft in drafts)
        return await self._commit_drafts(drafts, written, visibility, request_id, priority, deadline)

    async def upsert_columns(
        self,
        prepared: PreparedColumns,
        *,
        visibility: Visibility,
        request_id: str = "",
        deadline: float | None = None,
    ) -> Written:
        """Write items whole that need no encoder; calls reach the store in the order they were made."""
        written = Written(accepted=len(prepared.columns.items), refusals=[*prepared.refusals])
        durable, reply = visibility >= Visibility.DURABLE, encode_reply(written) if request_id else b""
        outcome = await self._commit(WriteRequest((), durable, request_id, reply, prepared.columns), deadline)
        if outcome.replayed:
            return _replayed(outcome, ())
        written.sequence = outcome.sequence
        return written

    async def check_updates(self, updates: Iterable[ItemUpdate | Refusal]) -> list[ItemUpdate | Refusal]:
        """In canonical form or refused, in turns as ``prepare``."""
        return await in_turns(updates, self._valid, a_turn=ITEMS_A_TURN, are_busy=self._are_busy)

    async def update(
        self,
        updates: Sequence[ItemUpdate | Refusal],
        *,
        visibility: Visibility,
        request_id: str = "",
        deadline: float | None = None,
    ) -> Written:
        """Set and clear attributes as ``check_updates`` has left them; nothing is encoded. One that is refused loses no
        others.
        """
        valid = [(place, one) for place, one in enumerate(updates) if isinstance(one, ItemUpdate)]
        written = Written(accepted=len(valid), refusals=[one for one in updates if isinstance(one, Refusal)])
        reply = encode_reply(written) if request_id else b""
        ops = [UpdateOp(own) for _, own in valid]
        request = WriteRequest(ops, visibility >= Visibility.DURABLE, request_id, reply)
        outcome = await self._commit(request, deadline)
        if outcome.replayed:
            return _replayed(outcome, [op.id for op in ops])
        written.sequence = outcome.sequence
        for one in outcome.conflicts:
            written.refuse(Refusal(valid[one.index][0], ops[one.index].id, _error_of(one, ops[one.index].id)))
        return written

    def _valid(self, place: int, update: ItemUpdate | Refusal) -> ItemUpdate | Refusal:
        if isinstance(update, Refusal):
            return update
        try:
            return validate_update(update, self.store.schema)
        except EngineError as error:
            return Refusal(place, update.id, error)

    async def delete(
        self, ids: Sequence[ItemId], *, visibility: Visibility, request_id: str = "", deadline: float | None = None
    ) -> Written:
        """Delete items; ids that do not exist are no error. Ids are read in turns as ``prepare`` reads items.

        Raises:
            InvalidArgument: an id that the collection cannot have; nothing is deleted.
        """
        ops = await in_turns(ids, self._deletion, a_turn=IDS_A_TURN, are_busy=self._are_busy)
        outcome = await self._commit(WriteRequest(ops, visibility >= Visibility.DURABLE, request_id), deadline)
        if outcome.reply:
            raise _other_kind("an upsert")
        return Written(sequence=outcome.sequence, deleted=outcome.deleted)

    def _deletion(self, place: int, item_id: ItemId) -> DeleteOp:
        validate_id(item_id, self.store.schema, f"ids[{place}]")
        return DeleteOp(item_id)

    async def delete_expired(self, by: int, *, limit: int) -> int:
        """Delete some of the items that have expired by then, microseconds since 1970; how many were found."""
        ids = await asyncio.to_thread(self.store.expired, by, limit=limit)
        if ids:
            await self._commit(WriteRequest([DeleteOp(one, expired_by=by) for one in ids]), None)
        return len(ids)

    def _draft(self, place: int, item: Item | Refusal) -> _Draft | Refusal:
        if isinstance(item, Refusal):
            return item
        schema = self.store.schema
        try:
            valid = self._validate(item, schema)
            readings = readings_of(valid, schema) if self._encoder is not None else []
            if valid.vector is None and not valid.named_vectors and not readings:
                raise InvalidArgument("text", "the item has neither text to encode nor vectors")
        except EngineError as error:
            return Refusal(place, item.id, error)
        draft = _Draft(place, valid, text_hash(valid, schema))
        if not readings:
            draft.vectors = self._stored({}, valid)
        return draft

    async def _changed(self, drafts: Sequence[_Draft]) -> list[_Draft]:
        """Those whose text is not the one stored."""
        textual = [draft for draft in drafts if draft.vectors is None]
        if not textual:
            return []
        ids = [draft.item.id for draft in textual]
        known = await asyncio.to_thread(self.store.text_hashes, ids)
        last: dict[ItemId, bytes] = dict(known)
        changed = []
        for draft in textual:
            if last.get(draft.item.id) != draft.hash:
                changed.append(draft)
            last[draft.item.id] = draft.hash
        return changed

    async def _encode(
        self, drafts: Sequence[_Draft], written: Written, *, priority: Priority, deadline: float | None
    ) -> None:
        if not drafts:
            return
        assert self._encoder is not None
        schema = self.store.schema
        readings = await in_turns(
            drafts, lambda _, draft: readings_of(draft.item, schema), a_turn=ITEMS_A_TURN, are_busy=self._are_busy
        )
        texts = [[text for one in of_item for text in one.texts] for of_item in readings]
        encoded = await self._encode_lane.encode(
            self._encoder,
            [text for of_item in texts for text in of_item],
            role="item",
            chunks=schema.chunk,
            priority=priority,
            deadline=deadline,
        )
        rest = iter(encoded)

        def take(place: int, draft: _Draft) -> None:
            self._take(draft, readings[place], [*itertools.islice(rest, len(texts[place]))], written)

        await in_turns(drafts, take, a_turn=ITEMS_A_TURN, are_busy=self._are_busy)

    def _take(
        self,
        draft: _Draft,
        readings: Sequence[Reading],
        encoded: Sequence[EncodedText | EngineError],
        written: Written,
    ) -> None:
        """The item's vectors from its texts' outcomes, or its refusal."""
        failed = next((one for one in encoded if isinstance(one, EngineError)), None)
        if failed is not None:
            written.refusals.append(Refusal(draft.place, draft.item.id, failed))
            return
        texts = [one for one in encoded if isinstance(one, EncodedText)]
        rest = iter(texts)
        vectors = {one.name: _mean([next(rest).vectors for _ in one.texts], one.weights) for one in readings}
        draft.vectors = self._stored(vectors, draft.item)
        truncated = sum(text.truncated_tokens for text in texts)
        written.truncated_tokens += truncated
        written.truncated_items += truncated > 0

    def _stored(self, encoded: Mapping[str, Float32Array], item: Item) -> Float32Array:
        """The rows to be stored, float32 [rows, d], of what was encoded, by name, and what the item brings."""
        schema = self.store.schema

        def comparable(vectors: Float32Array) -> Float32Array:
            return normalised(vectors) if schema.metric == "cosine" else vectors

        if schema.embeddings:
            return joined({name: comparable(one) for name, one in {**encoded, **item.named_vectors}.items()}, schema)
        return comparable(encoded[""] if item.vector is None else item.vector.reshape(-1, item.vector.shape[-1]))

    async def _commit_drafts(
        self,
        drafts: Sequence[_Draft],
        written: Written,
        visibility: Visibility,
        request_id: str,
        priority: Priority,
        deadline: float | None,
    ) -> Written:
        """Commit; items whose stored text changed since it was compared are encoded and committed in a second round.

        Beside a stale item everything for the same id goes again, so that the last of them still wins. A request id
        seen before is answered as it was then, for nothing of this request was applied.
        """
        durable, n_items = visibility >= Visibility.DURABLE, len(drafts) + len(written.refusals)
        while True:
            written.accepted = n_items - len(written.refusals)
            written.refusals.sort(key=lambda refusal: refusal.index)
            ops = [UpsertOp(draft.item, draft.hash, draft.vectors) for draft in drafts]
            reply = encode_reply(written) if request_id else b""
            outcome = await self._commit(WriteRequest(ops, durable, request_id, reply), deadline)
            if outcome.replayed:
                return _replayed(outcome, [draft.item.id for draft in drafts])
            written.sequence = max(written.sequence, outcome.sequence)
            for one in outcome.conflicts:
                written.refuse(Refusal(drafts[one.index].place, ops[one.index].id, _error_of(one, ops[one.index].id)))
            if not outcome.stale:
                return written
            stale = [drafts[place] for place in outcome.stale]
            await self._encode(stale, written, priority=priority, deadline=deadline)
            refused = {refusal.index for refusal in written.refusals}
            ids = {draft.item.id for draft in stale}
            again = drafts if request_id else [draft for draft in drafts if draft.item.id in ids]
            _expect(again, {change.id: change.sequence for change in outcome.changes if isinstance(change, Change)})
            drafts = [draft for draft in again if draft.place not in refused]

    async def _commit(self, request: WriteRequest, deadline: float | None) -> WriteOutcome:
        """In the commit lane; a caller that leaves before its group forms writes nothing."""
        done = await self._commit_lane.submit(
            Commit(self, request), group=id(self.store), cost=max(1, request.n_items), deadline=deadline
        )
        return done.result


def _mean(vectors: Sequence[Float32Array], weights: Float32Array) -> Float32Array:
    """The weighted mean of several embeddings [1, d]; one alone may be of many chunks and stays as it is."""
    if len(vectors) == 1:
        return vectors[0]
    total: Float32Array = sum(w * one for w, one in zip(weights, vectors, strict=True)) / weights.sum()
    return total


def _expect(drafts: Sequence[_Draft], written: Mapping[ItemId, int]) -> None:
    """An item that was written in the first round already is wanted as that has left it."""
    for draft in drafts:
        if draft.item.if_sequence is not None and draft.item.id in written:
            draft.item = replace(draft.item, if_sequence=written[draft.item.id])


def _replayed(outcome: WriteOutcome, ids: Sequence[ItemId]) -> Written:
    """What the request was answered; ``ids`` of its operations."""
    if not outcome.reply:
        raise _other_kind("a delete")
    written = decode_reply(outcome.reply, sequence=outcome.sequence)
    refused = {refusal.index for refusal in written.refusals}
    places = [place for place in range(written.accepted + len(refused)) if place not in refused]
    for one in outcome.conflicts:
        item_id = ids[one.index] if one.index < len(ids) else ""
        written.refuse(Refusal(places[one.index], item_id, _error_of(one, item_id)))
    return written


def _error_of(conflict: Conflict, item_id: ItemId) -> EngineError:
    if conflict.wanted is None:
        return ItemNotFound(item_id)
    return SequenceMismatch(item_id, wanted=conflict.wanted, found=conflict.found)


def _other_kind(of: str) -> InvalidArgument:
    return InvalidArgument("request_id", f"is that of {of}: a retry repeats the request it belongs to")
