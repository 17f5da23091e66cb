"""Queue of addresses that limits how many of one host are asked at a time."""

from collections import Counter, deque
from collections.abc import Iterable

from platform.curation.fetching.download import MAY_PASS, Failure, Record, parse

GIVE_UP = 10  # addresses of a host in a row with a passing failure, after which the host counts as down


class HostQueue:
    """Waiting addresses by host. Workers take the `next` one and report its outcome with `done`.

    A host has as many slots as it may have connections; a slot is held by a worker or waits in the queue. So no worker
    waits for a slow host while others are free, and a worker that finds the queue empty is not needed any more.
    """

    def __init__(self, urls: Iterable[str], per_host: int) -> None:
        self._waiting: dict[str, deque[str]] = {}
        for url in urls:
            self._waiting.setdefault(host_of(url), deque()).append(url)
        slots = {host: min(per_host, len(urls)) for host, urls in self._waiting.items()}
        self._slots = deque(host for turn in range(per_host) for host, count in slots.items() if turn < count)
        self._failed: Counter[str] = Counter()
        self._last: dict[str, Record] = {}

    def next(self) -> tuple[str, str] | None:
        """Return (host, address); None if there is nothing more to do for this worker."""
        while self._slots:
            host = self._slots.popleft()
            if self._waiting[host]:
                return host, self._waiting[host].popleft()
        return None

    def given_up(self, host: str, url: str) -> Record | None:
        """Return the record of an address that is not asked because its host failed too often; None otherwise."""
        if self._failed[host] < GIVE_UP:
            return None
        last = self._last[host]
        detail = f"not asked, because {GIVE_UP} addresses of this host failed in a row: {last.detail}"
        return Record(url, last.outcome, detail)

    def done(self, host: str, record: Record) -> None:
        """Report the outcome of an address and free its slot."""
        if record.outcome not in MAY_PASS:
            self._failed[host] = 0
        elif record.tries:
            self._failed[host] += 1
            self._last[host] = record
        self._slots.append(host)


def host_of(url: str) -> str:
    """Return the host of an address; "" if it is no valid address."""
    try:
        return (parse(url).raw_host or "").lower()
    except Failure:
        return ""
