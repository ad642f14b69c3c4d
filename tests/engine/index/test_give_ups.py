from __future__ import annotations

from engine.index.give_ups import GiveUps


def test_queries_are_spared_lists_once_most_like_them_gave_up_but_for_a_try_now_and_then() -> None:
    tallies = GiveUps()
    assert not tallies.are_likely("strong")
    tallies.note("strong", asked=4, gave_up=4)
    assert not tallies.are_likely("strong"), "too few to tell"
    tallies.note("strong", asked=4, gave_up=3)
    assert [tallies.are_likely("strong") for _ in range(128)].count(False) == 2
    assert not tallies.are_likely("weak")


def test_what_was_long_ago_fades() -> None:
    tallies = GiveUps()
    tallies.note("kind", asked=200, gave_up=200)
    assert tallies.are_likely("kind")
    for _ in range(4):
        tallies.note("kind", asked=100, gave_up=0)
    assert not tallies.are_likely("kind")


def test_kinds_that_were_not_met_for_long_are_forgotten() -> None:
    tallies = GiveUps()
    tallies.note(0, asked=10, gave_up=10)
    for kind in range(1, 1100):
        tallies.note(kind, asked=1, gave_up=0)
    assert not tallies.are_likely(0)
