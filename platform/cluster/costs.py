"""Costs of a study: node hours by node type, and their prices."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from platform.study.event_log import Event

DEFAULT = "default"  # key of the price of all node types that are not listed
UPDATE_INTERVAL_S = 10.0  # seconds between two counts of the nodes


class CostMeter:
    """Count the node hours of a cluster while a study runs.

    All nodes of the cluster are counted, busy or idle, because all of them are paid for.

    Attributes:
        hours: Node hours of this process, by node type.
        earlier_dollars: US dollars that earlier processes of the study spent.
    """

    def __init__(self, prices: Mapping[str, float], limit: float | None = None) -> None:
        """`prices` are US dollars an hour by node type, "default" for all others; `limit` is in US dollars."""
        self.prices, self.limit = prices, limit
        self.hours: dict[str, float] = {}
        self.earlier_dollars = 0.0
        self._updated = time.monotonic()
        self._nodes: Counter[str] = Counter()

    def update(self, node_types: Callable[[], Iterable[str]], now: bool = False) -> bool:
        """Count the nodes if `UPDATE_INTERVAL_S` have passed since the last count, or `now`; return whether it did."""
        moment = time.monotonic()
        if not now and self._nodes and moment - self._updated < UPDATE_INTERVAL_S:
            return False
        for node_type, count in self._nodes.items():
            self.hours[node_type] = self.hours.get(node_type, 0.0) + count * (moment - self._updated) / 3600
        self._updated, self._nodes = moment, Counter(node_types())
        return True

    @property
    def dollars(self) -> float:
        """US dollars that this process spent."""
        default = self.prices.get(DEFAULT, 0.0)
        return sum(hours * self.prices.get(node_type, default) for node_type, hours in self.hours.items())

    @property
    def total(self) -> float:
        """US dollars that all processes of the study spent."""
        return self.earlier_dollars + self.dollars

    @property
    def is_over(self) -> bool:
        """True if the limit is reached."""
        return self.limit is not None and self.total >= self.limit

    def as_event(self) -> dict[str, Any]:
        """Return the data of a "spent" event of the event log."""
        hours = {node_type: round(hours, 4) for node_type, hours in self.hours.items()}
        return {"hours": hours, "dollars": round(self.dollars, 4), "total": round(self.total, 4)}


def earlier_dollars(events: Iterable[Event]) -> float:
    """Return the US dollars that earlier processes recorded.

    Each "spent" event holds the sum of its process so far, hence the last one of each process counts.
    """
    total = latest = 0.0
    for event in events:
        if event.kind == "open":
            total, latest = total + latest, 0.0
        elif event.kind == "spent":
            latest = event.data["dollars"]
    return total + latest
