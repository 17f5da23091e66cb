"""Tests of the normalisation of labels, rule by rule and with arbitrary characters."""

import unicodedata

import ftfy
import pytest
from hostile_labels import LABELS
from hypothesis import assume, given

from platform.curation.labels.normalise import LONGEST, RULES, bare, difference, key, tidy

NEEDS = {
    "broken text": [("CafÃ© Nero", "Café Nero"), ("Voilà".encode().decode("latin-1"), "Voilà"), ("AT&amp;T", "AT&T")],
    "unseen characters": [("Co\u200bca Cola\u202c", "Coca Cola"), ("Coca\x00Cola", "Coca Cola")],
    "trademark signs": [("Coca-Cola®", "Coca-Cola"), ("Lidl ™", "Lidl"), ("Lidl(R)", "Lidl"),
                        ("Cafe\u0301 (TM)", "Cafe\u0301")],
    "Unicode form": [("ＣＯＣＡ", "COCA"), ("ﬁat", "fiat"), ("ｺｺｽﾄｱ", "ココストア")],  # noqa: RUF001
    "look-alike letters": [("Сoca-Cola", "Coca-Cola"), ("Тоуotа", "Toyota"), ("Mагнит", "Магнит"),  # noqa: RUF001
                           ("MТС", "МТС"), ("Са\u0301fe", "Ca\u0301fe")],  # noqa: RUF001
    "case": [("LIDL", "lidl"), ("Straße", "STRASSE")],
    "accents": [("Nestlé", "nestle"), ("Żabka", "zabka"), ("Пятёрочка", "пятерочка"), ("Tøj", "toj"), ("Ö", "o")],
    "filler words": [("Coca Cola logo", "coca cola"), ("логотип Кока-Кола", "Кока-Кола"), ("可口可乐标志", "可口可乐"),
                     ("logo of the BMW", "bmw"), ("BMW (logo)", "bmw"), ("coca_cola_logo", "coca_cola"),
                     ("BMW brand!", "bmw"), ("BMW.logo", "bmw")],
    "legal forms": [("Nestlé S.A.", "nestle"), ("ООО Ромашка", "Ромашка"), ("七十一株式会社", "七十一"),  # noqa: RUF001
                    ("Soriana S.A. de C.V.", "soriana"), ("Acme, Inc.", "acme")],
    "punctuation": [("Coca-Cola", "coca cola"), ("McDonald’s", "mcdonalds"), ("٣٦٥ بنك", "365 بنك")],  # noqa: RUF001
    "words for and": [("Marks & Spencer", "Marks and Spencer"), ("Fisch und Chips", "Fisch & Chips")],
    "articles": [("The North Face", "north face")],
    "blanks": [("cocacola", "coca cola")],
}  # fmt: skip


@pytest.mark.parametrize(("rule", "one", "other"), [(rule, *pair) for rule, pairs in NEEDS.items() for pair in pairs])
def test_each_rule_is_what_makes_two_labels_one(rule, one, other):
    assert key(one).replace(" ", "") == key(other).replace(" ", "")
    assert difference(one, other) == rule


def test_every_rule_is_tried():
    assert {rule.name for rule in RULES} == NEEDS.keys() - {"blanks"}


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("logo", "logo"),
        ("The", "the"),
        ("Logo brand", "logo"),
        ("corporation bank", "corporation bank"),
        ("C++", "c++"),
        ("A&W", "a&w"),
        ("Fish&not", "fish&not"),
        ("हिन्दी", "हिन्दी"),
        ("กุ้ง", "กุ้ง"),
        ("שָׁלוֹם", "שָׁלוֹם"),
        ("がぎぐ", "がぎぐ"),
        ("코카콜라", "코카콜라"),
        ("???", ""),
        ("\u200d", ""),
        ("&", ""),
        ("Сосна", "сосна"),
        ("Xбzкс", "xбzкс"),  # noqa: RUF001
        ("νike", "νike"),  # noqa: RUF001
        ("\u0304", ""),
        ("🍎", "🍎"),
    ],
)
def test_what_belongs_to_the_word_stays(label, words):
    assert key(label) == unicodedata.normalize("NFC", words)


def test_bare_is_without_brackets_unless_all_stands_in_them():
    assert bare("KFC (Việt Nam)") == "kfc"
    assert bare("麻布（東京）") == "麻布"  # noqa: RUF001
    assert bare("(KFC)") == "kfc"


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("  Coca\t Cola® ", "Coca Cola"),
        ("Cafe\u0301", "Café"),
        ("\u202eLidl\u202c", "Lidl"),
        ("👩\u200d🍳", "👩\u200d🍳"),
        ("ＡＢＣ", "ＡＢＣ"),  # noqa: RUF001
        ("\ud800", ""),
    ],
)
def test_a_tidy_label_can_be_a_class_name(label, name):
    assert tidy(label) == name


@given(LABELS)
def test_any_label_has_a_key_that_can_be_printed(label):
    for text in (key(label), tidy(label), bare(label)):
        text.encode()
        assert text == " ".join(text.split())
        assert not any(unicodedata.category(char) in ("Cc", "Cs") for char in text)


@given(LABELS)
def test_a_tidied_label_has_the_same_key(label):
    assume(all(ftfy.fix_encoding(text) == text for text in (label, tidy(label))))  # mended once, not until nothing is
    assert key(tidy(label)) == key(label)


@pytest.mark.parametrize("label", ["(" * 10**6, "&amp;" * 10**6, "logo " * 10**6, "e\u0301" * 10**6])
def test_a_label_is_cut_before_it_is_looked_at(label):
    assert len(key(label)) <= LONGEST
