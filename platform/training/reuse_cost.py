"""Decision whether storing the outputs of frozen stages saves time, from measured costs.

Computing, writing and loading an example are timed once on each node for each model, split index and kind of data.
"""

import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from platform.training.feature_store import BATCH, PROBE, Store, layout_of
from platform.training.frozen_prefix import Prefix

PROBE_SECONDS, PROBE_SHARE = 0.5, 0.01  # limits of the measuring: seconds, and share of the whole computation
PROBE_ROUNDS = 3  # of which the median is taken
OPENING = 0.02  # seconds to make, check and open an entry of any size


@dataclass(frozen=True)
class Costs:
    """Costs of one example: seconds to compute, write and load it, and its bytes in the store."""

    compute: float
    write: float
    load: float
    bytes: int


@dataclass(frozen=True)
class Decision:
    """Decision whether to store the outputs, and its reason."""

    keep: bool
    reason: str


def decide(costs: Costs, examples: int, uses: int, is_there: bool = False) -> Decision:
    """Decide whether storing is quicker than computing the examples at each use, if the store does not hold them yet.

    `uses` is the number of times that the trial will see each example at this split index.
    """
    each = uses * costs.load if is_there else costs.compute + costs.write + (uses - 1) * costs.load
    per_example = f"{_ms(costs.compute)} to compute, {_ms(costs.load)} to load, {costs.bytes / 1024:.1f} KiB an example"
    if OPENING + examples * each <= examples * uses * costs.compute:
        return Decision(True, per_example)
    times = "once" if uses == 1 else f"{uses} times"
    return Decision(False, f"{examples} examples seen {times} ({per_example}, {_ms(costs.write)} to write)")


def measure(prefix: Prefix, store: Store, uses: int) -> dict[str, Any]:
    """Measure an example's costs: the fields of `Costs`, or {"refused": why the outputs cannot be stored}.

    The number of times that the trial will see each example, `uses`, bounds the time of the measuring.

    Raises:
        StoreError, OSError: The disk refuses.
    """
    few = prefix.indices[:2]
    prefix.compute(few)  # the first is always slow
    once = _seconds(lambda: prefix.compute(few)) / len(few)
    budget = min(PROBE_SECONDS, PROBE_SHARE * once * len(prefix.indices) * uses)
    most = min(BATCH, len(prefix.indices))
    count = int(np.clip(budget / once / (PROBE_ROUNDS + 1), len(few), most))
    some = prefix.indices[-count:]  # the longest, if they differ
    results: list[dict[str, torch.Tensor]] = []
    compute = []
    with torch.random.fork_rng():
        for seed in range(PROBE_ROUNDS):
            torch.manual_seed(seed)  # outputs that depend on random numbers differ between the rounds
            compute.append(_seconds(lambda: results.append(prefix.compute(some))))
    alone = prefix.compute(some[:1])
    for name, value in results[0].items():
        if not torch.equal(value, results[1][name]):
            return {"refused": f"the frozen stages do not give the same {name} twice"}
        own = value[:1] if value.ndim < 3 else value[:1, : alone[name].shape[1]]  # the rest is padding
        if not torch.allclose(own, alone[name], rtol=1e-3, atol=1e-4):
            return {"refused": f"the frozen stages' {name} depends on what else is in the batch"}
    store.root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=store.root, prefix=PROBE) as scratch:
        entry = Store(Path(scratch), store.capacity).open({}, count, layout_of(results[0], prefix.longest))
        try:
            write = _seconds(lambda: entry.fill(lambda rows: {name: v[rows] for name, v in results[0].items()}))
            order = np.random.default_rng(0).permutation(count)
            load = [_seconds(lambda: entry.read(order, prefix.longest)) for _ in range(PROBE_ROUNDS)]
            size = entry.bytes
        finally:
            entry.close()
    compute_each, load_each = (float(np.median(times)) / count for times in (compute, load))
    return asdict(Costs(compute_each, write / count, load_each, size // count))


def _seconds(action: Callable[[], Any]) -> float:
    started = time.perf_counter()
    action()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms"
