"""Precision and recall of grouping labels without an alias table, on names that people listed as the same.

python -m benchmarks.labels brand_aliases.tsv                  # the figures, as in RESULTS.md; about a minute
python -m benchmarks.labels brand_aliases.tsv --wrong 50       # of the wrong pairs, so many drawn, to be read
python -m benchmarks.labels brand_aliases.tsv --names zh.tsv   # what is merged of ManyNames' everyday words

The first file: columns id, canonical, alias, alias_kind, wikidata; a line for each name of a brand beside its first
(made from the Name Suggestion Index). All distinct names are grouped as if each had been typed once. What counts as
right: `benchmarks.label_truth`. Precision and recall are those of pairs: in one class, belonging together.
"""

import argparse
import ast
import csv
import random
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

from benchmarks.label_truth import DEVELOPED, Pair, Row, Truth, halves, in_letters, in_lower_case, read
from platform.curation.labels import normalise
from platform.curation.labels.grouping import DEFAULT, DROP, LabelDecision, Settings, group
from platform.curation.labels.likeness import SPELLING, SURE
from platform.curation.labels.normalise import RULES, Rule, bare, key, name

MERGE_AT = (0.97, 0.95, 0.92, 0.9, 0.86, 0.82)
MERGED_ON = [kind for kind, sure in SURE.items() if sure >= DEFAULT.merge_at and kind != SPELLING]
ASKED_ON = [kind for kind, sure in SURE.items() if sure < DEFAULT.merge_at]


class Grouped(NamedTuple):
    """Verdicts, and the seconds that they took."""

    verdicts: list[LabelDecision]
    seconds: float

    def classes(self) -> dict[str, list[str]]:
        """Return labels by class, first the one that names it."""
        classes: dict[str, list[str]] = defaultdict(list)
        for verdict in sorted(self.verdicts, key=lambda verdict: bool(verdict.matched)):
            classes[verdict.cls or f"none: {verdict.label}"].append(verdict.label)
        return classes

    def pairs(self) -> set[Pair]:
        """Return the pairs of labels in one class."""
        return _pairs(self.classes().values())

    def questions(self) -> list[LabelDecision]:
        """Return the verdicts that ask whether two classes are the same."""
        return [verdict for verdict in self.verdicts if verdict.suggestion not in ("", DROP)]

    def yes(self, truth: Truth) -> list[LabelDecision]:
        """Return the questions whose label and suggested class belong together."""
        classes = self.classes()
        return [v for v in self.questions() if truth.joins(v.label, classes[v.suggestion][0])]

    def answered(self, truth: Truth) -> set[Pair]:
        """Return the pairs after the questions are answered by the truth."""
        classes, now = self.classes(), {cls: cls for cls in self.classes()}
        for verdict in self.yes(truth):
            cls, into = verdict.cls or "", verdict.suggestion
            while now[into] != into:
                into = now[into]
            if into != cls:
                classes[into] += classes.pop(cls)
                now[cls] = into
        return _pairs(classes.values())


def run(names: Iterable[str], settings: Settings = DEFAULT) -> Grouped:
    """Group names, each used once."""
    counts = dict.fromkeys(names, 1)
    start = time.perf_counter()
    return Grouped(group(counts, settings=settings), time.perf_counter() - start)


def _pairs(groups: Iterable[Collection[str]]) -> set[Pair]:
    return {pair for labels in groups for pair in combinations(sorted(labels), 2)}


def share(part: Collection, whole: Collection) -> float:
    """Return the share of a part in the whole; 1 for an empty whole."""
    return len(part) / len(whole) if whole else 1.0


def precision_recall(pairs: set[Pair], truth: Truth) -> tuple[float, float]:
    """Return precision and recall of these pairs."""
    right = pairs & truth.pairs
    return share(right, pairs), share(right, truth.pairs)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table in Markdown."""
    print(f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}")
    for row in rows:
        print(f"| {' | '.join(f'{cell:.3f}' if isinstance(cell, float) else str(cell) for cell in row)} |")
    print()


def quality(sides: Mapping[str, Sequence[Row]]) -> None:
    """Print precision and recall of each half, for several readings of the truth, and the questions."""
    scores, readings, questions = [], [], []
    for side, rows in sides.items():
        truth, lower, exact = (Truth(rows, same) for same in (in_letters, in_lower_case, str))
        result = run(truth.names)
        merged, classes = result.pairs(), len(result.classes())
        precision, recall = precision_recall(merged, truth)
        listed = {(min(r.canonical, r.alias), max(r.canonical, r.alias)) for r in rows if r.canonical != r.alias}
        sizes = (len(truth.names), classes, len(truth.pairs), len(merged))
        of_lines = share(listed & merged, listed)
        scores.append((side, *sizes, precision, recall, len(listed), of_lines, f"{result.seconds:.1f}"))
        single = {pair for pair in merged if all(len(truth.items[label]) == 1 for label in pair)}
        new = {(one, other) for one, other in merged if in_letters(one) != in_letters(other)}
        strict = [precision_recall(merged, other)[0] for other in (lower, exact)]
        subsets = [precision_recall(subset, truth)[0] for subset in (single, new)]
        readings.append((side, precision, *strict, *subsets))
        asked, yes = result.questions(), result.yes(truth)
        questions.append((side, len(asked), share(yes, asked), *precision_recall(result.answered(truth), truth)))
    pairs = ["true pairs", "merged pairs", "precision", "recall", "pairs of a line", "recall of those"]
    table(["", "names", "classes", *pairs, "seconds"], scores)
    same = ["the same text by letters", "by case", "only letter for letter"]
    table(["precision", *same, "by letters, names of one item", "by letters, pairs of other letters"], readings)
    table(["", "asked", "yes", "precision once answered", "recall once answered"], questions)


def thresholds(truth: Truth) -> None:
    """Print the effect of other scores to merge at."""
    rows = []
    for merge_at in MERGE_AT:
        result = run(truth.names, Settings(merge_at=merge_at))
        merged, asked = result.pairs(), result.questions()
        right = precision_recall(merged, truth)
        rows.append((f"{merge_at:g}", len(merged), *right, len(asked), share(result.yes(truth), asked)))
    table(["--merge-at", "merged pairs", "precision", "recall", "asked", "yes"], rows)


def contributions(truth: Truth) -> None:
    """Print the effect of each rule and kind of likeness: added to those before it, and left out alone."""

    def counted(rules: Sequence[Rule], without: Collection[str]) -> tuple[int, int]:
        with patch.object(normalise, "RULES", rules), patch.dict(SURE, dict.fromkeys(without, 0.0)):
            merged = run(truth.names).pairs()
        return len(merged & truth.pairs), len(merged - truth.pairs)

    def change(new: tuple[int, int], old: tuple[int, int]) -> list[str]:
        return [f"{now - before:+d}" for now, before in zip(new, old, strict=True)]

    full = counted(RULES, ())
    before = counted((), [*MERGED_ON, *ASKED_ON])
    rows: list[list[object]] = [["letters as they are, without blanks", *before, *_scores(before, truth), "", ""]]
    for end, rule in enumerate(RULES):
        now = counted(RULES[: end + 1], [*MERGED_ON, *ASKED_ON])
        left_out = change(counted([other for other in RULES if other != rule], ()), full)
        rows.append([f"+ {rule.name}", *change(now, before), *_scores(now, truth), *left_out])
        before = now
    for end, kind in enumerate(MERGED_ON):
        now = counted(RULES, [*MERGED_ON[end + 1 :], *ASKED_ON])
        left_out = change(counted(RULES, [kind]), full)
        rows.append([f"+ {kind}", *change(now, before), *_scores(now, truth), *left_out])
        before = now
    table(["", "right pairs", "wrong pairs", "precision", "recall", "left out alone: right", "wrong"], rows)


def _scores(counts: tuple[int, int], truth: Truth) -> tuple[float, float]:
    return counts[0] / max(sum(counts), 1), counts[0] / len(truth.pairs)


def missed(rows: Sequence[Row], truth: Truth) -> None:
    """Print the missed pairs by the difference of their names and by the kind of alias."""
    result = run(truth.names)
    merged, answered = result.pairs(), result.answered(truth)
    kinds = {(min(r.canonical, r.alias), max(r.canonical, r.alias)): r.kind.split(":")[0] for r in rows}
    of = {
        "how the two names differ": _difference,
        "what the alias is": lambda one, other: kinds.get((one, other), "two aliases of an item"),
    }
    lost = len(truth.pairs - merged)
    for title, kind in of.items():
        groups: dict[str, set[Pair]] = defaultdict(set)
        for pair in truth.pairs:
            groups[kind(*pair)].add(pair)
        shares = [
            (what, len(pairs), share(pairs & merged, pairs), share(pairs & answered, pairs), len(pairs - merged) / lost)
            for what, pairs in sorted(groups.items(), key=lambda group: (-len(group[1]), group[0]))
        ]
        table([title, "true pairs", "merged", "once answered", "share of all missed"], shares)


def _difference(one: str, other: str) -> str:
    a, b = (name(key(label), bare(label)) for label in (one, other))
    shorter, longer = sorted((a, b), key=lambda n: (len(n.letters), n))
    common, scripts = {*a.words} & {*b.words}, a.scripts | b.scripts
    of_two = len(scripts) > 1
    if common in ({*a.words}, {*b.words}):
        return "further words, of another script" if of_two else "further words"
    if not a.scripts & b.scripts:
        return "another script"
    if of_two:
        return "partly another script"
    initials = {word[0] for word in longer.words}
    if len(shorter.words) == 1 and 1 < len(shorter.letters) < 7 and {*shorter.letters} <= initials:
        return "initials, or nearly"
    if "CJK" in scripts:
        return "other Chinese or Japanese characters"
    return "some words the same" if common else "no word the same"


def mistyped(truth: Truth) -> None:
    """Print the classes of names with a random typing error, in a third of the names and used half as often."""
    draw = random.Random(0)
    latin = [label for label in truth.names if label.isascii() and len(_letters(label)) > 3]
    typed = {_mistype(label, draw): label for label in draw.sample(latin, len(latin) // 3)}
    typed = {wrong: label for wrong, label in typed.items() if wrong not in truth.items}
    verdicts = {v.label: v for v in group(dict.fromkeys(truth.names, 2) | dict.fromkeys(typed, 1))}
    rows = []
    for title, least, most in (("4 to 7", 4, 7), ("8 to 11", 8, 11), ("12 and more", 12, 200)):
        now = [
            (verdicts[wrong], verdicts[label].cls)
            for wrong, label in typed.items()
            if least <= len(_letters(label)) <= most
        ]
        back = [verdict for verdict, cls in now if verdict.cls == cls]
        asked = [verdict for verdict, cls in now if verdict.suggestion == cls]
        elsewhere = [verdict for verdict, cls in now if verdict.matched and verdict.cls != cls]
        rows.append((title, len(now), *(share(part, now) for part in (back, asked, elsewhere))))
    table(["letters", "mistyped", "back in its class", "asked about it", "in another class"], rows)


def _letters(label: str) -> str:
    return key(label).replace(" ", "")


def _mistype(text: str, draw: random.Random) -> str:
    place = draw.choice([place for place, char in enumerate(text) if char.isalpha() and place])
    letter = draw.choice("abcdefghijklmnopqrstuvwxyz")
    before, char, after = text[:place], text[place], text[place + 1 :]
    return draw.choice(
        [
            before + letter + char + after,
            before + after,
            before + letter + after,
            before[:-1] + char + before[-1] + after,
        ]
    )


def print_wrong(truth: Truth, number: int) -> None:
    """Print some of the merged pairs that no item lists, with the reasons."""
    result = run(truth.names)
    reason = {verdict.label: verdict.reason for verdict in result.verdicts}
    wrong = sorted(result.pairs() - truth.pairs)
    print(f"{len(wrong)} wrong pairs; drawn from them:")
    for one, other in sorted(random.Random(0).sample(wrong, min(number, len(wrong)))):
        print(f"  {one!r} ({reason[one]}) | {other!r} ({reason[other]})")


def print_merged_words(file: Path) -> None:
    """Print the merged labels of ManyNames' answers and English names, which should be very few."""
    answers: Counter[str] = Counter()
    english: Counter[str] = Counter()
    with file.open(encoding="utf-8", newline="") as stream:
        for line in csv.DictReader(stream, delimiter="\t"):
            answers.update(ast.literal_eval(line["responses"]))
            english[line["vg_obj_name"]] += 1
    for title, counts in (("answers", answers), ("English names", english)):
        result = Grouped(group(counts), 0)
        merged = [verdict for verdict in result.verdicts if verdict.matched]
        print(f"{len(counts)} {title}: {len(merged)} merged with another, {len(result.questions())} asked about")
        for verdict in merged:
            print(f"  {verdict.label} → {verdict.matched} ({verdict.reason})")


def main() -> None:
    """Print the figures."""
    p = argparse.ArgumentParser(
        prog="python -m benchmarks.labels", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("file", type=Path, help="brand_aliases.tsv")
    p.add_argument("--wrong", type=int, metavar="N", help="only draw so many of the wrong pairs, and print them")
    p.add_argument("--names", type=Path, metavar="TSV", help="only group ManyNames' everyday words")
    p.add_argument("--half", action="store_true", help="only the half that rules and scores may be developed on")
    options = p.parse_args()
    everything = read(options.file)
    rows = halves(everything)[DEVELOPED] if options.half else everything
    truth = Truth(rows, in_letters)
    if options.names:
        return print_merged_words(options.names)
    if options.wrong:
        return print_wrong(truth, options.wrong)
    quality({DEVELOPED: rows} if options.half else {**halves(rows), "all": rows})
    thresholds(truth)
    contributions(truth)
    missed(rows, truth)
    mistyped(truth)
    return None


if __name__ == "__main__":
    main()
