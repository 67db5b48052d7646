"""Files of triples: a link a line, head, relation and tail between tabs or commas.

``triples:FILE``, or ``triples:FOLDER`` with ``train``, and perhaps ``test`` and ``valid``, each ending in
``.txt .tsv`` or ``.csv``; links of ``valid`` are no rows, but known to be true. Beside a file
``entities.txt`` and ``relations.txt`` may list all names, one a line: parties whose files hold different ones
need them.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fedkt.data.columns.labels import in_order, listed
from fedkt.data.graph.vocabulary import Graph, Triples
from fedkt.errors import InputError
from fedkt.files import data_places

HALVES = ("train", "test", "valid")
ENDINGS = (".txt", ".tsv", ".csv")
LISTS = ("entities.txt", "relations.txt")
HEADINGS = (("head", "relation", "tail"), ("subject", "predicate", "object"), ("h", "r", "t"))
"""A first line that is no link."""
Line = tuple[str, str, str]
_MOST = 3


@dataclass(frozen=True, eq=False)
class Read:
    """Links [n, 3] by the file's part, and what their numbers stand for; ``repeated``: lines left out."""

    parts: Mapping[str, Triples]
    graph: Graph
    repeated: int


def read_triples(name: str, data_dir: Path | None, *, repeats: bool = False) -> Read:
    """Read ``triples:NAME``; ``repeats``: what a list of candidates repeats stays. Raises InputError with all
    problems."""
    where, path = f"triples:{name}", _found(name, data_dir)
    files = {"train": path} if path.is_file() else _halves(where, path)
    texts = {
        part: _lines(where if path.is_file() else f"{where}/{file.name}", file)
        for part, file in files.items()
    }
    folder = path.parent if path.is_file() else path
    return numbered(where, texts, [_listed(folder / file) for file in LISTS], repeats=repeats)


def write_triples(folder: Path, parts: Mapping[str, Triples], graph: Graph) -> None:
    """Write links [n, 3] by part, and the lists of all names, as a folder that reads back as the same."""
    folder.mkdir(parents=True, exist_ok=True)
    for file, names in zip(LISTS, (graph.entities, graph.relations), strict=True):
        (folder / file).write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    called = np.array(["", *graph.entities, *graph.relations], object)
    for part, triples in {**parts, "valid": graph.known}.items():
        if len(triples):
            with open(folder / f"{part}.csv", "w", encoding="utf-8", newline="") as table:
                csv.writer(table, lineterminator="\n").writerows(called[triples])


def numbered(
    where: str,
    texts: Mapping[str, Sequence[Line]],
    given: Sequence[Sequence[str] | None] = (None, None),
    *,
    repeats: bool = False,
) -> Read:
    """Number links by their names: those ``given`` of entities and of relations, else those that occur.

    A link that a part repeats, or that an earlier part holds, is left out, unless ``repeats``.
    """
    lines = [line for part in texts.values() for line in part]
    held = [{name for line in lines for name in (line[0], line[2])}, {line[1] for line in lines}]
    problems = []
    for file, names, occurring in zip(LISTS, given, held, strict=True):
        odd = sorted(occurring - set(names or ())) if names is not None else []
        if odd:
            problems.append(f"{where} holds {listed(odd, repr)}, which {file} beside it does not list.")
    if problems:
        raise InputError(*problems)
    entities, relations = (
        tuple(in_order(occurring)) if names is None else tuple(names)
        for names, occurring in zip(given, held, strict=True)
    )
    graph = Graph(entities, relations)
    seen: set[Line] = set()
    parts: dict[str, Triples] = {}
    for part, held_there in texts.items():
        fresh = [line for line in dict.fromkeys(held_there) if line not in seen]
        seen.update(fresh)
        fresh = list(held_there) if repeats else fresh
        parts[part] = graph.triples(where, fresh)
    known = parts.pop("valid", np.zeros((0, 3), np.int64))
    return Read(parts, replace(graph, known=known), 0 if repeats else len(lines) - len(seen))


def _found(name: str, data_dir: Path | None) -> Path:
    places = data_places(name, data_dir)
    found = next((place for place in places if place.exists()), None)
    if found is None:
        raise InputError(
            f"triples:{name} was not found as {' or '.join(map(str, places))}; it must be a file of links, "
            "or a folder with train.txt and perhaps test.txt."
        )
    return found


def _halves(where: str, folder: Path) -> dict[str, Path]:
    found = {half: file for half in HALVES for end in ENDINGS if (file := folder / f"{half}{end}").is_file()}
    if "train" not in found:
        raise InputError(f"{where} holds no train.txt, train.tsv or train.csv; it must hold one.")
    return found


def _text(where: str, path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{where} cannot be read as UTF-8 text; it must be a file of triples.") from error


def _lines(where: str, path: Path) -> list[Line]:
    """Return the links of a file. Raises InputError with what is wrong in which lines."""
    text = _text(where, path).splitlines()
    rows = csv.reader(text) if "\t" not in next(filter(None, text), "") else (t.split("\t") for t in text)
    found: list[Line] = []
    wrong: list[str] = []
    try:
        for number, cells in enumerate(rows, 1):
            fields = [cell.strip() for cell in cells]
            if not any(fields):
                continue
            if len(fields) != 3:
                wrong.append(f"line {number} has {len(fields)} of 3 fields")
            elif not all(fields):
                wrong.append(f"line {number} lacks its {('head', 'relation', 'tail')[fields.index('')]}")
            elif found or wrong or tuple(map(str.lower, fields)) not in HEADINGS:
                found.append((fields[0], fields[1], fields[2]))
    except csv.Error as error:
        raise InputError(f"{where} cannot be read as a table of triples: {error}.") from error
    if wrong:
        more = f" and {len(wrong) - _MOST} more" if len(wrong) > _MOST else ""
        raise InputError(
            f"{where}: {', '.join(wrong[:_MOST])}{more}; each line must hold head, relation and tail between "
            "tabs or commas."
        )
    if not found:
        raise InputError(f"{where} holds no links; each line must hold head, relation and tail.")
    return found


def _listed(path: Path) -> list[str] | None:
    """Return the names that a list holds, None where there is no such file. Raises InputError."""
    if not path.is_file():
        return None
    names = [name for line in _text(path.name, path).splitlines() if (name := line.strip())]
    if len(set(names)) < len(names) or not names:
        raise InputError(f"{path.name} must list names, each once, one a line.")
    return names
