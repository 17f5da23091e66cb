"""HTML page of one data set: decisions for a person, classes with examples, sizes, changes, copies, splits."""

import shlex
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from platform.curation.cleaning.findings import Action, Finding
from platform.curation.labels.grouping import DROP, is_merged
from platform.curation.pages.dataset_charts import all_charts
from platform.curation.pages.dataset_data import LABELS, Dataset, Label, visible
from platform.curation.pages.thumbnails import Crop, Thumbnails
from platform.data.detection import csv_boxes
from platform.data.files import inside, is_file
from platform.data.splits import SPLITS
from platform.reporting import html_page

MAX_EXAMPLES, MAX_PER_CLASS, MAX_CLASSES = 1600, 10, 800  # thumbnails of classes
MAX_QUESTIONS, MAX_OF_KIND, MAX_REPAIRS, MAX_GROUPS, MAX_OF_GROUP = 96, 12, 4, 9, 9  # shown of each
LARGE_GROUP = 5  # near duplicates from which a person is asked
MAX_MERGES, MAX_SPELLINGS, MAX_NAMES, MAX_HOSTS = 3000, 4, 200, 10  # listed of each
WHOLE, SMALL_WHOLE = (248, 150), (160, 100)  # largest size of whole images, pixels
COMMAND = "python -m platform.dataset"


def html(data: Dataset) -> tuple[str, int]:
    """Return the page of a data set, and how many decisions on it need a person."""
    thumbnails = Thumbnails()
    eye, copies = _eye(data, thumbnails), _copies(data, thumbnails)
    repaired = [each for each in data.findings if each.action != Action.ASK and not _other_image(data, each)]
    repairs = _kinds(data, repaired, thumbnails, MAX_REPAIRS)
    merged = [each for each in data.labels if is_merged(each.label, each.name, each.reason)]
    examples = _examples(data, thumbnails)  # last: they are left out first where the page becomes too large
    thumbnails.make()
    text = html_page.render(
        "dataset.html.j2",
        data.root.name,
        all_charts(data),
        title=visible(data.root.name),
        over=f"data set · {_state(data)}",
        under=_summary(data),
        alarms=_alarms(data),
        sections=_sections(data),
        made=f"Made on {time.strftime('%Y-%m-%d %H:%M')} from {data.table or f'the {data.layout} annotations'}.",
        data=data,
        visible=visible,
        counted=counted,
        thumbnails=thumbnails,
        figures=_figures(data, len(merged), eye["count"]),
        steps=_next_steps(data),
        eye=eye,
        classes=_class_table(data),
        examples=examples,
        sizes=_sizes(data),
        merges=_merges(data, merged),
        repairs=repairs,
        unusable=_count_table("problem", "times", Counter(str(repair.kind) for repair in data.repairs)),
        copies=copies,
        splits=_splits(data) if data.is_split else None,
        fetching=_fetching(data) if data.outcomes else None,
        origin=_origin(data),
    )
    return text, eye["count"]


def counted(n: int, one: str, many: str) -> str:
    """Return a number with its noun, e.g. "1 class", "1,200 classes"."""
    return f"{n:,} {one if n == 1 else many}"


def _state(data: Dataset) -> str:
    states = {csv_boxes.FETCHED: "fetched", csv_boxes.CLEANED: "cleaned", csv_boxes.SPLIT: "cleaned and split"}
    return states.get(data.table or "", data.layout)


def _summary(data: Dataset) -> str:
    nouns = ("class", "classes") if data.is_cleaned or not data.table else ("label", "labels as they were typed")
    empty = sum(not picture.boxes for picture in data.pictures)
    more = f"; {counted(empty, 'image has', 'images have')} none" if empty else ""
    images, boxes = counted(len(data.pictures), "image", "images"), counted(data.boxes, "box", "boxes")
    return f"{images} with {boxes} of {counted(len(data.boxes_by_class), *nouns)}{more}."


def _alarms(data: Dataset) -> list[str]:
    found = [visible(f"{warning[:1].upper()}{warning[1:]}.", 200) for warning in data.warnings]
    if not data.boxes:
        found.append("There is no usable box: nothing can be trained on this data set.")
    if data.is_cleaned and not data.labels:
        found.append(f"{LABELS} is missing, so the page cannot show how labels were grouped. Run clean again.")
    return found


def _sections(data: Dataset) -> list[tuple[str, str]]:
    shown = {
        ("eye", "Decisions"): data.is_cleaned,
        ("classes", "Classes"): True,
        ("examples", "Examples"): data.boxes_by_class,
        ("sizes", "Sizes"): data.boxes,
        ("labels", "Labels"): data.is_cleaned,
        ("repairs", "Repairs"): True,
        ("copies", "Copies"): data.is_cleaned,
        ("splits", "Splits"): True,
        ("fetching", "Fetching"): data.outcomes,
        ("origin", "Origin"): True,
    }
    return [section for section, there in shown.items() if there]


def _figures(data: Dataset, merged: int, decisions: int) -> list[tuple[str, int, str]]:
    """Return the headline: (name, number, what is added in small)."""
    typed = f"of {len(data.labels):,} spellings" if data.labels else ""
    classes = "classes" if data.is_cleaned or not data.table else "labels"
    found = [("images", len(data.pictures), ""), ("boxes", data.boxes, "")]
    found.append((classes, len(data.boxes_by_class), typed))
    if data.outcomes:
        listed = len({line["url"] for line in data.outcomes if line.get("url")})
        fetched = sum(bool(line.get("image")) for line in data.outcomes)
        found.append(("addresses fetched", fetched, f"of {listed:,} listed"))
    if data.is_cleaned:
        if before := data.summary.get("before"):
            lost = counted(max(0, before["boxes"] - data.boxes), "box", "boxes")
            found.append(("images set aside", max(0, before["images"] - len(data.pictures)), f"and {lost}"))
        found += [("labels merged", merged, ""), ("decisions for you", decisions, "")]
    return found


def _next_steps(data: Dataset) -> list[tuple[str, str]]:
    """Return (reason, command) of what can be done next."""
    folder = shlex.quote(str(data.root))
    steps = {
        ("Not cleaned: labels, boxes and images are as they came.", f"{COMMAND} clean {folder}"): not data.is_cleaned,
        ("Not split: training would make its own splits.", f"{COMMAND} split {folder}"): not data.is_split,
        ("Ready to train on.", f"python -m platform.tune detector --data {folder}"): data.is_split,
    }
    return [step for step, is_due in steps.items() if is_due]


def _eye(data: Dataset, thumbnails: Thumbnails) -> dict[str, Any]:
    """Return what only a person can decide: labels in doubt or without meaning, findings, large groups of copies."""
    undecided = [each for each in data.labels if not each.decision]
    asked = _questions(each for each in undecided if each.suggestion not in ("", DROP))
    silent = _questions(each for each in undecided if each.suggestion == DROP or not each.name)
    findings = [each for each in data.findings if each.action == Action.ASK]
    groups = _groups(data, lambda size: size >= LARGE_GROUP)
    folder, table = shlex.quote(str(data.root)), csv_boxes.table_of(data.root, before=csv_boxes.CLEANED)
    return {
        "count": len(asked) + len(silent) + len(findings) + len(groups),
        "asked": [_question(data, each, thumbnails) for each in asked[:MAX_QUESTIONS]],
        "asked_left": max(0, len(asked) - MAX_QUESTIONS),
        "silent": [_question(data, each, thumbnails) for each in silent[:MAX_OF_KIND]],
        "silent_left": max(0, len(silent) - MAX_OF_KIND),
        "kinds": _kinds(data, findings, thumbnails, MAX_OF_KIND),
        "groups": [_group(data, group, thumbnails) for group in groups[:MAX_GROUPS]],
        "groups_left": max(0, len(groups) - MAX_GROUPS),
        "source": table.name if table else "the annotations",
        "again": f"{COMMAND} clean {folder}",
        "decide": f"{COMMAND} clean {folder} --decisions {shlex.quote(str(data.root / LABELS))}",
    }


def _questions(labels: Iterable[Label]) -> list[list[Label]]:
    """Group spellings of one class with one suggestion, the most frequent first."""
    questions: dict[tuple[str, str], list[Label]] = defaultdict(list)
    for each in sorted(labels, key=lambda each: (each.label != each.name, -each.boxes, each.label)):
        questions[each.name or each.label, each.suggestion].append(each)
    return sorted(questions.values(), key=lambda labels: (-sum(each.boxes for each in labels), labels[0].label))


def _question(data: Dataset, labels: Sequence[Label], thumbnails: Thumbnails) -> dict[str, Any]:
    """Return a label to be decided about, beside an example of the class that is suggested."""
    first = labels[0]
    written = next(iter(data.written.get(first.label, [])), None)
    example = next(iter(_spread(data.boxes_by_class.get(first.suggestion, []), 1)), None)
    return {
        "label": first,
        "more": len(labels) - 1,
        "boxes": sum(each.boxes for each in labels),
        "crop": thumbnails.request(Crop(written[0], (written[1],))) if written else None,
        "suggested": thumbnails.request(Crop(example[0].path, (example[1],))) if example else None,
    }


def _kinds(data: Dataset, findings: Iterable[Finding], thumbnails: Thumbnails, most: int) -> list[dict[str, Any]]:
    """Return findings by action and kind, the most frequent first, each with the first ones to be shown."""
    by_kind: dict[tuple[str, str], list[Finding]] = defaultdict(list)
    for each in findings:
        by_kind[each.kind, each.action].append(each)
    order = sorted(by_kind.items(), key=lambda item: -len(item[1]))
    return [
        {"kind": kind, "action": str(action), "count": len(found), "shown": [
            {"finding": each, "crops": _finding_crops(data, each, thumbnails)} for each in found[:most]]}
        for (kind, action), found in order
    ]  # fmt: skip


def _finding_crops(data: Dataset, finding: Finding, thumbnails: Thumbnails) -> list[Crop]:
    """Return the crops that show a finding: its image with the box before and after, and the image it is a copy of."""
    other = _other_image(data, finding)
    size = SMALL_WHOLE if other else WHOLE
    used, written = (finding.mended,) if finding.mended else (), (finding.box,) if finding.box else ()
    paths = [path for path in (_image(data, finding.image), other) if path]
    return [thumbnails.request(Crop(path, used, written, whole=True, size=size)) for path in paths]


def _copies(data: Dataset, thumbnails: Thumbnails) -> dict[str, Any]:
    """Return images that are the same or nearly so, without the large groups, which a person is asked about."""
    # near duplicates, which are kept, are shown by group
    pairs = [each for each in data.findings if each.action == Action.SET_ASIDE and _other_image(data, each)]
    groups = _groups(data, lambda size: size < LARGE_GROUP)
    return {
        "kinds": _kinds(data, pairs, thumbnails, MAX_GROUPS),
        "groups": [_group(data, group, thumbnails) for group in groups[:MAX_GROUPS]],
        "groups_left": max(0, len(groups) - MAX_GROUPS),
        "images": sum(map(len, data.near_duplicates.values())),
    }


def _groups(data: Dataset, fits: Callable[[int], bool]) -> list[list[tuple[str, float | None]]]:
    """Return the groups of near duplicates whose size fits, the largest first."""
    return sorted((group for group in data.near_duplicates.values() if fits(len(group))), key=len, reverse=True)


def _group(data: Dataset, group: Sequence[tuple[str, float | None]], thumbnails: Thumbnails) -> dict[str, Any]:
    paths = [path for name, _ in group[:MAX_OF_GROUP] if (path := _image(data, name))]
    crops = [thumbnails.request(Crop(path, whole=True, size=SMALL_WHOLE)) for path in paths]
    distances = [distance for _, distance in group if distance is not None]
    return {"crops": crops, "count": len(group), "distance": max(distances, default=None)}


def _other_image(data: Dataset, finding: Finding) -> Path | None:
    """Return the second image of a finding about a pair of images."""
    return _image(data, finding.other) if finding.image and finding.other and not finding.box else None


def _image(data: Dataset, name: str) -> Path | None:
    """Return an image that a table names; only files of the data set are shown."""
    path = inside(data.root, data.root, name) if name else None
    return path if path and is_file(path) else None


def _spread(items: Sequence[Any], most: int) -> list[Any]:
    """Return at most so many items, evenly from the whole sequence."""
    return [items[(2 * n + 1) * len(items) // (2 * most)] for n in range(most)] if len(items) > most else list(items)


def _class_table(data: Dataset) -> dict[str, Any]:
    """Return a row for each class: boxes, images in each split, spellings."""
    spellings: dict[str, list[str]] = defaultdict(list)
    for each in sorted(data.labels, key=lambda each: -each.boxes):
        if each.name and each.label != each.name:
            spellings[each.name].append(f"{visible(each.label, 40)} ×{each.boxes}")
    splits = [split for split in SPLITS if any(picture.split == split for picture in data.pictures)]
    rows = []
    for name, boxes in data.boxes_by_class.items():
        row = [visible(name), len(boxes), data.images_of(name), *(data.images_of(name, split) for split in splits)]
        if data.labels:
            row += [len(spellings[name]) + 1, _first(spellings[name], MAX_SPELLINGS)]
        rows.append(row)
    more = ["spellings", "merged into it"] if data.labels else []
    return html_page.table(["class", "boxes", "images", *splits, *more], rows)


def _first(texts: Sequence[str], most: int) -> str:
    rest = f" and {len(texts) - most} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + rest


def _examples(data: Dataset, thumbnails: Thumbnails) -> dict[str, Any]:
    """Return crops of each class; each class gets its first before any gets its second, should the page be full."""
    shown = list(data.boxes_by_class.items())[:MAX_CLASSES]
    few = max(1, min(MAX_PER_CLASS, MAX_EXAMPLES // max(1, len(shown))))
    crops = {name: [Crop(picture.path, (box,)) for picture, box in _spread(boxes, few)] for name, boxes in shown}
    for place in range(few):
        for of_class in crops.values():
            for crop in of_class[place : place + 1]:
                thumbnails.request(crop)
    return {"crops": crops, "left": len(data.boxes_by_class) - len(shown), "few": few}


def _sizes(data: Dataset) -> str:
    """Return boxes by COCO's three sizes, boxes per image, and the images' size if they have only one."""
    if not data.areas:
        return ""
    small, large = sum(area < 32**2 for area in data.areas), sum(area > 96**2 for area in data.areas)
    counts = {"small": small, "medium": data.boxes - small - large, "large": large}
    shares = ", ".join(f"{count / data.boxes:.0%} {name}" for name, count in counts.items())
    text = f"By COCO's sizes: {shares}; small is less than 32 × 32 px, large more than 96 × 96 px."
    text += f" An image has {data.boxes / len(data.pictures):.1f} boxes on average."
    sizes = {(picture.width, picture.height) for picture in data.pictures}
    return text + "".join(f" All images have {width} × {height} px." for width, height in sizes if len(sizes) == 1)


def _merges(data: Dataset, merged: list[Label]) -> dict[str, Any]:
    """Return which spellings became which class, and why."""
    order = {name: place for place, name in enumerate(data.boxes_by_class)}
    merged.sort(key=lambda each: (order.get(each.name, len(order)), each.name, -each.boxes, each.label))
    rows = [
        [visible(each.name), visible(each.label), visible(each.reason), each.score, each.boxes, visible(each.matched)]
        for each in merged[:MAX_MERGES]
    ]
    return {
        "count": len(merged),
        "classes": len({each.name for each in merged}),
        "table": html_page.table(["class", "typed as", "reason", "score", "boxes", "matched with"], rows),
        "left": len(merged) - len(rows),
    }


def _count_table(name: str, number: str, counts: Counter[str]) -> dict[str, Any]:
    return html_page.table([name, number], [list(item) for item in counts.most_common()])


def _splits(data: Dataset) -> dict[str, Any]:
    """Return the size of each split, and the classes that are missing from it."""
    there = [split for split in SPLITS if any(picture.split == split for picture in data.pictures)]
    rows, missing = [], {}
    for split in there:
        pictures = [picture for picture in data.pictures if picture.split == split]
        lacking = [visible(name, 40) for name in data.boxes_by_class if not data.images_of(name, split)]
        rows.append([split, len(pictures), f"{len(pictures) / len(data.pictures):.1%}",
                     sum(len(picture.boxes) for picture in pictures), len(data.boxes_by_class) - len(lacking),
                     len(lacking)])  # fmt: skip
        if lacking:
            missing[split] = (len(lacking), _first(lacking, MAX_NAMES))
    lines = [f"There is no {split} split." for split in SPLITS if split not in there]
    rare = data.split_facts.get("rare", {}).get("boxes", {})
    if rare:
        names = _first([visible(name, 40) for name in sorted(rare)], MAX_NAMES)
        classes, boxes = (counted(len(rare), "rare class", "rare classes"), counted(sum(rare.values()), "box", "boxes"))
        lines.append(f"Without a class of its own after the split: {classes} with {boxes}: {names}.")
    columns = ["split", "images", "share", "boxes", "classes", "missing classes"]
    return {"table": html_page.table(columns, rows), "lines": lines, "missing": missing}


def _fetching(data: Dataset) -> dict[str, Any]:
    """Return the addresses by outcome, and the hosts that failed most."""
    outcomes = Counter(visible(str(line.get("outcome", ""))) for line in data.outcomes)
    failed = Counter(visible(_host(str(line.get("url") or ""))) for line in data.outcomes if not line.get("image"))
    return {
        "outcomes": _count_table("outcome", "addresses", outcomes),
        "hosts": _count_table("host", "failed addresses", Counter(dict(failed.most_common(MAX_HOSTS)))),
    }


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or "none"
    except ValueError:
        return "none"


def _origin(data: Dataset) -> dict[str, Any]:
    """Return the table of the page's source, and of the settings of cleaning and split."""
    facts = {"folder": data.root, "layout": data.layout, "table": data.table or "the annotations"}
    facts |= {f"cleaning, {key}": value for key, value in data.summary.get("thresholds", {}).items()}
    facts |= {f"split, {key}": data.split_facts[key] for key in ("seed", "shares") if key in data.split_facts}
    return html_page.pairs({visible(key): visible(str(value), 200) for key, value in facts.items()})
