"""Compare the time of a study of many heads on one frozen encoder with that of a plain loop and of no reuse.

python -m benchmarks.head_sweep --trials 16 --epochs 4 --images 1000

The encoder has the size of CLIP's ViT-B/32 and random weights; one trial at a time, one thread. Each side runs in
its own process, timed as a whole from the imports on. Both sides train the same configs on the same batches, and
their accuracies and training losses must agree before their times are compared.

    ours         the study, with search, pruning, recording in MLflow and a checkpoint an epoch
    plain        one pass through the encoder, then a PyTorch loop on the features in memory, without recording
    no reuse     the study with --no-reuse, extrapolated from --sampled epochs

The formula: T trials of E epochs that run the encoder (b seconds an image) and the head (h) take T·E·(b + h); if the
encoder runs once, they take b + T·E·h.
"""

import argparse
import gc
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import timing

ROOT = Path(__file__).resolve().parent.parent
CLASSES, TEST = 10, 100  # few test images, because the formula counts only images that each epoch runs over
TASK = "classifier"
SAME = {
    "val/accuracy": 0.02,
    "train/loss": 0.01,
}  # largest accepted difference of a trial's best epoch between the sides


def main() -> None:
    """Print the table."""
    p = argparse.ArgumentParser(
        prog="python -m benchmarks.head_sweep",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("--trials", type=int, default=16)
    p.add_argument("--epochs", type=int, default=4)
    p.add_argument("--images", type=int, default=1000, help="100 to test; nine tenths of the rest to train")
    p.add_argument("--repeats", type=int, default=5)
    p.add_argument("--sampled", type=int, default=1, help="epochs of the side without reuse; 0 omits that side")
    p.add_argument("--side", nargs=2, metavar=("NAME", "FOLDER"), help=argparse.SUPPRESS)
    options = p.parse_args()
    if options.side:
        name, folder = options.side
        _plain(Path(folder), options) if name == "plain" else _study(Path(folder), options, name)
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        _write(folder, options.images)
        _run("prepare", folder, options)  # decodes the images, for both sides
        sides = {name: lambda name=name: _run(name, folder, options) for name in ("ours", "plain")}
        seconds = timing.interleaved(sides, options.repeats, warm_up=False)
        plain = json.loads((folder / "plain.json").read_text())
        ours = [trial["metrics"] for trial in _trials(folder, "ours")]
        differ = {key: max(abs(a[key] - b[key]) for a, b in zip(ours, plain["metrics"], strict=True)) for key in SAME}
        if any(differ[key] > most for key, most in SAME.items()):
            raise SystemExit(f"the scores of the sides differ: {differ}")
        b, h = plain["encoder"], plain["head"]
        steps = options.trials * options.epochs
        formula = steps * (b + h) / (b + steps * h)
        rows = [[name, timing.spread(seconds[name], digits=1)] for name in sides]
        summary = [f"ours / plain: {timing.spread(timing.ratios(seconds['ours'], seconds['plain']), digits=3)}"]
        if options.sampled:
            sampled = _run("no-reuse", folder, options)
            epoch = _trials(folder, "no-reuse")[0]["metrics"]["time/epoch_seconds"]
            without = sampled + epoch * (steps - options.sampled)
            rows.append([f"no reuse, from {options.sampled} of {steps} epochs", f"{without:.0f}"])
            gain = without / statistics.median(seconds["ours"])
            summary += [f"no reuse / ours: {gain:.1f}", f"formula: {formula:.1f}; reached of it: {gain / formula:.2f}"]
        print(f"{options.trials} trials × {options.epochs} epochs, {options.images} images; {timing.machine()}")
        print(
            f"encoder {b * 1000:.1f} ms an image, head {h * 1000:.3f} ms; largest difference in accuracy "
            f"{differ['val/accuracy']:.4f}, in training loss {differ['train/loss']:.1e}\n"
        )
        print(timing.table(["side", "seconds"], rows))
        print("\n" + "\n".join(summary))


def _run(side: str, folder: Path, options: argparse.Namespace) -> float:
    command = [sys.executable, "-m", "benchmarks.head_sweep", "--side", side, str(folder)]
    trials, epochs = (1, options.sampled) if side == "no-reuse" else (options.trials, options.epochs)
    command += ["--trials", str(trials), "--epochs", str(epochs)]
    started = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    print(f"{side}: {seconds:.1f} s", file=sys.stderr)
    return seconds


def _write(folder: Path, count: int) -> None:
    """Write images of noise in class folders, each class with its own mean colour, and the encoder."""
    import numpy as np
    import torch
    from PIL import Image

    from platform.models import encoders

    random = np.random.default_rng(0)
    colours = random.integers(60, 196, (CLASSES, 3))
    for number in range(count):
        split = "test" if number < TEST else "val" if number % 10 == 0 else "train"
        label = number // 10 % CLASSES
        place = folder / "data" / split / f"class{label}"
        place.mkdir(parents=True, exist_ok=True)
        pixels = np.clip(random.normal(colours[label], 60, (32, 32, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).resize((224, 224), Image.Resampling.BICUBIC).save(place / f"{number}.jpg")
    torch.manual_seed(0)
    encoders.save(encoders.load("ViT-B-32", "none"), folder / "encoder.safetensors")


def _study(folder: Path, options: argparse.Namespace, name: str) -> None:
    """Run the shipped command with an empty feature store.

    No trial is pruned and there are no baselines, so that both sides do the same work.
    """
    gc.disable()  # as the command does before it imports anything large

    from platform import tune
    from platform.runner import plan
    from platform.study.request import Request

    shipped = plan.make_plan

    def plan_without_pruning(request: Request, resume: bool = False) -> plan.Plan:
        made = shipped(request, resume)
        if made.request.store:
            shutil.rmtree(made.request.store, ignore_errors=True)
        if name == "prepare":
            made.task.prepare(made.space, made.dataset, made.request.cache)
        return replace(made, space=replace(made.space, grace_epochs=options.epochs, baselines={}))

    plan.make_plan = plan_without_pruning
    command = f"tune {TASK} --data {folder / 'data'} --storage {folder / 'studies'} --name {name}-{time.time_ns()}"
    command += f" --tracking-uri sqlite:///{folder / 'mlflow.db'} --json {folder / name}.json"
    command += f" --trials {options.trials} --epochs {options.epochs} --concurrent 1 --cpus-per-trial 1"
    command += {"prepare": " --dry-run", "no-reuse": " --no-reuse"}.get(name, "")
    command += f" --set backbone=ViT-B-32 --set weights={folder / 'encoder.safetensors'} --set unfreeze=never"
    command += " --set freeze_depth=14 --set augment=0 --set head_layers=1 --set head_width=128 --set batch_size=32"
    sys.argv = command.split()
    tune.run()


def _trials(folder: Path, name: str) -> list[dict[str, Any]]:
    trials = json.loads((folder / f"{name}.json").read_text())["trials"]
    return sorted(trials, key=lambda trial: trial["name"])


def _plain(folder: Path, options: argparse.Namespace) -> None:
    import numpy as np
    import torch
    import torch.nn.functional as F
    from torch import nn

    from platform.data.classification.arrays import open_arrays
    from platform.models import encoders, heads
    from platform.training import schedules
    from platform.training.examples import shuffled, steps

    torch.set_num_threads(1)
    [pixels] = (folder / "studies" / ".cache").glob("images-*/224-of-224")
    data = open_arrays(pixels)
    encoder = encoders.load_file(folder / "encoder.safetensors").eval()
    started = time.perf_counter()
    parts = []
    with torch.inference_mode():
        for indices in np.array_split(np.arange(len(data.labels)), steps(len(data.labels), 64)):
            parts.append(encoder(torch.from_numpy(data.images[indices]).float() / 255))
    features, labels = torch.cat(parts).clone(), torch.from_numpy(data.labels)
    extracted = time.perf_counter()
    train, val, metrics = data.split["train"], data.split["val"], []
    for config in (trial["config"] for trial in _trials(folder, "ours")):
        torch.manual_seed(0)
        head = heads.mlp(features.shape[1], CLASSES, layers=1, width=128,
                         dropout=config["head_dropout"], norm=config["head_norm"])  # fmt: skip
        decayed = [p for p in head.parameters() if p.ndim > 1]
        spared = [p for p in head.parameters() if p.ndim == 1]
        groups = [{"params": decayed, "weight_decay": config["weight_decay"]}, {"params": spared, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=config["lr_head"])
        count, epochs, step = steps(len(train), 32), [], 0
        for epoch in range(options.epochs):
            head.train()
            losses = []
            torch.manual_seed(epoch)
            for indices in shuffled(train, 32, np.random.default_rng((0, epoch))):
                step += 1
                rate = schedules.factor(config["schedule"], step / (count * options.epochs), config["warmup"])
                for group in optimizer.param_groups:
                    group["lr"] = config["lr_head"] * rate
                smoothing = config["label_smoothing"]
                loss = F.cross_entropy(head(features[indices]), labels[indices], label_smoothing=smoothing)
                losses.append(float(loss.detach()))
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(head.parameters(), 5.0)
                optimizer.step()
            head.eval()
            with torch.inference_mode():
                accuracy = float((head(features[val]).argmax(1) == labels[val]).float().mean())
            epochs.append({"val/accuracy": accuracy, "train/loss": statistics.fmean(losses)})
        # the last one of equal epochs, whose metrics a study keeps too
        metrics.append(max(reversed(epochs), key=lambda epoch: epoch["val/accuracy"]))
    done = time.perf_counter()
    examples = len(features) * options.trials * options.epochs
    summary = {
        "metrics": metrics,
        "encoder": (extracted - started) / len(features),
        "head": (done - extracted) / examples,
    }
    (folder / "plain.json").write_text(json.dumps(summary))


if __name__ == "__main__":
    main()
