"""Predictions as lines of JSON, or as rows of CSV.

A prediction is an object. In a row its plain values are columns, and so are those of an object in it, named after both:
{"genre": {"class": …}} is the column genre.class. A list of objects, boxes say, is a row for each of them, whose
columns have the objects' own names; where it is empty there is one row all the same, without them.
"""

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TextIO

KINDS = ("jsonl", "csv")
BOX, CORNERS = "box", ("x1", "y1", "x2", "y2")  # of a box in pixels


def writer(kind: str, stream: TextIO, example: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], Any]:
    """What writes a prediction to a stream; CSV begins with its header.

    Args:
        kind: One of KINDS.
        stream: Opened for text; for CSV with newline="".
        example: A prediction with all that there can be in one.
    """
    if kind == "jsonl":
        return lambda prediction: stream.write(json.dumps(prediction, ensure_ascii=False) + "\n")
    many = _many(example)
    table = csv.DictWriter(stream, columns(example), lineterminator="\n")
    table.writeheader()
    return lambda prediction: table.writerows(rows(prediction, many))


def columns(example: Mapping[str, Any]) -> list[str]:
    """The names of the columns, in order.

    Raises:
        ValueError: Two are the same, or there are two lists of objects: rows could not tell them apart.
    """
    many = _many(example)
    names = [name for name, _ in _flat({key: value for key, value in example.items() if key != many})]
    names += [name for name, _ in _flat(example[many][0])] if many else []
    if len(set(names)) < len(names):
        raise ValueError(f"a prediction's names must differ, as columns; found {names}")
    return names


def rows(prediction: Mapping[str, Any], many: str) -> list[dict[str, Any]]:
    """A prediction's rows, by column.

    Args:
        prediction: What is to be flattened.
        many: The name of its list of objects; "" where it has none.
    """
    whole = dict(_flat({key: value for key, value in prediction.items() if key != many}))
    return [whole | dict(_flat(item)) for item in prediction.get(many) or [{}]]


def _many(example: Mapping[str, Any]) -> str:
    lists = [key for key, value in example.items() if _is_list(value) and value and isinstance(value[0], Mapping)]
    if len(lists) > 1:
        raise ValueError(f"a prediction must have one list of objects at most; found {', '.join(lists)}")
    return lists[0] if lists else ""


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            yield from _flat(inner, f"{prefix}{key}.")
        elif key == BOX and _is_list(inner):
            yield from ((prefix + corner, side) for corner, side in zip(CORNERS, inner, strict=True))
        else:
            yield prefix + key, json.dumps(inner, ensure_ascii=False) if _is_list(inner) else inner


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)
