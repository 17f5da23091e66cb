"""Grouping of raw labels into classes by their frequency and likeness.

Labels of the same key (`normalise`) are one name. Names are processed by frequency: each joins the most similar group,
or begins one. It is compared with the group's head, its most frequent name, so that no chain of small differences leads
from "bank of east texas" to "bank of west texas". Where two groups are about equally similar, or the likeness is below
the score to merge at, nothing is merged and a person is asked.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from platform.curation.labels import likeness
from platform.curation.labels.likeness import Similarity
from platform.curation.labels.normalise import LONGEST, WORDS, bare, difference, key, name, tidy
from platform.errors import Fault

DROP = "-"  # a decision, or a suggestion: the label's boxes are left out

OWN, DECIDED, ALIAS, NAMED = "gives the class its name", "decision", "alias", "reads like a decided class"
SAYS_NOTHING, EMPTY, TOO_LONG = "says nothing", "empty", f"longer than {LONGEST} characters"


class LabelDecision(NamedTuple):
    """Class that a label was given, with the reason."""

    label: str  # as it was typed
    cls: str | None  # None if its boxes are left out
    reason: str  # for the class
    score: float | None = None  # likeness to `matched`, 0 to 1; None where nothing was compared
    matched: str = ""  # label or alias that it was matched with
    suggestion: str = ""  # class, or DROP, that a person should decide about
    suggestion_score: float | None = None  # likeness to that class


def is_merged(label: str, cls: str | None, reason: str) -> bool:
    """Return whether a label was given the class of another one, by rule or by decision."""
    return bool(cls) and cls != label and reason not in (OWN, SAYS_NOTHING)


@dataclass(frozen=True)
class Settings:
    """Thresholds of likeness: from which a name joins a group, and from which a person is asked."""

    merge_at: float = 0.92
    ask_at: float = 0.8


DEFAULT = Settings()


def faults(settings: Settings) -> list[Fault]:
    """Return the faults of the settings that the command line gives."""
    merge, ask = settings.merge_at, settings.ask_at
    if 0 < ask <= merge <= 1:
        return []
    rule = "--ask-at and --merge-at must lie in 0..1, and --ask-at not above --merge-at"
    return [Fault(rule, f"{ask:g} and {merge:g}", f"The defaults are {DEFAULT.ask_at:g} and {DEFAULT.merge_at:g}.")]


def group(
    counts: Mapping[str, int],
    aliases: Mapping[str, str] | None = None,
    decisions: Mapping[str, str | None] | None = None,
    settings: Settings = DEFAULT,
) -> list[LabelDecision]:
    """Group labels; return one verdict for each, sorted by label and independent of the order given.

    Args:
        counts: Number of boxes of each raw label.
        aliases: Class by alias. Aliases are compared by key, form groups from the start, and precede the rules.
        decisions: Class by raw label; None leaves its boxes out. A decision precedes everything for its own label;
            the rest of a group follows only the decision about its head.
        settings: Thresholds of likeness.
    """
    aliases, decisions = aliases or {}, decisions or {}
    verdicts = {label: LabelDecision(label, cls, DECIDED) for label, cls in decisions.items() if label in counts}
    nodes = _nodes(counts, aliases, decisions)
    named = {label for node in nodes for label in node.labels}
    verdicts |= {label: _unnamed(label) for label in counts if label not in named and label not in verdicts}
    verdicts |= {verdict.label: verdict for verdict in _Groups(nodes, settings).verdicts()}
    return [verdicts[label] for label in sorted(counts)]


_NO_NAME = frozenset(
    key(word).replace(" ", "")
    for kind in ("filler", "filler_last", "filler_endings", "nothing")
    for word in WORDS[kind]
)
_SAME = Similarity(likeness.SURE[likeness.SPELLING], likeness.SPELLING)
_MARGIN = 0.02  # by which the likeness to one group must exceed that to every other


class _Node(NamedTuple):
    """Labels of one key, the most frequent first; or an alias that nobody typed."""

    labels: tuple[str, ...]  # as they were typed
    text: str  # the first of them, else the alias
    uses: int  # number of boxes of the first
    cls: str | None = None  # by a decision or an alias; None if grouping has to find it
    reason: str = ""  # for `cls`
    alias: str = ""  # alias, or decided class of the same key, that gives the class


def _nodes(counts: Mapping[str, int], aliases: Mapping[str, str], decisions: Mapping[str, str | None]) -> list[_Node]:
    known = _known(aliases, decisions)
    alike: dict[tuple[str, str | None], list[str]] = defaultdict(list)
    for label in sorted(counts, key=lambda label: (-counts[label], *_plain(label))):
        cls, letters = decisions.get(label), _letters(label)
        if letters and (cls is not None or (label not in decisions and (letters in known or letters not in _NO_NAME))):
            alike[letters, cls].append(label)
    nodes = []
    for (letters, cls), labels in alike.items():
        of = (cls, DECIDED, "") if cls is not None else known.pop(letters, (None, "", ""))
        nodes.append(_Node(tuple(labels), labels[0], counts[labels[0]], *of))
    return nodes + [_Node((), alias, 0, cls, reason, alias) for cls, reason, alias in known.values() if reason == ALIAS]


def _known(aliases: Mapping[str, str], decisions: Mapping[str, str | None]) -> dict[str, tuple[str, str, str]]:
    """Return class, reason and alias by key, for the aliases and for the classes of aliases and decisions."""
    known: dict[str, tuple[str, str, str]] = {}
    for classes, reason in ((decisions.values(), NAMED), (aliases.values(), ALIAS)):
        spelled: dict[str, set[str]] = defaultdict(set)
        for cls in classes:
            spelled[_letters(cls or "")].add(cls or "")
        one = {letters: min(same) for letters, same in spelled.items() if letters and len(same) == 1}
        known |= {letters: (cls, reason, cls) for letters, cls in one.items()}
    known |= {_letters(alias): (cls, ALIAS, alias) for alias, cls in sorted(aliases.items())}
    return {letters: of for letters, of in known.items() if letters}


def _letters(label: str) -> str:
    """Return the key without blanks; "" for a label that is empty, DROP, or too long to be compared."""
    return "" if _unusable(label) else key(label).replace(" ", "")


def _plain(label: str) -> tuple[int, bool, str]:
    """Return the sort key that chooses a class name among equally frequent labels: short, and "Lidl" before "LIDL"."""
    return len(label), label.isupper() or label.islower(), label


def _unusable(label: str) -> str:
    if len(label.strip()) > LONGEST:
        return TOO_LONG
    return EMPTY if tidy(label) in ("", DROP) else ""


def _unnamed(label: str) -> LabelDecision:
    if reason := _unusable(label):
        return LabelDecision(label, None, reason, suggestion=DROP)
    return LabelDecision(label, tidy(label), SAYS_NOTHING, suggestion=DROP)


class _Groups:
    """Groups of nodes, built one node after the other."""

    def __init__(self, nodes: Sequence[_Node], settings: Settings) -> None:
        self.nodes = sorted(nodes, key=lambda node: (-node.uses, *_plain(node.text), node.cls or ""))
        self.settings = settings
        self.like: list[dict[int, Similarity]] = [{} for _ in nodes]
        names = [name(key(node.text), bare(node.text)) for node in self.nodes]
        for (i, j), how in likeness.pairs(names, settings.ask_at).items():
            self.like[i][j] = self.like[j][i] = how
        self.cls: dict[int, str] = {}  # class of each placed node
        self.heads: dict[int, int] = {}  # nodes that began a group or had a known class, with their order
        self.link: dict[int, tuple[int, Similarity]] = {}  # head of the group that each other node joined
        for index in sorted(range(len(nodes)), key=self._rank):
            self._place(index)

    def verdicts(self) -> Iterator[LabelDecision]:
        """Yield the verdict of each label."""
        questions = self._questions()
        for index, node in enumerate(self.nodes):
            for place, label in enumerate(node.labels):
                verdict = self._verdict(index, label)
                if place == 0 and index in questions:
                    cls, like = questions[index]
                    verdict = verdict._replace(suggestion=cls, suggestion_score=like.score)
                yield verdict

    def _rank(self, index: int) -> tuple[bool, int, int, int]:
        """Return the order of placing: aliases first, then by frequency, then by the number of similar names."""
        node = self.nodes[index]
        followers = sum(like.score >= self.settings.merge_at for like in self.like[index].values())
        return node.reason != ALIAS, -node.uses, -followers, index

    def _place(self, index: int) -> None:
        node = self.nodes[index]
        cls = node.cls
        if cls is None and (head := self._head_for(index)) is not None:
            self.link[index] = (head, self.like[index][head])
            self.cls[index] = self.cls[head]
            return
        self.heads[index] = len(self.heads)
        self.cls[index] = tidy(node.text) if cls is None else cls

    def _head_for(self, index: int) -> int | None:
        """Return the head of the group that a node joins, if one is similar enough and clearly the most similar."""
        placed = {other: like.score for other, like in self.like[index].items() if other in self.cls}
        heads = [other for other in placed if other in self.heads]
        if not heads:
            return None
        head = min(heads, key=lambda other: (-placed[other], self.heads[other]))
        rival = max((score for other, score in placed.items() if self.cls[other] != self.cls[head]), default=0)
        clear = round(placed[head] - rival, 6) >= _MARGIN
        return head if clear and placed[head] >= self.settings.merge_at else None

    def _questions(self) -> dict[int, tuple[str, Similarity]]:
        """Return the suggestions by the head of their group: the most similar group with a higher rank."""
        groups: dict[str, list[int]] = defaultdict(list)
        for index, cls in self.cls.items():
            groups[cls].append(index)
        known = {cls for cls, members in groups.items() if any(self.nodes[index].cls is not None for index in members)}
        rank = {cls: (cls not in known, min(self.heads.get(i, len(self.nodes)) for i in groups[cls])) for cls in groups}
        asked = {}
        for cls in groups.keys() - known:
            others = [(like, self.cls[other]) for index in groups[cls] for other, like in self.like[index].items()]
            before = [(-like.score, rank[other], other, like) for like, other in others if rank[other] < rank[cls]]
            if before:
                _, _, other, like = min(before)
                asked[next(index for index in groups[cls] if index in self.heads)] = (other, like)
        return asked

    def _verdict(self, index: int, label: str) -> LabelDecision:
        node, cls = self.nodes[index], self.cls[index]
        if node.reason == DECIDED:
            return LabelDecision(label, cls, DECIDED)
        if node.reason:
            return LabelDecision(label, cls, node.reason, 1.0, node.alias)
        head, like = self.link.get(index, (index, _SAME))
        if label == self.nodes[head].text:
            return LabelDecision(label, cls, OWN)
        matched = self.nodes[head].text
        reason = f"same but for {difference(label, matched)}" if like == _SAME else like.reason
        return LabelDecision(label, cls, reason, like.score, matched)
