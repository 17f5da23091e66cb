"""Embed data with a pretrained or trained encoder, as an array or as figures coloured by class.

python -m platform.embed TASK --data DIR --stage layer3             # PCA and t-SNE figures of labelled data
python -m platform.embed TASK --data DIR --model STUDY              # with a trained model, not the pretrained one
python -m platform.embed TASK INPUT… --out embeddings.npy           # a row for each image or line of text
"""

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path

from platform.errors import Fault, InputError, folder_faults, print_error, raise_if_any
from platform.serving import saved_models
from platform.signals import run_and_exit
from platform.study.settings import absolute_paths

PRETRAINED = "pretrained"
LEAST = 10  # examples that a figure needs to show anything


def parser() -> argparse.ArgumentParser:
    """Return the parser of the options, which are the same for every task."""
    p = saved_models.command_parser("embed", __doc__, PRETRAINED)
    p.add_argument("inputs", nargs="*", metavar="INPUT", help="files, folders of images, or sentences")
    p.add_argument("--data", metavar="PLACE", action="append", default=[],
                   help="labelled data, as for platform.tune (default without inputs: embedded data)")  # fmt: skip
    p.add_argument("--split", default="val", choices=["train", "val", "test"], help="split of the data (default val)")
    p.add_argument("--stage", help="stage whose output is the embedding (default: the last, which the head reads)")
    p.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], dest="settings",
                   help="parameter of the pretrained model, e.g. --set weights=FILE")  # fmt: skip
    p.add_argument("--most", type=int, default=2000, metavar="N", help="most examples in a figure (default 2000)")
    p.add_argument("--seed", type=int, default=0, metavar="N",
                   help="seed of the splits, the choice of examples and t-SNE (default 0)")  # fmt: skip
    p.add_argument("--out", metavar="PLACE", help="FILE.npy for inputs; a folder for figures (default embeddings)")
    p.add_argument("--experiment", metavar="NAME", help="MLflow experiment (default: the task)")
    return p


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    options = parser().parse_args(arguments)
    from rich.console import Console

    try:
        return _embed_inputs(options) if options.inputs else _draw_data(options)
    except InputError as error:
        return print_error(Console(stderr=True), error)


def _embed_inputs(options: argparse.Namespace) -> int:
    import numpy as np

    from platform.data.prediction_inputs import check_readable, pictures, texts

    faults = []
    if not (options.out or "").endswith(".npy") or not Path(options.out or "").resolve().parent.is_dir():
        rule, remedy = "embeddings of inputs need a file", "Write --out FILE.npy in an existing folder."
        faults.append(Fault(rule, f"--out {options.out}", remedy))
    if options.data:
        remedy = "Leave out the inputs to draw the data, or --data to embed the inputs."
        faults.append(Fault("either inputs or --data can be embedded", "both", remedy))
    raise_if_any(faults)
    module, model, stage, _ = _model(options)
    inputs: list = texts(options.inputs) if module.INPUT == "text" else pictures(options.inputs)
    if module.INPUT == "image":
        check_readable(inputs)
    vectors = module.embed(model, inputs, stage)
    np.save(options.out, vectors)
    print(f"{options.out}: {vectors.shape[0]} × {vectors.shape[1]}, {vectors.dtype}, output of {stage}")
    return 0


def _draw_data(options: argparse.Namespace) -> int:
    import numpy as np

    from platform.evaluation import figures
    from platform.evaluation.projection import project, silhouette
    from platform.storage import filesystem
    from platform.study.request import default_tracking_uri
    from platform.tracking.mlflow_recorder import record_figures
    from platform.tracking.mlflow_store import address_faults

    uri = options.tracking_uri or default_tracking_uri()
    out = options.out or "embeddings"
    raise_if_any([*address_faults(uri), *folder_faults("--out", out)])
    module, model, stage, space = _model(options)
    cache = filesystem.cache_folder(filesystem.resolved(options.storage))
    sources = [filesystem.local_copy(source, cache) for source in options.data]
    dataset = module.read(sources, cache, options.seed, space)
    inputs, labels = module.labelled(dataset, options.split)
    chosen = np.random.default_rng(options.seed).permutation(len(inputs))[: options.most]
    vectors = module.embed(model, [inputs[index] for index in chosen], stage)
    points = project(vectors, options.seed)
    folder = Path(out) / f"{options.task}-{time.strftime('%Y%m%d-%H%M%S')}"
    folder.mkdir(parents=True)
    files, metrics = dict[str, Path](), dict[str, float]()
    for name, classes in labels.items():
        rows = [row for row, index in enumerate(chosen) if classes[index] is not None]  # examples with a label
        names = [str(classes[chosen[row]]) for row in rows]
        metrics[f"silhouette/{name}"] = silhouette(vectors[rows], names)
        title = f"{name} after {stage}: silhouette {metrics[f'silhouette/{name}']:.3f}"
        file = folder / f"{name}_after_{stage}.png"
        labelled_points = {method: positions[rows] for method, positions in points.items()}
        figures.embeddings(labelled_points, names, title).savefig(file, dpi=144)
        files[file.stem] = file
        print(f"{title}, {len(names)} examples: {file}")
    np.save(folder / "embeddings.npy", vectors)
    params = {"stage": stage, "model": options.model, "split": options.split, "examples": len(chosen)}
    params |= {"data": " ".join(options.data) or "embedded", "seed": options.seed, "set": json.dumps(options.settings)}
    name = f"embeddings of {dataset.name} after {stage}"
    experiment = options.experiment or options.task
    problem = record_figures(uri, experiment, name, params, metrics, files)
    print(problem or f"MLflow: run {name!r} of experiment {experiment} at {uri}")
    return 0


def _model(options: argparse.Namespace) -> tuple:
    """Return the task's module, the chosen model, the stage whose output is the embedding, and the task's space."""
    from platform import task
    from platform.space import former_name_notices
    from platform.task import space_of

    task.check_name(options.task)
    module = task.load_embedder(options.task)
    for notice in former_name_notices(options.settings):
        print(f"Note: {notice}", file=sys.stderr)
    settings = tuple(absolute_paths(setting) for setting in options.settings)
    space, faults = space_of(module, options.task, settings)
    if options.model != PRETRAINED and settings:
        rule = "--set needs the pretrained model"
        faults.append(Fault(rule, f"--model {options.model}", "Leave out --set or --model."))
    if options.most < LEAST:
        faults.append(Fault(f"--most must be at least {LEAST}", str(options.most), "Leave it out to draw 2000."))
    if not 0 <= options.seed < 2**32:
        faults.append(Fault("--seed must lie in 0..4294967295", str(options.seed), "Leave it out to use 0."))
    config = {**space.fixed, **space.start}
    if options.model == PRETRAINED and not faults:
        faults += module.check(replace(space, params=config, start={}, baselines={}), None)
    raise_if_any(faults)
    if options.model == PRETRAINED:
        model = module.pretrained(config)
    else:
        with saved_models.model_folder(options.task, options) as folder:
            model = module.load(folder)
    stages = module.stage_names(model)
    stage = options.stage or stages[-1]
    if stage not in stages:
        raise InputError(Fault(f"--stage must be one of {', '.join(stages)}", repr(stage), "Choose one of them."))
    return module, model, stage, space


if __name__ == "__main__":
    run_and_exit(main, "Finished figures are kept.")
