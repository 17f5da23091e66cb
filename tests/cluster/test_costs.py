"""Node costs: hours add up while nodes come and go, over several processes, up to a limit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform.cluster import costs
from platform.cluster.costs import CostMeter, earlier_dollars
from platform.study.event_log import Event

PRICES = {"head": 0.2, "worker": 1.5}


def metered(steps: list[tuple[float, list[str]]], monkeypatch) -> CostMeter:
    """Return a meter that counted these nodes after these seconds."""
    clock = [0.0]
    monkeypatch.setattr(costs.time, "monotonic", lambda: clock[0])
    meter = CostMeter(PRICES)
    for seconds, kinds in steps:
        clock[0] += seconds
        meter.update(lambda kinds=kinds: kinds, now=True)
    return meter


def test_nodes_are_paid_for_while_they_are_there(monkeypatch):
    hour = 3600
    meter = metered(
        [(0, ["head"]), (hour, ["head", "worker", "worker"]), (hour / 2, ["head"]), (hour, [])], monkeypatch
    )
    assert meter.hours == {"head": 2.5, "worker": 1.0}
    assert meter.dollars == 2.5 * 0.2 + 1.5


@given(st.lists(st.tuples(st.floats(0, 1e4), st.lists(st.sampled_from(["head", "worker", "other"]), max_size=4))))
def test_no_hour_is_counted_twice_or_lost(steps):
    with pytest.MonkeyPatch.context() as patch:
        meter = metered(steps, patch)
    after = [seconds for seconds, _ in steps[1:]]
    expected = sum(seconds * len(kinds) for seconds, (_, kinds) in zip(after, steps, strict=False)) / 3600
    assert abs(sum(meter.hours.values()) - expected) < 1e-6 * (1 + expected)


def test_it_does_not_look_all_the_time(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(costs.time, "monotonic", lambda: clock[0])
    meter = CostMeter(PRICES)
    looked = []
    for clock[0] in range(0, 100):
        looked.append(meter.update(lambda: ["head"]))
    assert sum(looked) == 100 / costs.UPDATE_INTERVAL_S
    assert looked[0]


def test_all_processes_of_a_study_count(monkeypatch):
    def spent(dollars: float) -> Event:
        return Event("spent", 0, {"dollars": dollars})

    opened = Event("open", 0, {})
    events = [opened, spent(1.0), spent(2.0), opened, opened, spent(0.5)]
    assert earlier_dollars(events) == 2.5
    meter = CostMeter(PRICES, 3.0)
    meter.earlier_dollars = earlier_dollars(events)
    assert (meter.total, meter.is_over) == (2.5, False)
    meter.hours = {"head": 2.5}
    assert (meter.total, meter.is_over) == (3.0, True)
    assert meter.as_event() == {"hours": {"head": 2.5}, "dollars": 0.5, "total": 3.0}
    assert not CostMeter({}).is_over
