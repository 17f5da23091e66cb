"""Make a detection data set of a messy list of image addresses, labels and boxes.

python -m platform.dataset fetch logos.csv --out logos/     # every address asked once; goes on where it was stopped
python -m platform.dataset clean logos/                     # labels grouped, boxes and images checked, all of it listed
python -m platform.dataset split logos/                     # stratified; near duplicates stay together
python -m platform.dataset report logos/                    # one HTML page: classes, changes, what needs a person's eye
python -m platform.dataset convert logos/ coco/ --to coco   # COCO, Pascal VOC, YOLO, CSV
"""

import argparse
import importlib
from pathlib import Path

from platform.errors import EXIT_BAD_INPUT
from platform.signals import end_with

USER_AGENT = "platform-tune-dataset/0.1"
INTERRUPTED = "What is there is whole; the same command goes on from it."


def parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    p = argparse.ArgumentParser(
        prog="python -m platform.dataset", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = p.add_subparsers(dest="command", required=True, metavar="COMMAND")
    direct = "Servers are asked directly: no proxy of the environment is used, and no cookie kept."
    _fetch(
        commands.add_parser("fetch", help="a list of addresses → images, fetched.csv, manifest.jsonl", epilog=direct)
    )
    _clean(commands.add_parser("clean", help="labels, boxes and images put in order → cleaned.csv, cleaning/"))
    _split(commands.add_parser("split", help="training, validation and test → split.csv"))
    _convert(commands.add_parser("convert", help="one layout → another"))
    _report(commands.add_parser("report", help="one HTML page → dataset.html"))
    return p


def _fetch(p: argparse.ArgumentParser) -> None:
    p.add_argument("list", type=Path, metavar="LIST", help="CSV, TSV or JSON lines with url, label, box")
    p.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the images and tables go")
    for what, many in (("url", "addresses"), ("label", "labels"), ("box", "boxes")):
        p.add_argument(f"--{what}-column", metavar="NAME", help=f"of {many} (default: what is usually called so)")
    p.add_argument("--encoding", default="detect", metavar="NAME", help="of the list, utf-8 say (default: detected)")
    p.add_argument("--box", choices=("xyxy", "xywh", "cxcywh"), help="what a box's four numbers are (default: told by "
                   "the columns' names, else xyxy)")  # fmt: skip
    p.add_argument("--concurrent", type=int, default=32, metavar="N", help="connections at a time (default 32)")
    p.add_argument("--per-host", type=int, default=4, metavar="N", help="of them to one host (default 4)")
    p.add_argument(
        "--timeout", type=float, default=30, metavar="S", help="seconds that one image may take (default 30)"
    )
    p.add_argument("--max-mb", type=float, default=20, metavar="MB", help="megabytes of one image (default 20)")
    p.add_argument("--max-mpx", type=float, default=50, metavar="MPX", help="megapixels of one image (default 50)")
    p.add_argument("--tries", type=int, default=3, metavar="N", help="of what may pass, a busy server say (default 3)")
    p.add_argument(
        "--again", action="store_true", help="also ask again what failed in an earlier run and may have passed"
    )
    p.add_argument("--user-agent", default=USER_AGENT, metavar="TEXT", help="what servers are told who asks; some want "
                   f"an address to complain to (default {USER_AGENT})")  # fmt: skip
    p.add_argument("--allow", action="append", default=[], metavar="NETWORK", help="a private network that may be "
                   "reached, e.g. 10.1.0.0/16; may be given several times")  # fmt: skip


def _clean(p: argparse.ArgumentParser) -> None:
    p.add_argument("dir", type=Path, metavar="DIR", help="what fetch made, or COCO, Pascal VOC, YOLO, CSV")
    p.add_argument("--aliases", type=Path, metavar="FILE", help="CSV with the columns alias and class")
    p.add_argument("--decisions", type=Path, metavar="FILE", help="an edited cleaning/labels.csv: its column decision")
    p.add_argument("--merge-at", type=float, default=0.92, metavar="SCORE", help="likeness from which labels are "
                   "merged (default 0.92)")  # fmt: skip
    p.add_argument("--ask-at", type=float, default=0.8, metavar="SCORE", help="likeness from which a person is asked "
                   "(default 0.8)")  # fmt: skip
    p.add_argument("--min-image", type=int, default=32, metavar="PX", help="shorter side of an image (default 32)")
    p.add_argument("--min-box", type=float, default=4, metavar="PX", help="shorter side of a box (default 4)")
    p.add_argument("--max-box", type=float, default=0.98, metavar="SHARE", help="of the image that a box may cover "
                   "(default 0.98)")  # fmt: skip


def _split(p: argparse.ArgumentParser) -> None:
    p.add_argument("dir", type=Path, metavar="DIR", help="what clean made, or COCO, Pascal VOC, YOLO, CSV")
    p.add_argument("--shares", type=float, nargs=3, default=(0.7, 0.15, 0.15), metavar="SHARE", help="of training, "
                   "validation and test (default 0.7 0.15 0.15)")  # fmt: skip
    p.add_argument("--seed", type=int, default=0, metavar="N", help="the same seed, the same split (default 0)")
    p.add_argument(
        "--min-per-class", type=int, default=1, metavar="N", help="images that a class must be in (default 1)"
    )
    p.add_argument("--rare", choices=("other", "drop"), default="other", help="what becomes of the boxes of rarer "
                   "classes (default: the class other)")  # fmt: skip


def _convert(p: argparse.ArgumentParser) -> None:
    p.add_argument("dir", type=Path, metavar="A", help="COCO, Pascal VOC, YOLO or CSV")
    p.add_argument("out", type=Path, metavar="B", help="a folder that is not there yet, or empty")
    p.add_argument("--to", choices=("coco", "voc", "yolo", "csv"), required=True, help="the layout of B")


def _report(p: argparse.ArgumentParser) -> None:
    p.add_argument("dir", type=Path, metavar="DIR", help="what fetch, clean or split made")
    p.add_argument("--out", type=Path, metavar="FILE", help="the page (default dataset.html in DIR)")


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    options = parser().parse_args(arguments)
    from rich.console import Console

    from platform.errors import InputError, print_error

    console = Console(highlight=False, soft_wrap=True)
    try:
        return importlib.import_module(f"platform.curation.{options.command}").run(options, console)
    except InputError as error:
        print_error(Console(stderr=True), error)
        return EXIT_BAD_INPUT


if __name__ == "__main__":
    end_with(main, INTERRUPTED)
