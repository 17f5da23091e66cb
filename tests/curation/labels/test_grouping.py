"""Tests of grouping labels into classes, with questions, aliases and decisions."""

import random

import pytest
from hostile_labels import LABELS
from hypothesis import given
from hypothesis import strategies as st

from platform.curation.labels.grouping import (
    ALIAS,
    DECIDED,
    DROP,
    EMPTY,
    NAMED,
    OWN,
    SAYS_NOTHING,
    TOO_LONG,
    Settings,
    faults,
    group,
)

ONE = {"Coca Cola": 40, "coca-cola®": 9, "Кока-Кола": 5, "cocacola logo": 3, "koka kola": 2, "コカ・コーラ": 1}


def classes(*arguments, **options):
    return {verdict.label: verdict.cls for verdict in group(*arguments, **options)}


def verdict(label, *arguments, **options):
    (found,) = (verdict for verdict in group(*arguments, **options) if verdict.label == label)
    return found


def test_spellings_and_scripts_of_one_name_are_one_class():
    assert set(classes(ONE).values()) == {"Coca Cola"}


def test_each_label_has_its_reason():
    assert {v.label: (v.reason, v.score, v.matched) for v in group(ONE)} == {
        "Coca Cola": (OWN, None, ""),
        "coca-cola®": ("same but for punctuation", 1.0, "Coca Cola"),
        "Кока-Кола": ("another script", 0.95, "Coca Cola"),
        "cocacola logo": ("same but for blanks", 1.0, "Coca Cola"),
        "koka kola": ("sounds the same", 0.94, "Coca Cola"),
        "コカ・コーラ": ("another script", 0.95, "Coca Cola"),
    }


@pytest.mark.parametrize(
    ("counts", "name"),
    [
        ({"lidl": 3, "LIDL®": 7}, "LIDL"),
        ({"lidl": 3, "LIDL": 3, "Lidl": 3}, "Lidl"),
        ({"Lidl logo": 3, "Lidl": 3}, "Lidl"),
        ({"Лидль": 4, "Lidl": 3}, "Лидль"),
        ({"Cafe\u0301 Nero": 2, "cafe nero": 1}, "Café Nero"),
    ],
)
def test_a_class_is_named_by_its_most_frequent_label(counts, name):
    assert set(classes(counts).values()) == {name}


def test_what_is_less_like_is_asked_about_and_not_merged():
    found = verdict("axis", {"Axis Bank": 5, "axis": 2})
    assert (found.cls, found.suggestion, found.suggestion_score) == ("axis", "Axis Bank", 0.9)
    assert verdict("Axis Bank", {"Axis Bank": 5, "axis": 2}).suggestion == ""


def test_two_groups_about_equally_like_are_not_chosen_between():
    counts = {"Metromarket": 9, "Metromarked": 9, "Metromarke": 1}
    assert classes(counts)["Metromarke"] == "Metromarke"
    assert verdict("Metromarke", counts).suggestion in ("Metromarket", "Metromarked")


def test_small_differences_do_not_add_up():
    chain = ["supermercadoa", "supermercadoab", "supermercadoabc", "supermercadoabcd", "supermercadoabcde"]
    found = classes({label: 9 - place for place, label in enumerate(chain)}, settings=Settings(merge_at=0.9))
    assert found[chain[1]] == chain[0]
    assert found[chain[-1]] != chain[0]


@pytest.mark.parametrize(
    ("label", "cls", "reason"),
    [
        ("logo", "logo", SAYS_NOTHING),
        ("unknown brand", "unknown brand", SAYS_NOTHING),
        ("N/A", "N/A", SAYS_NOTHING),
        ("???", "???", SAYS_NOTHING),
        ("", None, EMPTY),
        ("\u200b\u202e", None, EMPTY),
        ("-", None, EMPTY),
        ("x" * 201, None, TOO_LONG),
    ],
)
def test_labels_that_say_nothing_are_merged_with_nothing_and_put_before_a_person(label, cls, reason):
    found = verdict(label, {label: 3, "brand": 1, "!!!": 1, "Lidl": 2, "y" * 201: 1})
    assert (found.cls, found.reason, found.suggestion) == (cls, reason, DROP)


def test_aliases_win_over_the_rules_and_are_compared_like_labels():
    aliases = {"Coke": "Coca-Cola", "lidl": "Lidl Stiftung"}
    found = classes({"COKE!": 1, "coca cola": 50, "Lidl": 9, "Лидл": 2}, aliases)
    assert found["COKE!"] == "Coca-Cola"
    assert found["coca cola"] == "Coca-Cola"
    assert found["Lidl"] == found["Лидл"] == "Lidl Stiftung"
    assert verdict("COKE!", {"COKE!": 1}, aliases)[2:5] == (ALIAS, 1.0, "Coke")


def test_a_decision_is_about_its_label_alone():
    counts = {"Bank Austria": 9, "bank austria": 4, "Bank-Austria": 2}
    found = classes(counts, decisions={"bank austria": "Another Bank"})
    assert found == {"Bank Austria": "Bank Austria", "bank austria": "Another Bank", "Bank-Austria": "Bank Austria"}


def test_the_group_goes_along_with_a_decision_about_its_head():
    found = classes(ONE, decisions={"Coca Cola": "Coke"})
    assert set(found.values()) == {"Coke"}
    assert verdict("Coca Cola", ONE, decisions={"Coca Cola": "Coke"}).reason == DECIDED


def test_a_dropped_label_drops_no_other():
    found = classes({"Lidl": 9, "lidl": 3, "LIDL": 1}, decisions={"Lidl": None})
    assert found == {"Lidl": None, "lidl": "lidl", "LIDL": "lidl"}


def test_what_reads_like_a_decided_class_is_of_it():
    found = verdict("coca cola", {"coke": 3, "coca cola": 9}, decisions={"coke": "Coca-Cola"})
    assert (found.cls, found.reason, found.matched) == ("Coca-Cola", NAMED, "Coca-Cola")


def test_no_question_about_what_is_decided():
    counts = {"Axis Bank": 5, "axis": 2}
    assert verdict("axis", counts, decisions={"axis": "axis"}).suggestion == ""
    assert verdict("Axis Bank", counts, decisions={"axis": "axis"}).suggestion == "axis"


def test_settings_are_checked():
    assert faults(Settings()) == []
    for settings in (Settings(merge_at=1.1), Settings(merge_at=0.5, ask_at=0.6), Settings(ask_at=0)):
        (fault,) = faults(settings)
        assert "--merge-at" in fault.rule


NAMES = st.sampled_from([*ONE, "Lidl", "LIDL", "Лидл", "logo", "???", "Axis Bank", "axis", "365 bank", "360 bank"])
COUNTS = st.dictionaries(st.one_of(NAMES, LABELS), st.integers(1, 5), max_size=12)
CLASSES = st.one_of(st.none(), st.sampled_from(["Coke", "coca cola", "Lidl", "Axis", "Other"]))


@given(COUNTS, st.randoms(use_true_random=False))
def test_the_order_of_the_labels_does_not_matter(counts, order):
    shuffled = [*counts.items()]
    order.shuffle(shuffled)
    assert group(dict(shuffled)) == group(counts)


@given(COUNTS)
def test_every_label_has_one_verdict_with_a_class_that_can_be_written(counts):
    verdicts = group(counts)
    assert sorted(v.label for v in verdicts) == sorted(counts)
    for found in verdicts:
        assert found.cls is None or (found.cls.encode() and found.cls == " ".join(found.cls.split()))
        assert found.cls is not None or found.suggestion == DROP
        assert found.score is None or 0 < found.score <= 1


@given(COUNTS, st.dictionaries(NAMES, CLASSES, max_size=6), st.dictionaries(NAMES, st.just("Lidl"), max_size=2))
def test_decisions_are_followed_exactly(counts, decisions, aliases):
    found = classes(counts, aliases, decisions)
    assert all(found[label] == cls for label, cls in decisions.items() if label in counts)


@given(COUNTS)
def test_deciding_all_as_it_is_changes_nothing(counts):
    before = classes(counts)
    assert classes(counts, decisions=before) == before


@given(COUNTS, st.dictionaries(NAMES, CLASSES, max_size=3))
def test_heads_stay_when_others_are_decided(counts, decisions):
    """Check labels that are neither equal to a decided class nor similar to a decided label."""
    decided = {label: cls for label, cls in decisions.items() if label in counts}
    before, after = classes(counts), classes(counts, decisions=decided)
    for found in group(counts):
        if found.reason == OWN and found.label not in decided:
            assert after[found.label] in {before[found.label], *filter(None, decided.values())}


@pytest.mark.timeout(60)  # 1 s on a free core; comparing each with each would take many minutes
def test_six_thousand_labels_are_grouped():
    draw = random.Random(0)
    syllables = ["ba", "co", "dri", "fe", "gul", "ka", "lo", "mi", "na", "ster", "tu", "via"]
    words = ["".join(draw.choices(syllables, k=3)) for _ in range(12_000)]
    labels = {f"{one} {other}": 1 for one, other in zip(words[::2], words[1::2], strict=True)}
    assert len(group(labels)) == len(labels)
