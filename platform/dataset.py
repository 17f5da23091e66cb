"""Make a detection data set from a messy list of image addresses, labels and boxes.

python -m platform.dataset fetch logos.csv --out logos/     # downloads every image; continues after an interrupt
python -m platform.dataset clean logos/                     # groups labels, checks boxes and images, lists all changes
python -m platform.dataset split logos/                     # stratified; near duplicates stay together
python -m platform.dataset report logos/                    # one HTML page: classes, changes, open decisions
python -m platform.dataset convert logos/ coco/ --to coco   # COCO, Pascal VOC, YOLO, CSV
"""

import argparse
import importlib
from pathlib import Path

from platform.errors import InputError, print_error
from platform.signals import run_and_exit

USER_AGENT = "platform-tune-dataset/0.1"
INTERRUPTED = "The files are complete so far, and the same command continues from here."


def parser() -> argparse.ArgumentParser:
    """Return the parser of the commands and their options."""
    p = argparse.ArgumentParser(
        prog="python -m platform.dataset", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = p.add_subparsers(dest="command", required=True, metavar="COMMAND")
    direct = "Requests go directly to the servers: proxies of the environment are not used, and no cookies are kept."
    _fetch(
        commands.add_parser("fetch", help="a list of addresses → images, fetched.csv, manifest.jsonl", epilog=direct)
    )
    _clean(commands.add_parser("clean", help="group labels, repair boxes and images → cleaned.csv, cleaning/"))
    _split(commands.add_parser("split", help="training, validation and test → split.csv"))
    _convert(commands.add_parser("convert", help="one layout → another"))
    _report(commands.add_parser("report", help="one HTML page → dataset.html"))
    return p


def _fetch(p: argparse.ArgumentParser) -> None:
    p.add_argument("list", type=Path, metavar="LIST", help="CSV, TSV or JSON lines with url, label, box")
    p.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the images and tables")
    for what, many in (("url", "addresses"), ("label", "labels"), ("box", "boxes")):
        p.add_argument(f"--{what}-column", metavar="NAME", help=f"column of {many} (default: found by the usual names)")
    p.add_argument(
        "--encoding",
        default="detect",
        metavar="NAME",
        help="encoding of the list, for example utf-8 (default: detected)",
    )
    p.add_argument("--box", choices=("xyxy", "xywh", "cxcywh"), help="meaning of a box's four numbers (default: by the "
                   "columns' names, otherwise xyxy)")  # fmt: skip
    p.add_argument("--concurrent", type=int, default=32, metavar="N", help="connections at a time (default 32)")
    p.add_argument("--per-host", type=int, default=4, metavar="N", help="connections to one host at a time (default 4)")
    p.add_argument(
        "--timeout", type=float, default=30, metavar="S", help="seconds that one image may take (default 30)"
    )
    p.add_argument(
        "--max-mb", type=float, default=20, metavar="MB", help="largest file of an image in megabytes (default 20)"
    )
    p.add_argument("--max-mpx", type=float, default=50, metavar="MPX", help="largest image in megapixels (default 50)")
    p.add_argument(
        "--tries",
        type=int,
        default=3,
        metavar="N",
        help="tries after failures that may pass, such as a busy server (default 3)",
    )
    p.add_argument("--again", action="store_true", help="also retry failures of an earlier run that may have passed")
    p.add_argument("--user-agent", default=USER_AGENT, metavar="TEXT", help="name sent to the servers; some require "
                   f"a contact address in it (default {USER_AGENT})")  # fmt: skip
    p.add_argument("--allow", action="append", default=[], metavar="NETWORK", help="private network that may be "
                   "reached, e.g. 10.1.0.0/16; may be repeated")  # fmt: skip


def _clean(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "dir", type=Path, metavar="DIR", help="output of fetch, or a folder in COCO, Pascal VOC, YOLO or CSV layout"
    )
    p.add_argument("--aliases", type=Path, metavar="FILE", help="CSV with the columns alias and class")
    p.add_argument(
        "--decisions", type=Path, metavar="FILE", help="an edited cleaning/labels.csv, whose column decision is read"
    )
    p.add_argument("--merge-at", type=float, default=0.92, metavar="SCORE", help="lowest likeness of labels that "
                   "are merged (default 0.92)")  # fmt: skip
    p.add_argument("--ask-at", type=float, default=0.8, metavar="SCORE", help="lowest likeness of labels that a person "
                   "is asked about (default 0.8)")  # fmt: skip
    p.add_argument(
        "--min-image", type=int, default=32, metavar="PX", help="smallest shorter side of an image (default 32)"
    )
    p.add_argument("--min-box", type=float, default=4, metavar="PX", help="smallest shorter side of a box (default 4)")
    p.add_argument("--max-box", type=float, default=0.98, metavar="SHARE", help="largest share of the image that a box "
                   "may cover (default 0.98)")  # fmt: skip


def _split(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "dir", type=Path, metavar="DIR", help="output of clean, or a folder in COCO, Pascal VOC, YOLO or CSV layout"
    )
    p.add_argument("--shares", type=float, nargs=3, default=(0.7, 0.15, 0.15), metavar="SHARE", help="of training, "
                   "validation and test (default 0.7 0.15 0.15)")  # fmt: skip
    p.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the split (default 0)")
    p.add_argument("--min-per-class", type=int, default=1, metavar="N", help="fewest images of a class (default 1)")
    p.add_argument("--rare", choices=("other", "drop"), default="other", help="rename rarer classes to other, or drop "
                   "their boxes (default other)")  # fmt: skip


def _convert(p: argparse.ArgumentParser) -> None:
    p.add_argument("dir", type=Path, metavar="A", help="folder in COCO, Pascal VOC, YOLO or CSV layout")
    p.add_argument("out", type=Path, metavar="B", help="a new or empty folder")
    p.add_argument("--to", choices=("coco", "voc", "yolo", "csv"), required=True, help="layout of B")


def _report(p: argparse.ArgumentParser) -> None:
    p.add_argument("dir", type=Path, metavar="DIR", help="output of fetch, clean or split, or any known layout")
    p.add_argument("--out", type=Path, metavar="FILE", help="the page (default dataset.html in DIR)")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    options = parser().parse_args(arguments)
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    try:
        return importlib.import_module(f"platform.curation.{options.command}").run(options, console)
    except InputError as error:
        return print_error(Console(stderr=True), error)


if __name__ == "__main__":
    run_and_exit(main, INTERRUPTED)
