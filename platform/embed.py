"""What a pretrained or trained encoder makes of data: embeddings as arrays, and as pictures by class.

python -m platform.embed TASK --data DIR --stage layer3             # PCA and t-SNE pictures of labelled data
python -m platform.embed TASK --data DIR --model STUDY              # of a trained model, not the pretrained one
python -m platform.embed TASK INPUT… --out embeddings.npy           # a row for each picture, or line of text
"""

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path

from platform.errors import EXIT_BAD_INPUT
from platform.serving import saved_models
from platform.signals import run_and_exit
from platform.study.settings import absolute_paths

PRETRAINED = "pretrained"
LEAST = 10  # examples that a picture says something of


def parser() -> argparse.ArgumentParser:
    """The options, the same for every task."""
    p = argparse.ArgumentParser(
        prog="python -m platform.embed", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("task", help="whose encoder")
    p.add_argument("inputs", nargs="*", metavar="INPUT", help="files, folders of pictures, or sentences")
    p.add_argument("--data", metavar="PLACE", action="append", default=[],
                   help="labelled data, as for platform.tune; without it and inputs: the embedded")  # fmt: skip
    p.add_argument("--split", default="val", choices=["train", "val", "test"], help="of the data (default val)")
    p.add_argument("--stage", help="after which to look (default: the last, as the head sees it)")
    saved_models.add_options(p, PRETRAINED, f", or {PRETRAINED}")
    p.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], dest="settings",
                   help="of the pretrained model: --set weights=FILE")  # fmt: skip
    p.add_argument("--most", type=int, default=2000, metavar="N", help="examples drawn, at most (default 2000)")
    p.add_argument("--seed", type=int, default=0, metavar="N", help="of splits, choice and t-SNE (default 0)")
    p.add_argument("--out", metavar="PLACE", help="FILE.npy for inputs; a folder for pictures (default embeddings)")
    p.add_argument("--experiment", metavar="NAME", help="MLflow experiment (default: the task)")
    return p


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    options = parser().parse_args(arguments)
    from rich.console import Console

    from platform.errors import InputError, print_error

    try:
        return _embed_inputs(options) if options.inputs else _draw_data(options)
    except InputError as error:
        print_error(Console(stderr=True), error)
        return EXIT_BAD_INPUT


def _embed_inputs(options: argparse.Namespace) -> int:
    import numpy as np

    from platform.data.prediction_inputs import check_readable, pictures, texts
    from platform.errors import Fault, InputError

    faults = []
    if not (options.out or "").endswith(".npy") or not Path(options.out or "").resolve().parent.is_dir():
        rule, remedy = "inputs want a file for their embeddings", "Write --out FILE.npy, in an existing folder."
        faults.append(Fault(rule, f"--out {options.out}", remedy))
    if options.data:
        remedy = "Leave the inputs out for pictures of the data, or --data for embeddings of the inputs."
        faults.append(Fault("either inputs or --data can be embedded", "both", remedy))
    if faults:
        raise InputError(*faults)
    module, model, stage, _ = _model(options)
    inputs: list = texts(options.inputs) if module.INPUT == "text" else pictures(options.inputs)
    if module.INPUT == "image":
        check_readable(inputs)
    vectors = module.embed(model, inputs, stage)
    np.save(options.out, vectors)
    print(f"{options.out}: {vectors.shape[0]} × {vectors.shape[1]}, {vectors.dtype}, after {stage}")
    return 0


def _draw_data(options: argparse.Namespace) -> int:
    import numpy as np

    from platform.errors import folder_faults, raise_if_any
    from platform.evaluation import figures as pictures
    from platform.evaluation.projection import project, silhouette
    from platform.storage.filesystem import cache_folder, local_copy, resolved
    from platform.study.request import default_tracking_uri
    from platform.tracking.mlflow_recorder import record_figures
    from platform.tracking.mlflow_store import address_faults

    uri = options.tracking_uri or default_tracking_uri()
    out = options.out or "embeddings"
    raise_if_any([*address_faults(uri), *folder_faults("--out", out)])
    module, model, stage, space = _model(options)
    cache = cache_folder(resolved(options.storage))
    dataset = module.read([local_copy(place, cache) for place in options.data], cache, options.seed, space)
    inputs, labels = module.labelled(dataset, options.split)
    chosen = np.random.default_rng(options.seed).permutation(len(inputs))[: options.most]
    vectors = module.embed(model, [inputs[number] for number in chosen], stage)
    points = project(vectors, options.seed)
    folder = Path(out) / f"{options.task}-{time.strftime('%Y%m%d-%H%M%S')}"
    folder.mkdir(parents=True)
    figures, metrics = {}, dict[str, float]()
    for name, classes in labels.items():
        known = [index for index, number in enumerate(chosen) if classes[number] is not None]
        mine = [str(classes[chosen[index]]) for index in known]
        metrics[f"silhouette/{name}"] = silhouette(vectors[known], mine)
        title = f"{name} after {stage}: silhouette {metrics[f'silhouette/{name}']:.3f}"
        file = folder / f"{name}_after_{stage}.png"
        shown = {method: places[known] for method, places in points.items()}
        pictures.embeddings(shown, mine, title).savefig(file, dpi=144)
        figures[file.stem] = file
        print(f"{title}, {len(mine)} examples: {file}")
    np.save(folder / "embeddings.npy", vectors)
    params = {"stage": stage, "model": options.model, "split": options.split, "examples": len(chosen)}
    params |= {"data": " ".join(options.data) or "embedded", "seed": options.seed, "set": json.dumps(options.settings)}
    name = f"embeddings of {dataset.name} after {stage}"
    problem = record_figures(uri, options.experiment or options.task, name, params, metrics, figures)
    print(problem or f"MLflow: run {name!r} of experiment {options.experiment or options.task} at {uri}")
    return 0


def _model(options: argparse.Namespace) -> tuple:
    """The task's module, the model asked for, the stage to look after, and the space that gave a pretrained model."""
    from platform import task
    from platform.errors import Fault, InputError
    from platform.space import former_name_notices
    from platform.task import space_of

    task.check_name(options.task)
    module = task.load_embedder(options.task)
    for notice in former_name_notices(options.settings):
        print(f"Note: {notice}", file=sys.stderr)
    settings = tuple(absolute_paths(setting) for setting in options.settings)
    space, faults = space_of(module, options.task, settings)
    if options.model != PRETRAINED and settings:
        faults.append(Fault("--set chooses a pretrained model", f"--model {options.model}", "Leave one of them out."))
    if options.most < LEAST:
        faults.append(Fault(f"--most must be at least {LEAST}", str(options.most), "Leave it out: 2000."))
    if not 0 <= options.seed < 2**32:
        faults.append(Fault("--seed must lie in 0..4294967295", str(options.seed), "Leave it out: 0."))
    config = {**space.fixed, **space.start}
    if options.model == PRETRAINED and not faults:
        faults += module.check(replace(space, params=config, start={}, baselines={}), None)
    if faults:
        raise InputError(*faults)
    if options.model == PRETRAINED:
        model = module.pretrained(config)
    else:
        with saved_models.found(options.task, options) as folder:
            model = module.load(folder)
    stages = module.stage_names(model)
    stage = options.stage or stages[-1]
    if stage not in stages:
        raise InputError(Fault(f"--stage must be one of {', '.join(stages)}", repr(stage), "Choose one of them."))
    return module, model, stage, space


if __name__ == "__main__":
    run_and_exit(main, "What was drawn so far is kept.")
