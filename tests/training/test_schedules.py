import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from platform.training import schedules


@given(st.sampled_from(schedules.NAMES), st.floats(0, 1), st.floats(0, 0.5))
def test_a_factor_is_a_fraction_of_the_peak(name, progress, warmup):
    assert 0 <= schedules.factor(name, progress, warmup) <= 1


@pytest.mark.parametrize("name", schedules.NAMES)
def test_warmup_starts_low(name):
    assert schedules.factor(name, 0.01, warmup=0.1) < 0.2


def test_one_cycle_follows_torch():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    reference = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1.0, total_steps=1001, final_div_factor=4)
    for step in range(1000):
        assert schedules.factor("one_cycle", step / 1000) == pytest.approx(optimizer.param_groups[0]["lr"], abs=0.01)
        optimizer.step()
        reference.step()


def test_step_divides_by_ten_twice():
    assert [round(schedules.factor("step", p), 4) for p in (0.5, 0.7, 0.9)] == [1.0, 0.1, 0.01]


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="constant, step, cosine, one_cycle"):
        schedules.factor("linear", 0.5)
