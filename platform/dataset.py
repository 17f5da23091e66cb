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

FOLDER = "folder in COCO, Pascal VOC, YOLO or CSV layout"
USER_AGENT = "platform-tune-dataset/0.1"
INTERRUPTED = "The files are complete so far, and the same command continues from here."


def parser() -> argparse.ArgumentParser:
    """Return the parser of the commands and their options."""
    p = argparse.ArgumentParser(
        prog="python -m platform.dataset", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = p.add_subparsers(dest="command", required=True, metavar="COMMAND")
    direct = "Requests go directly to the servers: proxies of the environment are not used, and no cookies are kept."
    images = "a list of addresses → images, fetched.csv, manifest.jsonl"
    _fetch(commands.add_parser("fetch", help=images, epilog=direct))
    _clean(commands.add_parser("clean", help="group labels, repair boxes and images → cleaned.csv, cleaning/"))
    _split(commands.add_parser("split", help="training, validation and test → split.csv"))
    _convert(commands.add_parser("convert", help="one layout → another"))
    _report(commands.add_parser("report", help="one HTML page → dataset.html"))
    return p


def _option(p: argparse.ArgumentParser, name: str, kind: type, default: object, metavar: str, text: str) -> None:
    p.add_argument(name, type=kind, default=default, metavar=metavar, help=f"{text} (default {default})")


def _fetch(p: argparse.ArgumentParser) -> None:
    p.add_argument("list", type=Path, metavar="LIST", help="CSV, TSV or JSON lines with url, label, box")
    p.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the images and tables")
    for what, many in (("url", "addresses"), ("label", "labels"), ("box", "boxes")):
        p.add_argument(f"--{what}-column", metavar="NAME", help=f"column of {many} (default: found by the usual names)")
    encoding = "encoding of the list, for example utf-8 (default: detected)"
    p.add_argument("--encoding", default="detect", metavar="NAME", help=encoding)
    meaning = "meaning of a box's four numbers (default: by the columns' names, otherwise xyxy)"
    p.add_argument("--box", choices=("xyxy", "xywh", "cxcywh"), help=meaning)
    _option(p, "--concurrent", int, 32, "N", "connections at a time")
    _option(p, "--per-host", int, 4, "N", "connections to one host at a time")
    _option(p, "--timeout", float, 30, "S", "seconds that one image may take")
    _option(p, "--max-mb", float, 20, "MB", "largest file of an image in megabytes")
    _option(p, "--max-mpx", float, 50, "MPX", "largest image in megapixels")
    _option(p, "--tries", int, 3, "N", "tries after failures that may pass, such as a busy server")
    p.add_argument("--again", action="store_true", help="also retry failures of an earlier run that may have passed")
    agent = "name sent to the servers; some require a contact address in it"
    _option(p, "--user-agent", str, USER_AGENT, "TEXT", agent)
    allow = "private network that may be reached, e.g. 10.1.0.0/16; may be repeated"
    p.add_argument("--allow", action="append", default=[], metavar="NETWORK", help=allow)


def _clean(p: argparse.ArgumentParser) -> None:
    p.add_argument("dir", type=Path, metavar="DIR", help=f"output of fetch, or a {FOLDER}")
    p.add_argument("--aliases", type=Path, metavar="FILE", help="CSV with the columns alias and class")
    decisions = "an edited cleaning/labels.csv, whose column decision is read"
    p.add_argument("--decisions", type=Path, metavar="FILE", help=decisions)
    _option(p, "--merge-at", float, 0.92, "SCORE", "lowest likeness of labels that are merged")
    _option(p, "--ask-at", float, 0.8, "SCORE", "lowest likeness of labels that a person is asked about")
    _option(p, "--min-image", int, 32, "PX", "smallest shorter side of an image")
    _option(p, "--min-box", float, 4, "PX", "smallest shorter side of a box")
    _option(p, "--max-box", float, 0.98, "SHARE", "largest share of the image that a box may cover")


def _split(p: argparse.ArgumentParser) -> None:
    p.add_argument("dir", type=Path, metavar="DIR", help=f"output of clean, or a {FOLDER}")
    shares = "of training, validation and test (default 0.7 0.15 0.15)"
    p.add_argument("--shares", type=float, nargs=3, default=(0.7, 0.15, 0.15), metavar="SHARE", help=shares)
    _option(p, "--seed", int, 0, "N", "seed of the split")
    _option(p, "--min-per-class", int, 1, "N", "fewest images of a class")
    rare = "rename rarer classes to other, or drop their boxes (default other)"
    p.add_argument("--rare", choices=("other", "drop"), default="other", help=rare)


def _convert(p: argparse.ArgumentParser) -> None:
    p.add_argument("dir", type=Path, metavar="A", help=FOLDER)
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
