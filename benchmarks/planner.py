"""Time trials that reuse cannot make quicker, with an empty feature store and with --no-reuse; it must not cost time.

python -m benchmarks.planner

The frozen stages of these cases are cheap or run once, so that storing their outputs saves little or nothing; the
planner measures the costs and decides. One thread; each repeat starts with an empty store, and therefore measures
again. Both sides must end with the same losses, or the benchmark fails.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from benchmarks import timing
from platform import task
from platform.task import space_of
from platform.training import fit as fitting
from platform.training.context import Context
from platform.training.reporters import ToFolder

CASES: dict[str, tuple[str, int, tuple[str, ...]]] = {
    "a stem alone, of an autoencoder": ("autoencoder", 10, ("freeze_depth=1", "pretrain_epochs=0", "unfreeze=never")),
    "a stem alone, of a detector": ("detector", 3, ("freeze_depth=1", "unfreeze=never")),
    "a stage unfrozen each epoch": ("classifier", 6, ("freeze_depth=6", "unfreeze=gradual", "unfreeze_at=0.1")),
    "as many views as epochs": ("classifier", 4, ("freeze_depth=3", "unfreeze=never", "augment=1.0", "views=4")),
    "embeddings of words alone": ("sentences", 3, ("freeze_depth=1", "unfreeze=never")),
    "nothing frozen": ("classifier", 4, ("freeze_depth=0", "augment=0.0")),
}


def main() -> None:
    """Print a row for each case."""
    p = argparse.ArgumentParser(
        prog="python -m benchmarks.planner", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--repeats", type=int, default=5)
    options = p.parse_args()
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for case in CASES:
            rows.append(_row(case, options.repeats, Path(scratch)))
            print(" | ".join(rows[-1]), file=sys.stderr)
    print(f"{timing.machine()}; seconds a trial\n")
    print(timing.table(["case", "planned", "no reuse", "no reuse / planned", "decided"], rows))


def _row(case: str, repeats: int, scratch: Path) -> list[str]:
    name, epochs, settings = CASES[case]
    module, cache = task.load(name), scratch / "cache"
    space, faults = space_of(module, name, settings, max_epochs=epochs)
    if faults:
        raise SystemExit("\n".join(map(str, faults)))
    data = module.prepare(space, module.read([], cache, 0, space), cache)
    losses: dict[bool, float] = {}
    notes: Sequence[str] = []

    def run(reuse: bool) -> float:
        nonlocal notes
        reuse_notes: list[str] = []

        class Reporter(ToFolder):
            def report(self, epoch, save):
                reuse_notes.append(epoch.notes["reuse"])
                super().report(epoch, save)

        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            reporter = Reporter(Path(folder) / "trial")
            fitting.ToFolder = lambda folder: reporter  # type: ignore[assignment, misc, return-value]
            store = {"store": f"{folder}/store", "store_bytes": 10**10} if reuse else {}
            context = Context(name, str(data), 0, epochs, space.metric, space.mode, **store)  # type: ignore[arg-type]
            started = time.perf_counter()
            module.train({**space.fixed, **space.start, "context": asdict(context)})
            seconds = time.perf_counter() - started
            losses[reuse] = reporter.history()[-1]["train/loss"]
        notes = reuse_notes if reuse else notes
        return seconds

    seconds = timing.interleaved({"planned": lambda: run(True), "no reuse": lambda: run(False)}, repeats)
    if abs(losses[True] - losses[False]) > 1e-2 * abs(losses[False]):
        raise SystemExit(f"{case}: the sides end with different losses: {losses}")
    planned, without = seconds["planned"], seconds["no reuse"]
    parts = [part.removeprefix("train: ").removeprefix("val: ") for note in notes for part in note.split("; ")]
    decided = list(dict.fromkeys(part.split(":")[0] for part in parts))
    ratio = timing.spread(timing.ratios(without, planned))
    return [case, timing.spread(planned), timing.spread(without), ratio, ", ".join(decided)]


if __name__ == "__main__":
    main()
