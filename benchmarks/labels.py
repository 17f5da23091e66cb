"""How well labels are grouped without an alias table, on pairs of names that people know to be the same.

python -m benchmarks.labels brand_aliases.tsv                  # the figures, as in RESULTS.md; about a minute
python -m benchmarks.labels brand_aliases.tsv --wrong 50       # of the wrong pairs, so many drawn, to be read
python -m benchmarks.labels brand_aliases.tsv --names zh.tsv   # what is merged of ManyNames' everyday words

The first file: columns id, canonical, alias, alias_kind, wikidata, a line for each name of a brand beside its first
(made from the Name Suggestion Index). All distinct names are grouped as if a crowd had typed each of them once.

Truth. An item is a wikidata number, else an id, and lists the names of its lines. Two names belong together if some item
lists both. Which item somebody meant who typed "hofer" no text tells: so an item is held to list what differs from a
name of its own in case, accents, blanks and punctuation only. Stricter readings are reported beside it. Items that
share a name are on one side, when the items are parted in a half to develop on and one to report on.
"""

import argparse
import ast
import csv
import hashlib
import random
import time
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from platform.curation.grouping import DEFAULT, DROP, Settings, Verdict, group
from platform.curation.likeness import SPELLING, SURE
from platform.curation.names import name
from platform.curation.normalise import RULES, bare, key

Pair = tuple[str, str]

_ASKED_ONLY = [kind for kind, sure in SURE.items() if sure < DEFAULT.merge_at]  # kinds of likeness never merged on
_MERGE_AT = (0.97, 0.95, 0.92, 0.9, 0.86, 0.82)
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Row:
    """A line of the file."""

    item: str
    canonical: str
    alias: str
    kind: str


class Truth:
    """Which names belong together.

    Attributes:
        names: All, sorted.
        items: That list each name.
        pairs: Of names that some item lists both, each sorted.
    """

    def __init__(self, rows: Iterable[Row], same: Callable[[str], str]) -> None:
        listed: dict[str, set[str]] = defaultdict(set)
        self.names = sorted({label for row in rows for label in (row.canonical, row.alias)})
        for row in rows:
            for label in (row.canonical, row.alias):
                listed[same(label)].add(row.item)
        self.items = {label: frozenset(listed[same(label)]) for label in self.names}
        of_item: dict[str, list[str]] = defaultdict(list)
        for label in self.names:
            for item in self.items[label]:
                of_item[item].append(label)
        self.pairs = {pair for names in of_item.values() for pair in combinations(names, 2)}

    def joins(self, one: str, other: str) -> bool:
        """Whether they belong together."""
        return bool(self.items[one] & self.items[other])


def in_letters(name: str) -> str:
    """A name without what is taken for the same text: case, width, accents, blanks, punctuation."""
    text = unicodedata.normalize("NFD", unicodedata.normalize("NFKC", name).casefold())
    text = unicodedata.normalize("NFC", "".join(char for char in text if not "\u0300" <= char <= "\u036f"))
    return "".join(char for char in text if unicodedata.category(char)[0] in "LMN") or name


def in_lower_case(name: str) -> str:
    """A name without its case."""
    return unicodedata.normalize("NFC", name).casefold()


def read(file: Path) -> list[Row]:
    """The lines of the file."""
    with file.open(encoding="utf-8", newline="") as stream:
        lines = csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [
            Row(line["wikidata"] or line["id"], line["canonical"], line["alias"], line["alias_kind"]) for line in lines
        ]


def halves(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows of a half to develop on and of one to report on; items that share a name are on one side."""
    first: dict[str, str] = {row.item: row.item for row in rows}

    def root(item: str) -> str:
        while first[item] != item:
            item = first[item]
        return item

    listed: dict[str, str] = {}
    for row in rows:
        for label in (row.canonical, row.alias):
            one, other = sorted((root(row.item), root(listed.setdefault(in_letters(label), row.item))))
            first[other] = one
    sides: dict[str, list[Row]] = {"developed on": [], "held out": []}
    for row in rows:
        drawn = int(hashlib.sha256(root(row.item).encode()).hexdigest(), 16) % 2
        sides["held out" if drawn else "developed on"].append(row)
    return sides


@dataclass(frozen=True)
class Result:
    """What grouping did, and how long it took in seconds."""

    verdicts: list[Verdict]
    seconds: float

    def classes(self) -> dict[str, list[str]]:
        """Labels by class."""
        classes: dict[str, list[str]] = defaultdict(list)
        for verdict in self.verdicts:
            classes[verdict.cls or f"without class: {verdict.label}"].append(verdict.label)
        return classes

    def pairs(self) -> set[Pair]:
        """Labels of one class."""
        return _pairs(self.classes().values())

    def asked(self) -> list[Verdict]:
        """Verdicts that ask a person whether two classes are one."""
        return [verdict for verdict in self.verdicts if verdict.suggestion not in ("", DROP)]


def run(names: Iterable[str], settings: Settings = DEFAULT, rules: Sequence = RULES) -> Result:
    """Groups names, each used once."""
    counts = dict.fromkeys(names, 1)
    start = time.perf_counter()
    return Result(group(counts, settings=settings, rules=rules), time.perf_counter() - start)


def right_answers(result: Result, truth: Truth) -> list[Pair]:
    """The questions to which a person who knows the truth says yes, as (class, suggested class).

    Yes, if the label that is asked about belongs together with the most frequent one of the suggested class.
    """
    classes = result.classes()
    head = {cls: next((v for v in labels if v == cls), labels[0]) for cls, labels in classes.items()}
    return [(v.cls or "", v.suggestion) for v in result.asked() if truth.joins(v.label, head[v.suggestion])]


def answered(result: Result, truth: Truth) -> set[Pair]:
    """The pairs once the questions are answered: classes joined where the answer is yes."""
    classes = {cls: [*labels] for cls, labels in result.classes().items()}
    now = {cls: cls for cls in classes}
    for cls, into in right_answers(result, truth):
        while now[into] != into:
            into = now[into]
        if into != cls:
            classes[into] += classes.pop(cls)
            now[cls] = into
    return _pairs(classes.values())


def _pairs(groups: Iterable[Collection[str]]) -> set[Pair]:
    return {pair for labels in groups for pair in combinations(sorted(labels), 2)}


def share(part: Collection, whole: Collection) -> float:
    """What share of a whole its part is; 1 of nothing."""
    return len(part) / len(whole) if whole else 1.0


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Prints a table in Markdown."""
    print(f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}")
    for row in rows:
        print(f"| {' | '.join(f'{cell:.3f}' if isinstance(cell, float) else str(cell) for cell in row)} |")
    print()


def quality(sides: Mapping[str, Sequence[Row]]) -> None:
    """Precision and recall on each side, by three readings of the truth, and the questions."""
    quality, questions = [], []
    for side, rows in sides.items():
        truth, lower, exact = (Truth(rows, same) for same in (in_letters, in_lower_case, str))
        result = run(truth.names)
        merged = result.pairs()
        one_item = {pair for pair in merged if all(len(truth.items[name]) == 1 for name in pair)}
        strict = [share(merged & other.pairs, merged) for other in (lower, exact)]
        quality.append(
            (side, len(truth.names), len(result.classes()), len(truth.pairs), len(merged))
            + (share(merged & truth.pairs, merged), share(merged & truth.pairs, truth.pairs))
            + (share(one_item & truth.pairs, one_item), *strict, f"{result.seconds:.1f}")
        )
        right, then = right_answers(result, truth), answered(result, truth)
        questions.append(
            (side, len(result.asked()), share(right, result.asked()))
            + (share(then & truth.pairs, then), share(then & truth.pairs, truth.pairs))
        )
    columns = ["names", "", "classes", "true pairs", "merged pairs", "precision", "recall"]
    columns[0], columns[1] = "half", "names"
    table([*columns, "precision, names of one item", "lists by case only", "letter for letter", "seconds"], quality)
    table(["half", "asked", "of them the same", "precision, once answered", "recall, once answered"], questions)


def contributions(truth: Truth) -> None:
    """Each rule and each kind of likeness: added one after the other, and left out alone."""
    kinds = [kind for kind in SURE if kind not in (SPELLING, *_ASKED_ONLY)]
    ladder = [("letters as they are, without blanks", RULES[:0], kinds)]
    ladder += [(f"+ {rule.name}", RULES[: end + 1], kinds) for end, rule in enumerate(RULES)]
    ladder += [(f"+ {kind}", RULES, kinds[end + 1 :]) for end, kind in enumerate(kinds)]
    alone = {f"+ {rule.name}": ([r for r in RULES if r != rule], ()) for rule in RULES}
    alone |= {f"+ {kind}": (RULES, (kind,)) for kind in kinds}
    rows, before = [], (0, 0)
    whole = _counts(run(truth.names), truth)
    for title, rules, without in ladder:
        now = _counts(run(truth.names, Settings(without=(*without, *_ASKED_ONLY)), rules), truth)
        row = [title, *(f"{new - old:+d}" for new, old in zip(now, before, strict=True))]
        row += [now[0] / max(sum(now), 1), now[0] / len(truth.pairs)]
        if title in alone:
            left, less = alone[title]
            without_it = _counts(run(truth.names, Settings(without=less), left), truth)
            row += [f"{new - old:+d}" for new, old in zip(without_it, whole, strict=True)]
        rows.append([*row, "", ""][:7])
        before = now
    columns = ["added", "right pairs", "wrong pairs", "precision", "recall", "left out alone: right", "wrong"]
    table(columns, rows)


def _counts(result: Result, truth: Truth) -> tuple[int, int]:
    merged = result.pairs()
    return len(merged & truth.pairs), len(merged - truth.pairs)


def thresholds(truth: Truth) -> None:
    """What other scores to merge at would do."""
    rows = []
    for merge_at in _MERGE_AT:
        result = run(truth.names, Settings(merge_at=merge_at))
        merged = result.pairs()
        right = right_answers(result, truth)
        rows.append(
            (
                f"{merge_at:g}",
                len(merged),
                share(merged & truth.pairs, merged),
                share(merged & truth.pairs, truth.pairs),
            )
            + (len(result.asked()), share(right, result.asked()))
        )
    table(["--merge-at", "merged pairs", "precision", "recall", "asked", "of them the same"], rows)


def missed(rows: Sequence[Row], truth: Truth) -> None:
    """What the pairs are that were not merged: by how the two names differ, and by the kind of the alias."""
    result = run(truth.names)
    merged, then = result.pairs(), answered(result, truth)
    by_look: dict[str, list[Pair]] = defaultdict(list)
    for pair in sorted(truth.pairs):
        by_look[_look(*pair)].append(pair)
    _shares("how the two names differ", by_look, merged, then)
    by_kind: dict[str, list[Pair]] = defaultdict(list)
    listed = {(min(row.canonical, row.alias), max(row.canonical, row.alias)): row.kind.split(":")[0] for row in rows}
    for pair in sorted(truth.pairs):
        by_kind[listed.get(pair, "two aliases of one item")].append(pair)
    _shares("alias_kind", by_kind, merged, then)


def _shares(title: str, groups: Mapping[str, Sequence[Pair]], merged: set[Pair], then: set[Pair]) -> None:
    lost = sum(pair not in merged for pairs in groups.values() for pair in pairs)
    rows = [
        (what, len(pairs), share(set(pairs) & merged, pairs), share(set(pairs) & then, pairs))
        + (sum(pair not in merged for pair in pairs) / lost,)
        for what, pairs in sorted(groups.items(), key=lambda item: -len(item[1]))
    ]
    table([title, "true pairs", "merged", "merged once answered", "share of the missed"], rows)


def _look(one: str, other: str) -> str:
    """How two names differ, roughly."""
    a, b = (name(key(label), bare(label)) for label in (one, other))
    fewer, more = sorted((set(a.words), set(b.words)), key=len)
    shorter, longer = sorted((a, b), key=lambda n: len(n.letters))
    if fewer <= more:
        return "further words" if len(a.scripts | b.scripts) == 1 else "further words, of another script too"
    if not a.scripts & b.scripts:
        return "another script"
    if len(a.scripts | b.scripts) > 1:
        return "partly another script"
    initials = "".join(word[0] for word in longer.words)
    if len(shorter.words) == 1 and 1 < len(shorter.letters) < 7 and set(shorter.letters) <= set(initials):
        return "initials, or nearly"
    if "CJK" in a.scripts:
        return "other Chinese or Japanese characters"
    return "some words the same" if fewer & more else "no word the same"


def mistyped(truth: Truth, seed: int = 0) -> None:
    """One letter of a name put in, left out, exchanged or swapped: whether it comes back to the name."""
    draw = random.Random(seed)
    words = [name for name in truth.names if name.isascii() and len(key(name).replace(" ", "")) >= 4]
    rows = []
    wrong = {_mistype(name, draw): name for name in draw.sample(words, len(words) // 3)}
    wrong = {typed: name for typed, name in wrong.items() if typed not in truth.items}
    result = Result(group(dict.fromkeys(truth.names, 2) | dict.fromkeys(wrong, 1)), 0)
    verdict = {v.label: v for v in result.verdicts}
    for title, lengths in (("4 to 7", range(4, 8)), ("8 to 11", range(8, 12)), ("12 and more", range(12, 999))):
        typed = [t for t, name in wrong.items() if len(key(name).replace(" ", "")) in lengths]
        merged = [t for t in typed if verdict[t].cls == verdict[wrong[t]].cls]
        asked = [t for t in typed if verdict[t].suggestion == verdict[wrong[t]].cls]
        own = {verdict[t].cls for t in typed} and [t for t in typed if verdict[t].cls == verdict[t].label]
        elsewhere = [t for t in typed if t not in merged and t not in own]
        rows.append((title, len(typed), *(share(part, typed) for part in (merged, asked, elsewhere))))
    table(["letters", "mistyped names", "back in their class", "asked about it", "in another class"], rows)


def _mistype(text: str, draw: random.Random) -> str:
    place = draw.choice([i for i, char in enumerate(text) if char.isalpha() and i])
    letter, kind = draw.choice(_LETTERS), draw.randrange(4)
    if kind == 0:
        return text[:place] + letter + text[place:]
    if kind == 1:
        return text[:place] + text[place + 1 :]
    if kind == 2:
        return text[:place] + letter + text[place + 1 :]
    return text[: place - 1] + text[place] + text[place - 1] + text[place + 1 :]


def wrong_pairs(truth: Truth, number: int) -> None:
    """Some of the pairs that were merged and that no item lists, with the reasons."""
    result = run(truth.names)
    reason = {verdict.label: verdict.reason for verdict in result.verdicts}
    wrong = sorted(result.pairs() - truth.pairs)
    print(f"{len(wrong)} wrong pairs; drawn from them:")
    for one, other in sorted(random.Random(0).sample(wrong, min(number, len(wrong)))):
        print(f"  {one!r} ({reason[one]}) | {other!r} ({reason[other]})")


def everyday_words(file: Path) -> None:
    """What is merged of the answers in ManyNames, and of the English names beside them: hardly anything should be."""
    answers: Counter[str] = Counter()
    english: Counter[str] = Counter()
    with file.open(encoding="utf-8", newline="") as stream:
        for line in csv.DictReader(stream, delimiter="\t"):
            answers.update(ast.literal_eval(line["responses"]))
            english[line["vg_obj_name"]] += 1
    for title, counts in (("Chinese", answers), ("English", english)):
        result = Result(group(counts), 0)
        asked = result.asked()
        merged = [v for v in result.verdicts if v.matched]
        print(f"{title}: {len(counts)} names, {len(merged)} merged, {len(asked)} asked")
        for verdict in merged:
            print(f"  {verdict.label} → {verdict.matched} ({verdict.reason}, {verdict.score})")


def _parts(rows: Sequence[Row]) -> Iterator[tuple[str, Sequence[Row]]]:
    yield from halves(rows).items()
    yield "all", rows


def main() -> None:
    """Prints the figures."""
    p = argparse.ArgumentParser(
        prog="python -m benchmarks.labels", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("file", type=Path, help="brand_aliases.tsv")
    p.add_argument("--wrong", type=int, metavar="N", help="only draw so many of the wrong pairs, and print them")
    p.add_argument(
        "--names", type=Path, metavar="TSV", help="only group ManyNames' everyday words, and print what merged"
    )
    p.add_argument("--half", action="store_true", help="only the half that rules and scores may be developed on")
    options = p.parse_args()
    rows = read(options.file)
    rows = halves(rows)["developed on"] if options.half else rows
    truth = Truth(rows, in_letters)
    if options.names:
        return everyday_words(options.names)
    if options.wrong:
        return wrong_pairs(truth, options.wrong)
    quality({"developed on": rows} if options.half else dict(_parts(rows)))
    thresholds(truth)
    contributions(truth)
    missed(rows, truth)
    mistyped(truth)


if __name__ == "__main__":
    main()
