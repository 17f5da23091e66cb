"""Whose turn it is: no more than a few addresses of one host at a time, however many there are of it."""

from collections import Counter, deque
from collections.abc import Iterable

from platform.curation.fetching.download import parse
from platform.curation.fetching.outcomes import MAY_PASS, Failure, Record

GIVE_UP = 10  # addresses of a host that fail one after the other, for a reason that may pass: it is not there now


class Turns:
    """Addresses that wait, by host. Workers ask for the `next`, and must say what became of it (`done`).

    A host has as many turns as it may have connections. A turn is with a worker, or waits in line; whoever ends one
    puts it back in line, if the host has more addresses. So nobody waits for a slow host while others are free, and a
    worker that finds the line empty is not needed any more.
    """

    def __init__(self, urls: Iterable[str], per_host: int) -> None:
        self._waiting: dict[str, deque[str]] = {}
        for url in urls:
            self._waiting.setdefault(host_of(url), deque()).append(url)
        slots = {host: min(per_host, len(urls)) for host, urls in self._waiting.items()}
        self._line = deque(host for turn in range(per_host) for host, count in slots.items() if turn < count)
        self._failed: Counter[str] = Counter()
        self._last: dict[str, Record] = {}

    def next(self) -> tuple[str, str] | None:
        """(host, address); None if there is no more for this worker to do."""
        while self._line:
            host = self._line.popleft()
            if self._waiting[host]:
                return host, self._waiting[host].popleft()
        return None

    def given_up(self, host: str, url: str) -> Record | None:
        """What is recorded of an address without asking it, as the host did not answer many others; else None."""
        if self._failed[host] < GIVE_UP:
            return None
        last = self._last[host]
        return Record(url, last.outcome, f"not asked: {GIVE_UP} others of this host in a row: {last.detail}")

    def done(self, host: str, record: Record) -> None:
        """Ends a turn."""
        if record.outcome not in MAY_PASS:
            self._failed[host] = 0
        elif record.tries:
            self._failed[host] += 1
            self._last[host] = record
        self._line.append(host)


def host_of(url: str) -> str:
    """The host of an address; "" for one that is none."""
    try:
        return (parse(url).raw_host or "").lower()
    except Failure:
        return ""
