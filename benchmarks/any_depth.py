"""Compare the time of a training step above frozen stages with the feature store, in a plain loop, and without reuse.

python -m benchmarks.any_depth

A text encoder of BERT-base's size with random weights, 64 tokens, frozen up to its 6th, 9th and 11th layer; SSDlite
and FCOS on MobileNetV2 at 320 pixels, at two split indices. One thread. The sides train from the same weights on the
same batches, and their losses are compared before their times are.

    kept      the trainable with the feature store, as platform.tune runs it
    plain     forward, backward, clipping and AdamW, on features in memory, and nothing else
    frozen    the trainable with --no-reuse
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import timing
from platform import task
from platform.task import space_of
from platform.training import fit as fitting
from platform.training.context import Context
from platform.training.examples import Batch
from platform.training.frozen_prefix import stack
from platform.training.reporters import ToFolder

EPOCHS = 2  # the second is timed
TEXTS, SCENES = "sentences", "detector"
# By model: the task, its settings, the batch size, and the freeze depths with their names in the table.
CASES: Mapping[str, tuple[str, tuple[str, ...], int, Mapping[int, str]]] = {
    "BERT-base": (TEXTS, ("layer=-1", "max_tokens=64"), 8, {7: "layer 6", 10: "layer 9", 12: "layer 11"}),
    "SSDlite": (SCENES, ("architecture=ssdlite", "image_size=320"), 4, {4: "layer3", 5: "layer4"}),
    "FCOS": (SCENES, ("architecture=fcos", "image_size=320"), 4, {4: "layer3", 5: "layer4"}),
}
# A constant small learning rate for all trained parameters, so that a loop of a few lines computes the same.
RATES = {"schedule": "constant", "warmup": 0.0, "lr_head": 1e-5, "backbone_ratio": 1.0, "layer_decay": 1.0}
RATES |= {"weight_decay": 0.0}


def main() -> None:
    """Print a row for each model and split index."""
    p = argparse.ArgumentParser(
        prog="python -m benchmarks.any_depth",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("--repeats", type=int, default=5)
    p.add_argument("--examples", type=int, default=32, help="training examples")
    p.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    options = p.parse_args()
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for model in options.only:
            rows += _rows(model, options.examples, options.repeats, Path(scratch))
    print(f"{timing.machine()}; seconds a step\n")
    print(timing.table(["model", "frozen up to", "kept", "plain", "frozen", "kept / plain", "frozen / kept"], rows))


def _rows(model: str, examples: int, repeats: int, scratch: Path) -> list[list[str]]:
    name, settings, batch_size, depths = CASES[model]
    module, cache = task.load(name), scratch / "cache"
    if name == TEXTS:
        settings = (*settings, f"backbone={_bert(scratch)}")
        sources = [_sentences(scratch, examples)]
    else:
        from platform.data.embedded import scenes

        counts = {"train": examples, "val": 8, "test": 8}
        sources = [scenes.write(scratch / "scenes", seed=0, counts=counts, size=320)]
    space, faults = space_of(module, name, settings, max_epochs=EPOCHS)
    if faults:
        raise SystemExit("\n".join(map(str, faults)))
    data = module.prepare(space, module.read(sources, cache, 0, space), cache)
    rows = []
    for depth, called in depths.items():
        parameters = {**space.fixed, **space.start, **RATES, "freeze_depth": depth, "unfreeze": "never", "augment": 0.0}
        parameters |= {"batch_size": batch_size, "head_dropout": 0.0}
        context = Context(
            name, str(data), 0, EPOCHS, space.metric, space.mode, shared_stages=str(scratch / "shared_stages")
        )
        config = {**parameters, "context": asdict(context)}
        store = {"store": str(scratch / "store"), "store_bytes": 10**11}
        kept = {**parameters, "context": {**asdict(context), **store}}
        seconds, losses = _time(module, {"kept": kept, "frozen": config}, repeats, scratch)
        if max(losses) - min(losses) > 1e-3 * max(losses):
            raise SystemExit(f"{model} at {called}: the sides end with different losses: {losses}")
        rows.append(
            [
                model,
                called,
                *(timing.spread(seconds[side], digits=3) for side in ("kept", "plain", "frozen")),
                timing.spread(timing.ratios(seconds["kept"], seconds["plain"]), digits=3),
                timing.spread(timing.ratios(seconds["frozen"], seconds["kept"])),
            ]
        )
        print(" | ".join(rows[-1]), file=sys.stderr)
    return rows


def _time(
    module: Any, configs: Mapping[str, Mapping[str, Any]], repeats: int, scratch: Path
) -> tuple[dict[str, list[float]], list[float]]:
    """Return the seconds a step of each side, and its mean loss in the epoch that was timed."""
    arguments = _arguments_of_fit(module, configs["frozen"])
    losses: dict[str, float] = {}

    def product(side: str) -> float:
        folder = Path(tempfile.mkdtemp(dir=scratch))
        module.train({**configs[side], "context": {**configs[side]["context"], "folder": str(folder)}})
        last = ToFolder(folder).history()[-1]
        losses[side] = last["train/loss"]
        return last["time/train_seconds"] / arguments["steps_per_epoch"]

    def plain() -> float:
        losses["plain"], seconds = _plain(_arguments_of_fit(module, configs["frozen"]), arguments["freezing"].depth)
        return seconds / arguments["steps_per_epoch"]

    sides = {"kept": lambda: product("kept"), "plain": plain, "frozen": lambda: product("frozen")}
    return timing.interleaved(sides, repeats), list(losses.values())


def _arguments_of_fit(module: Any, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that a task calls the training loop with: the model, the examples, the loss and so on."""
    arguments: dict[str, Any] = {}
    original = fitting.fit
    try:
        fitting.fit = lambda model, stages, **rest: arguments.update(model=model, stages=stages, **rest)  # type: ignore[assignment]
        module.train(dict(config))
    finally:
        fitting.fit = original
    return arguments


def _plain(arguments: Mapping[str, Any], split_index: int) -> tuple[float, float]:
    """Return the mean loss and the seconds of the last epoch of a plain loop over the stages that are not frozen."""
    model, examples, indices = arguments["model"], arguments["examples"], arguments["examples"].indices("train")
    model.to(memory_format=torch.channels_last)
    frozen = [prefix for stage in arguments["stages"][:split_index] for prefix in stage.prefixes]
    learns = [p for name, p in model.named_parameters() if not name.startswith(tuple(f"{f}." for f in frozen))]
    model.requires_grad_(False)
    model.eval()
    with torch.inference_mode():
        parts = [
            model.run(examples.inputs(some, None), 0, split_index)
            for some in np.array_split(indices, -(-len(indices) // 8))
        ]
    features = {name: value.clone() for name, value in stack(parts).items()}
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.eval()
    _train_new_batch_norm(arguments)
    for parameter in learns:
        parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW(learns, lr=1e-5, weight_decay=0.0)
    row_of = {number: row for row, number in enumerate(indices)}
    losses: list[float] = []
    for epoch in range(EPOCHS):
        started, losses = time.perf_counter(), []
        torch.manual_seed(epoch)  # dropout draws as in the trainable
        for some in arguments["batches"](np.random.default_rng((0, epoch))):
            rows = torch.tensor([row_of[number] for number in some])
            loss = arguments["loss"](model, Batch(some, {name: f[rows] for name, f in features.items()}, split_index))[
                "loss"
            ]
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(learns, 5.0)
            optimizer.step()
            losses.append(float(loss.detach()))
    return sum(losses) / len(losses), time.perf_counter() - started


def _train_new_batch_norm(arguments: Mapping[str, Any]) -> None:
    """Set the modules outside the backbone to train mode; only the backbone's BatchNorm keeps its statistics."""
    modules = dict(arguments["model"].named_modules())
    for stage in arguments["stages"]:
        if not stage.backbone:
            for prefix in stage.prefixes:
                if prefix in modules:
                    modules[prefix].train()


def _bert(scratch: Path) -> Path:
    """Make a folder with an encoder of BERT-base's size, random weights, and the starter's tokenizer."""
    from transformers import BertConfig, BertModel

    from platform.models import text_encoders

    torch.manual_seed(0)
    folder = scratch / "bert"
    BertModel(BertConfig()).save_pretrained(folder)
    text_encoders.save_tokenizer(folder, text_encoders.load_tokenizer("starter"))
    return folder


def _sentences(scratch: Path, examples: int) -> Path:
    """Write a table of labelled texts longer than 64 tokens, with a column for the split."""
    import pandas as pd

    text = "a dreadful love story about murder in a distant galaxy by the old harbour at night"
    words = text.split()
    random = np.random.default_rng(0)
    rows = [
        {
            "text": " ".join(random.choice(words, 90)),
            "genre": ("crime", "romance")[number % 2],
            "sentiment": ("good", "bad")[number // 2 % 2],
            "split": "train" if number < examples else ("val", "test")[number % 2],
        }
        for number in range(examples + 16)
    ]
    pd.DataFrame(rows).to_csv(scratch / "texts.csv", index=False)
    return scratch / "texts.csv"


if __name__ == "__main__":
    main()
