"""Rows of results: files that a stop cannot spoil, means over seeds, lines of tables.

A CSV is either appended to, cell by cell, by as many processes as there are
(:func:`append`, :func:`read_cells`), or replaced as a whole by the one process that
it belongs to (:func:`write`, :func:`read`).
"""

from __future__ import annotations

import csv
import fcntl
import io
import os
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).parent / "results"


def append(path, rows, columns):
    """Append the rows of one finished cell in a single write, under a lock.

    A row that an earlier stop cut short is removed: its open quote would swallow
    what follows.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    csv.DictWriter(text, columns, lineterminator="\n").writerows(rows)
    with open(path, "a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        whole = file.read().rfind(b"\n") + 1
        file.truncate(whole)
        header = "" if whole else ",".join(columns) + "\n"
        file.write((header + text.getvalue()).encode())
        file.flush()
        os.fsync(file.fileno())


def read_cells(path, *, cell, row, size):
    """Read the rows of finished cells: one that a stop cut short is left out.

    Parameters
    ----------
    path : path
        Need not exist.
    cell, row : sequence of str
        Columns that tell cells apart, and the rows within one. What is there twice
        counts once.
    size : str
        Column that says how many rows the cell has.

    Raises
    ------
    ValueError
        If a row has other columns than the file's first line says.
    """
    path, cells = Path(path), {}
    text = path.read_text() if path.exists() else ""
    for found in csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1])):
        if None in found or None in found.values() or not found[size].isdigit():
            raise ValueError(f"{path}: a row with other columns: {found}")
        place, own = (tuple(found[name] for name in names) for names in (cell, row))
        cells.setdefault(place, {})[own] = found
    return [
        found
        for own in cells.values()
        for found in own.values()
        if found[size] == str(len(own))
    ]


def write(path, rows, columns):
    """Replace a CSV in one step: a stop leaves the old one or the new one."""
    draft = Path(path).with_suffix(".part")
    with open(draft, "w", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    draft.replace(path)


def read(path):
    """Read all rows of a CSV; none where there is no file."""
    if not Path(path).exists():
        return []
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def grouped(rows, key):
    """Group rows by what a function says of each, in the order met."""
    found = {}
    for row in rows:
        found.setdefault(key(row), []).append(row)
    return found


def person_scores(rows):
    """Person -> mean score: one however many seeds and draws."""
    people = grouped(rows, lambda row: int(row["person"]))
    return {
        person: float(np.mean([float(row["score"]) for row in own]))
        for person, own in people.items()
    }


def spread(mean, low, high, form="{:.1f}"):
    """Give a mean and its interval, in points or percent."""
    mean, low, high = (form.format(100 * value) for value in (mean, low, high))
    return f"{mean} ({low} to {high})"


def line(cells):
    """Give a line of a markdown table."""
    return "| " + " | ".join(cells) + " |"


def description(doc):
    """Give what a docstring says below its title and commands, a line a paragraph."""
    paragraphs = doc.split("\n\n")[2:]
    return "\n\n".join(part.replace("\n", " ").strip() for part in paragraphs)
