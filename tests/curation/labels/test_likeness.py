"""Tests of likeness: kind and score of the pairs that are merged, asked about, or neither."""

from itertools import permutations

import pytest

from platform.curation.labels.grouping import DEFAULT
from platform.curation.labels.likeness import SURE, Similarity, pairs
from platform.curation.labels.normalise import bare, heard, key, name

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def alike(*labels):
    """Return the likeness of the first two labels in the presence of the others; None if they are not alike."""
    return pairs([name(key(label), bare(label)) for label in labels], DEFAULT.ask_at).get((0, 1))


MERGED = [
    ("a common word moved", "Bank Mandiri", "Mandiri Bank"),
    ("plural", "Two Hands Corn Dog", "two hands corn dogs"),
    ("without the brackets", "Thai Express", "Thai Express (Singapore)"),
    ("traditional and simplified characters", "大家樂", "大家乐"),
    ("traditional and simplified characters", "滙豐銀行", "汇丰银行"),
    ("another script", "Coca-Cola", "Кока-Кола"),
    ("another script", "Coca-Cola", "コカ・コーラ"),
    ("another script", "Spar", "სპარ"),
    ("another script", "Gong Cha", "貢茶"),
    ("sounds the same", "Mövenpick", "Moevenpick"),
    ("sounds the same", "coca cola", "koka kola"),
    ("sounds the same", "Adidas", "Addidas"),
    ("one of its two scripts", "貢茶 Gong Cha", "貢茶"),
    ("typing error", "Kentucky Fried Chicken", "kentuckey fried chicken"),
    ("typing error", "Budweiser", "budweser"),
]
ASKED = [
    ("differs by common words", "Axis Bank", "axis"),
    ("begins alike", "Popeyes", "Popeyes Louisiana Kitchen"),
    ("initials", "Bank of New York", "BNY"),
    ("another word order", "boat house", "house boat"),
    ("plural of one word", "Amigo", "Amigos"),
    ("typing error", "skateboard", "skateboarder"),
    ("typing error", "horse", "hose"),
    ("typing error", "Microsoft", "Micr0soft"),
    ("typing error", "Kentucky Fried4U Chicken", "Kentucky Fried2U Chicken"),
    ("typing error", "Nike", "nikee"),
]
NOT = [
    ("365 bank", "360 bank"),
    ("Super 1 Foods", "Super 2 Foods"),
    ("公園", "公元"),
    ("Bank of East Texas", "Bank of West Texas"),
    ("First National Bank of East Texas", "First National Bank of West Texas"),
    ("North Carolina", "South Carolina"),
    ("BMW", "BMV"),
    ("JS Bank", "isbank"),
    ("mcb bank", "mkb bank"),
    ("KFC", "CFC"),
    ("杯子", "被子"),
    ("货车", "火车"),
    ("商店", "上点"),
    ("包子", "豹子"),
    ("Public Bank", "Republic Bank"),
    ("thread", "tread"),
    ("lamp", "ramp"),
]


@pytest.mark.parametrize(("reason", "one", "other"), MERGED)
def test_names_that_are_merged(reason, one, other):
    like = alike(one, other)
    assert like
    assert like.reason == reason
    assert like.score >= DEFAULT.merge_at


@pytest.mark.parametrize(("reason", "one", "other"), ASKED)
def test_names_that_are_asked_about(reason, one, other):
    like = alike(one, other)
    assert like
    assert like.reason == reason
    assert DEFAULT.ask_at <= like.score < DEFAULT.merge_at


@pytest.mark.parametrize(("one", "other"), NOT)
def test_names_that_are_not_alike(one, other):
    assert alike(one, other) is None


def test_brackets_count_where_there_are_several():
    qualified, other = "Equity Bank (Kenya)", "Equity Bank (USA)"
    assert alike("Equity Bank", qualified) == Similarity(SURE["without the brackets"], "without the brackets")
    assert alike("Equity Bank", qualified, other).score < DEFAULT.merge_at
    assert alike(qualified, other) is None


def test_both_halves_of_a_label_in_two_scripts_are_one_name():
    assert alike("Burger King", "漢堡王", "漢堡王 Burger King") == Similarity(
        SURE["both in one label"], "both in one label"
    )


@pytest.mark.parametrize(
    "others",
    [
        ["Кафе Ромашка", "Ромашка Shop"],  # nobody wrote the two together
        ["Алло MAX", "allo max"],  # two words of one name, not two names
        ["超市 Alpha", "超市 Omega"],  # the half goes with this and that
    ],
)
def test_two_scripts_in_a_label_are_not_always_two_names(others):
    halves = {"Алло MAX": ("Алло", "MAX"), "超市 Alpha": ("超市", "Alpha")}.get(others[0], ("Кафе", "Shop"))
    assert alike(*halves, *others) is None


def test_likeness_does_not_depend_on_the_order():
    labels = ("Coca Cola", "Кока-Кола", "cocacolla drink", "Coca Cola Zero")
    found = set()
    for order in permutations(labels):
        names = [name(key(label), bare(label)) for label in order]
        like = pairs(names, DEFAULT.ask_at)
        found.add(frozenset((frozenset((order[i], order[j])), how) for (i, j), how in like.items()))
    assert len(found) == 1


def test_the_pairs_of_very_many_like_names_are_few():
    names = [
        name(text, text) for text in (f"qwertyuiop{a}{b}{c}asdfgh" for a in LETTERS for b in LETTERS for c in "xyz")
    ]
    assert len(pairs(names, DEFAULT.ask_at)) <= 64 * len(names)


def test_sounds_are_written_one_way():
    assert heard("Кока-Кола") == heard("coca cola") == heard("コカ・コーラ")
    assert heard("Phở") == heard("fo")
