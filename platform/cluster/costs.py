"""What a study costs: how long nodes of which type were there, and their prices."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from platform.study.event_log import Event

DEFAULT = "default"  # the price of node types that are not named
LOOK_S = 10.0  # between two looks at which nodes are there


class Meter:
    """Counts the hours of a cluster's nodes while a study runs.

    All nodes are counted that are there, whether they work on the study or wait: that is what is paid for.

    Attributes:
        hours: By node type, of this process.
        before: US dollars, of earlier processes.
    """

    def __init__(self, prices: Mapping[str, float], most: float | None = None) -> None:
        """
        Args:
            prices: US dollars an hour, by node type; "default" is of all that are not named.
            most: Dollars that the study may cost, None for no limit.
        """
        self.prices, self.most = prices, most
        self.hours: dict[str, float] = {}
        self.before = 0.0
        self._looked = time.monotonic()
        self._there: Counter[str] = Counter()

    def look(self, kinds: Callable[[], Iterable[str]], now: bool = False) -> bool:
        """Takes note of which nodes are there, if it is time to; they are counted until the next look.

        Args:
            kinds: Tells their types.
            now: Look, whether it is time or not.

        Returns:
            Whether it looked.
        """
        moment = time.monotonic()
        if not now and self._there and moment - self._looked < LOOK_S:
            return False
        for kind, count in self._there.items():
            self.hours[kind] = self.hours.get(kind, 0.0) + count * (moment - self._looked) / 3600
        self._looked, self._there = moment, Counter(kinds())
        return True

    @property
    def dollars(self) -> float:
        """Of this process."""
        usual = self.prices.get(DEFAULT, 0.0)
        return sum(hours * self.prices.get(kind, usual) for kind, hours in self.hours.items())

    @property
    def total(self) -> float:
        """Dollars of all processes that worked on the study."""
        return self.before + self.dollars

    @property
    def is_over(self) -> bool:
        """Whether all that the study may cost is spent."""
        return self.most is not None and self.total >= self.most

    def as_event(self) -> dict[str, Any]:
        """For the event log."""
        hours = {kind: round(hours, 4) for kind, hours in self.hours.items()}
        return {"hours": hours, "dollars": round(self.dollars, 4), "total": round(self.total, 4)}


def before(events: Iterable[Event]) -> float:
    """Dollars that earlier processes wrote down; each tells of its own, the last word of each counts."""
    total = latest = 0.0
    for event in events:
        if event.kind == "open":
            total, latest = total + latest, 0.0
        elif event.kind == "spent":
            latest = event.data["dollars"]
    return total + latest
