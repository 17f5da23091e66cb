import os

import pytest

from platform import cluster
from platform.cluster import Resources


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"cpus_per_trial": 5}, "--cpus-per-trial must lie in 1..4"),
        ({"cpus_per_trial": 0}, "--cpus-per-trial must lie in 1..4"),
        ({"gpus_per_trial": 3.0}, "--gpus-per-trial must lie in 0..2"),
        ({"gpus_per_trial": -1.0}, "--gpus-per-trial must lie in 0..2"),
        ({"gpus_per_trial": 1.5}, "whole GPUs"),
        ({"concurrent": 0}, "--concurrent must lie in 1..4"),
        ({"concurrent": 5}, "--concurrent must lie in 1..4"),
    ],
)
def test_what_the_machine_does_not_have_is_a_fault(changes, told):
    asked = {"cpus": 4, "gpus": 2, "cpus_per_trial": 1, "gpus_per_trial": 0.5, "concurrent": 4, **changes}
    [fault] = Resources(**asked).faults()
    assert told in str(fault)


def test_all_cores_work_by_default():
    cores = len(os.sched_getaffinity(0))
    have = cluster.resources(None, 0.0, None)
    assert (have.cpus, have.cpus_per_trial, have.concurrent, have.faults()) == (cores, 1, cores, [])
    assert cluster.resources(cores, 0.0, None).concurrent == 1
