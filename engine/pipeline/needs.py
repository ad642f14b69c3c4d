"""What a collection's index needs, judged by what it holds and by the settings. Knows nothing of when it is done."""

from __future__ import annotations

from engine.config import Settings
from engine.index.tuning import Setting
from engine.index.version_index import LEAST_FOLDED, Lists, VersionIndex
from engine.pipeline.planner import tail_way

_GROWTH_TO_RETRAIN = 2.0
"""Lists are trained anew when there are this many times the rows they were trained among."""
_GROWTH_TO_TUNE = 1.25
"""Lists are tuned again when there are this many times the rows they were tuned among (docs/log.md, 2026-11-27)."""
_TAIL_SHARE = 0.1
"""The tail is folded once scanning it costs this share of probing the lists."""
_CHANGED_SHARE = 0.1
"""Of the items, as changes since the last image: so much more would a start have to do."""
_K = 10
"""Hits of the searches that are reckoned with."""
_LEAST_DEAD_ROWS = 10_000
"""Fewer take too little to be worth the work."""


def needs_training(index: VersionIndex, settings: Settings) -> bool:
    lists = index.lists
    if lists is not None:
        has_grown = index.rows.n_alive >= _GROWTH_TO_RETRAIN * lists.live_rows
        return has_grown or _has_drifted(lists)
    least = settings.min_rows_to_train
    if least is None:
        least = index.least_rows_to_train
    return index.rows.n_alive >= least


def has_outgrown_tuning(index: VersionIndex) -> bool:
    """Whether recall may have become less than was measured, for there are so many more rows."""
    lists = index.lists
    if lists is None:
        return False
    tuned_among = lists.tuning.live_rows or lists.live_rows
    return 0 < _GROWTH_TO_TUNE * tuned_among <= index.rows.n_alive


def _has_drifted(lists: Lists) -> bool:
    """False where an old image does not tell."""
    drift = lists.drift
    return drift is not None and (drift.wants_training or drift.wants_other_lists(lists.ivfpq.sizes))


def needs_compaction(index: VersionIndex, settings: Settings) -> bool:
    dead = index.rows.n_rows - index.rows.n_alive
    return dead >= _LEAST_DEAD_ROWS and dead > settings.compact_dead_share * index.rows.n_rows


def needs_image(index: VersionIndex, settings: Settings) -> bool:
    """Where a start would have more to do again than it may; after a compaction that is all there ever was."""
    changes = index.sequence - index.image_sequence
    return changes > max(settings.row_image_changes, _CHANGED_SHARE * index.rows.n_items)


def needs_folding(index: VersionIndex, settings: Settings) -> bool:
    """Whether rows in no list cost enough to be folded at once."""
    if index.lists is None:
        return False
    setting = _usual_setting(index.lists, settings)
    return index.tail_rows >= LEAST_FOLDED and (
        setting is None or _scan_seconds(index, index.tail_rows) >= _TAIL_SHARE * setting.seconds_b1
    )


def tail_share(index: VersionIndex, settings: Settings) -> float:
    """Of the time of a search, the share that goes with the number of rows in no list; 0 where lists are of no use."""
    lists = index.lists  # once: the search lane may switch it meanwhile
    if lists is None or (setting := _usual_setting(lists, settings)) is None:
        return 0.0
    listed, n_rows = lists.ivfpq.n_rows, index.rows.n_rows
    seconds, _ = tail_way(
        _K,
        max(0, n_rows - listed),
        index.coarse.n_rows - listed,
        1.0,
        dimension=index.version.dimension,
        coarse=index.coarse.state,
        costs=index.costs,
    )
    seconds = max(0.0, seconds - _scan_seconds(index, 0))
    return seconds / (seconds + setting.seconds_b1)


def _usual_setting(lists: Lists, settings: Settings) -> Setting | None:
    """Of searches without a filter; None where lists are of no use to them."""
    return lists.tuning.lookup(_K, 1.0, settings.recall_target)


def _scan_seconds(index: VersionIndex, n_rows: int) -> float:
    return index.costs.scan_seconds(n_rows, n_rows, index.version.dimension)


def has_tail(index: VersionIndex) -> bool:
    """Whether rows are in no list that could be."""
    return index.lists is not None and index.tail_rows > 0


def needs_codes(index: VersionIndex, settings: Settings) -> bool:
    return settings.coarse_codes == "auto" and (index.wants_codes or _tail_needs_codes(index, settings))


def _tail_needs_codes(index: VersionIndex, settings: Settings) -> bool:
    """Whether rows with neither a list nor a code make searches twice as long. To code them takes a hundredth of what
    folding them takes.
    """
    lists = index.lists
    if lists is None or not index.coarse.n_rows or (setting := _usual_setting(lists, settings)) is None:
        return False
    rows = index.rows.n_rows - max(lists.ivfpq.n_rows, index.coarse.n_rows)
    return rows > 0 and _scan_seconds(index, rows) >= setting.seconds_b1


def needs_merge(index: VersionIndex) -> bool:
    """Whether postings lie in more segments than they should."""
    return index.lexical is not None and index.lexical.wants_merge
