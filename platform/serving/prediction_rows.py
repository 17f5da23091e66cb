"""Predictions as lines of JSON or rows of CSV.

A prediction is an object. Each plain value becomes a column; the values of an object inside become columns named after
both, e.g. {"genre": {"class": …}} becomes the column genre.class. A list of objects, e.g. boxes, becomes a row for each
object, with the objects' own names as columns; an empty list still gives one row, with these columns empty.
"""

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TextIO

FORMATS = ("jsonl", "csv")
BOX, CORNERS = "box", ("x1", "y1", "x2", "y2")  # key of a box, and its columns, in pixels


def writer(kind: str, stream: TextIO, example: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], Any]:
    """Return a function that writes a prediction to a stream; for CSV the header is written at once.

    Args:
        kind: One of FORMATS.
        stream: Text stream; for CSV opened with newline="".
        example: Prediction with every name that a prediction can have.
    """
    if kind == "jsonl":
        return lambda prediction: stream.write(json.dumps(prediction, ensure_ascii=False) + "\n")
    list_name = _name_of_list(example)
    table = csv.DictWriter(stream, columns(example), lineterminator="\n")
    table.writeheader()
    return lambda prediction: table.writerows(rows(prediction, list_name))


def columns(example: Mapping[str, Any]) -> list[str]:
    """Return the names of the columns, in order.

    Raises:
        ValueError: Two columns have the same name, or there are two lists of objects.
    """
    list_name = _name_of_list(example)
    names = [name for name, _ in _flat({key: value for key, value in example.items() if key != list_name})]
    names += [name for name, _ in _flat(example[list_name][0])] if list_name else []
    if len(set(names)) < len(names):
        raise ValueError(f"a prediction's names must differ when they are columns; found {names}")
    return names


def rows(prediction: Mapping[str, Any], list_name: str) -> list[dict[str, Any]]:
    """Return a prediction's rows, each a value by column.

    Args:
        prediction: Prediction to flatten.
        list_name: Name of its list of objects; "" if it has none.
    """
    shared = dict(_flat({key: value for key, value in prediction.items() if key != list_name}))
    return [shared | dict(_flat(item)) for item in prediction.get(list_name) or [{}]]


def _name_of_list(example: Mapping[str, Any]) -> str:
    lists = [key for key, value in example.items() if _is_list(value) and value and isinstance(value[0], Mapping)]
    if len(lists) > 1:
        raise ValueError(f"a prediction must have at most one list of objects; found {', '.join(lists)}")
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
