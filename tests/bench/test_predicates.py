from __future__ import annotations

import numpy as np

from bench.predicates import AnyOf, Attributes, IntRange, Predicate, keyword_lists, single_keywords
from engine.types import AttributeType

LISTS = [("java", "sql"), ("sales",), (), ("sql", "sales")]


def _attributes() -> Attributes:
    colours = single_keywords(("black", "white"), np.array([0, 1, 1, 0], np.int32))
    return Attributes({"shuffled": np.array([2, 0, 3, 1])}, {"colour": colours, "skill": keyword_lists(LISTS)})


def test_a_mask_is_what_a_plain_loop_finds() -> None:
    predicate = Predicate((IntRange("shuffled", 1, 4),), (AnyOf("skill", ("sql", "sales")),))
    plain = [
        1 <= value < 4 and bool({"sql", "sales"} & set(own)) for value, own in zip([2, 0, 3, 1], LISTS, strict=True)
    ]
    assert predicate.mask(_attributes()).tolist() == plain == [True, False, False, True]


def test_an_empty_predicate_passes_all_and_asks_for_nothing() -> None:
    assert Predicate().mask(_attributes()).all()
    assert Predicate().filter().is_empty()


def test_items_carry_the_attributes_of_their_row() -> None:
    attributes = _attributes()
    told = {name: column.as_values() for name, column in attributes.of_rows(1, 3).items()}
    assert told == {"shuffled": [0, 3], "colour": ["white", "white"], "skill": [("sales",), ()]}
    kinds = {spec.name: spec.type for spec in attributes.specs()}
    assert kinds == {
        "shuffled": AttributeType.INT,
        "colour": AttributeType.KEYWORD,
        "skill": AttributeType.KEYWORD_LIST,
    }


def test_variations_are_all_different_and_a_range_keeps_its_width() -> None:
    ranged, named = Predicate((IntRange("shuffled", 0, 2),)), Predicate(keywords=(AnyOf("colour", ("black",)),))
    for predicate in (ranged, named):
        varied = {repr(predicate.varied(number, everywhere="shuffled")) for number in range(4)}
        assert len(varied) == 4
    assert ranged.varied(1, everywhere="shuffled").mask(_attributes()).sum() == 2
    assert named.varied(1, everywhere="shuffled").mask(_attributes()).tolist() == [True, False, False, True]
