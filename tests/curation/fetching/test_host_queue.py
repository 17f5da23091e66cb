"""Tests of the queue of addresses by host."""

from hypothesis import given
from hypothesis import strategies as st

from platform.curation.fetching.download import Outcome, Record
from platform.curation.fetching.host_queue import GIVE_UP, HostQueue, host_of


@given(
    st.lists(st.sampled_from("abcde"), max_size=60),
    st.integers(1, 4),
    st.integers(1, 8),
    st.lists(st.integers(0, 7), min_size=200, max_size=200),
)
def test_every_address_gets_its_turn_and_no_host_more_than_its_share(hosts, per_host, workers, order):
    urls = [f"http://{host}/{number}" for number, host in enumerate(hosts)]
    queue = HostQueue(urls, per_host)
    running = [turn for _ in range(workers) if (turn := queue.next())]
    served = []
    for pick in order:
        if not running:
            break
        assert max(sum(host == other for other, _ in running) for host, _ in running) <= per_host
        host, url = running.pop(pick % len(running))
        served.append(url)
        queue.done(host, Record(url, Outcome.FETCHED, tries=1))
        if turn := queue.next():
            running.append(turn)
    assert sorted(served) == sorted(urls)


def test_a_host_that_fails_is_given_up_and_taken_up_again():
    queue = HostQueue([], 1)
    for number in range(GIVE_UP):
        assert queue.given_up("h", "http://h/") is None
        queue.done("h", Record(f"http://h/{number}", Outcome.TIMEOUT, "slow", tries=3))
    record = queue.given_up("h", "http://h/next")
    assert (record.url, record.outcome, record.tries) == ("http://h/next", Outcome.TIMEOUT, 0)
    queue.done("h", record)
    queue.done("h", Record("http://h/late", Outcome.DEAD_LINK, tries=1))  # one that was under way: the host is there
    assert queue.given_up("h", "http://h/") is None


def test_hosts_are_reported_apart_as_the_network_does():
    assert host_of("http://Example.COM:80/a") == host_of("https://u@example.com/b") == "example.com"
    assert host_of("no address") == ""
