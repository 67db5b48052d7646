"""Labels as numbers: one number per name in a whole federation."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedkt.data.columns.cells import array_of, is_missing, plural, texts_of
from fedkt.errors import InputError

Labels = NDArray[np.int64]
LabelNames = tuple[str, ...]

MOST_CLASSES = 1 << 20
"""Most classes: what a deployed site may say that it has."""
_SHOWN = 12
_NUMBER = re.compile(r"-?\d+")


def labels_of(
    where: str, y: Any, target: str | None, names: Sequence[str] | None = None
) -> tuple[Labels, LabelNames | None]:
    """Return labels as int64 [n], and their names in the order of their numbers where they have names.

    ``y``: whole numbers from 0, or texts (also bytes, UTF-8), which are numbered in sorted order, or any
    numbers where ``target``, a comparison ``y>N``, makes two classes of them; ``names``: what numbers stand
    for, where the source says so. Raises InputError where a label is missing or is no label.
    """
    y = array_of(f"{where}: y is", y)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1:
        raise InputError(f"{where}: y has shape {y.shape}; it must have one dimension, a label per row.")
    missing = is_missing(y)
    if missing.any():
        raise InputError(
            f"{where}: the label is missing in {int(missing.sum())} of {plural(len(y), 'row')} (first: row "
            f"{int(missing.argmax())}); each row must have one, so leave those out or fill them."
        )
    if y.dtype == object and len(y) and not isinstance(y[0], str | bytes):
        y = _unboxed(where, y)
    if y.dtype.kind in "USTO":
        found, code = np.unique(texts_of(f"{where}: y", y), return_inverse=True)
        held = [str(name) for name in found]
        names = in_order(held)
        place = {name: number for number, name in enumerate(names)}
        y = np.array([place[name] for name in held], np.int64)[code]
    if target is not None:
        return _compared(where, y, target, names), None
    labels = _whole(where, y)
    if names is not None and len(labels) and labels.max() >= len(names):
        raise InputError(
            f"{where}: y holds {labels.max()}, but there are names for {len(names)} classes; name all."
        )
    return labels, None if names is None else tuple(names)


def _unboxed(where: str, y: NDArray[Any]) -> NDArray[Any]:
    """Return Python numbers as an array of numbers."""
    try:
        plain = np.array(y.tolist())
    except (ValueError, OverflowError):
        plain = y
    if plain.dtype.kind not in "biuf" or plain.ndim != 1:
        kinds = sorted({type(value).__name__ for value in y})
        raise InputError(
            f"{where}: y holds {' and '.join(kinds[:3])} values, such as {str(y[0])[:40]!r}; labels must be "
            f"names, or whole numbers from 0 to {MOST_CLASSES - 1}."
        )
    return plain


def _whole(where: str, y: NDArray[Any]) -> Labels:
    """Return numbers as labels; raises InputError unless they are whole and from 0."""
    needed = f"labels must be whole numbers from 0 to {MOST_CLASSES - 1}"
    remedy = "or data.target must make two classes of them, or data.task be regression"
    if y.dtype.kind not in "biuf":
        raise InputError(f"{where}: y is of type {y.dtype}; {needed}, or names.")
    if y.dtype.kind == "f" and not np.array_equal(y, np.floor(y)):
        odd = y[y != np.floor(y)][0]
        raise InputError(f"{where}: y holds {odd:g}; {needed}, {remedy}.")
    if y.size and y.min() < 0:
        raise InputError(f"{where}: y holds {y.min():g}; {needed}, {remedy}.")
    if y.size and y.max() >= MOST_CLASSES:
        raise InputError(f"{where}: y holds {y.max()}; {needed}, {remedy}; are they ids?")
    return y.astype(np.int64)


def _compared(where: str, y: NDArray[Any], target: str, names: Sequence[str] | None) -> Labels:
    limit = float(target.partition(">")[2])
    if names is not None:
        try:
            y = np.array([float(name) for name in names])[y]
        except ValueError:
            raise InputError(
                f"{where}: data.target is {target!r}, but the labels are the names {listed(names)}; they "
                "must be numbers, or data.target be left out."
            ) from None
    if y.dtype.kind not in "biuf":
        raise InputError(
            f"{where}: data.target is {target!r}, but y is of type {y.dtype}; it must be numbers."
        )
    return (y > limit).astype(np.int64)


def renamed(
    where: str,
    y: Labels,
    names: LabelNames | None,
    sites: NDArray[np.str_],
    maps: Mapping[str, Mapping[str, str]],
    given: Sequence[str] | None = None,
) -> tuple[Labels, LabelNames]:
    """Return labels by common names, where sites call classes by names of their own.

    ``y`` int64 [n], ``names``: of these numbers, None where they are numbers; ``sites``: whose each row is;
    ``maps``: by site its names to the common ones; ``given``: all common ones, where ``data.classes`` lists
    them. Raises InputError where a map names what its site has not, or a label becomes none of these.
    """
    own = names if names is not None else tuple(str(n) for n in range(int(y.max(initial=0)) + 1))
    common: list[str] = [""] * len(y)
    problems = []
    for site in np.unique(sites):
        mine, known = np.flatnonzero(sites == site), maps.get(str(site), {})
        held = {own[n] for n in np.unique(y[mine])}
        odd = [name for name in known if name not in held]
        if odd:
            problems.append(
                f"data.label_maps.{site} names {listed(odd, repr)}, which no row of {where} has there; it "
                f"has {listed(sorted(held))}."
            )
        problems += _unlisted(where, str(site), sorted(held), known, given)
        for row in mine.tolist():
            common[row] = known.get(own[y[row]], own[y[row]])
    lost = [site for site in maps if site not in set(sites.tolist())]
    problems += [f"data.label_maps names {site!r}, which is no site of {where}." for site in lost]
    if problems:
        raise InputError(*problems)
    made = in_order(common)
    place = {name: number for number, name in enumerate(made)}
    return np.array([place[name] for name in common], np.int64), tuple(made)


def _unlisted(
    where: str, site: str, held: Sequence[str], known: Mapping[str, str], given: Sequence[str] | None
) -> list[str]:
    """Return which labels of a site do not become one that ``data.classes`` lists."""
    if given is None:
        return []
    odd = [name for name in held if known.get(name, name) not in given]
    wrong = [f"{name!r} to {known[name]!r}" for name in odd if name in known]
    bare = [name for name in odd if name not in known]
    right = f"data.classes is {listed(given)}; each label must become one of them"
    found = [f"data.label_maps.{site} brings {listed(wrong)}, but {right}."] if wrong else []
    if bare:
        found.append(
            f"{where} has {listed(bare, repr)} at {site!r}, which data.label_maps does not map; {right}."
        )
    return found


def in_order(names: Iterable[str]) -> list[str]:
    """Return names in order, each once: by number where all are whole numbers, else as text."""
    distinct = sorted(set(names))
    return sorted(distinct, key=int) if all(map(_NUMBER.fullmatch, distinct)) else distinct


def vocabulary(
    held: Mapping[str, LabelNames | None], given: LabelNames | None = None, given_by: str = "data.labels"
) -> dict[str, tuple[LabelNames | None, NDArray[np.int64] | None]]:
    """Return by part the names of all classes, and the number that each of the part's own numbers becomes.

    ``held``: by part the names of its labels, None where they are numbers; ``given``: the names that the
    scenario fixes, by the setting ``given_by``. Equal lists are kept as they are; different ones become their
    union in order. Raises InputError where some labels are numbers and others names, or a name is not among
    the given ones.
    """
    lists = {part: names for part, names in held.items() if names is not None}
    if given is not None:
        odd = {part: [name for name in names if name not in given] for part, names in lists.items()}
        problems = [
            f"{part} holds the label {listed(some, repr)}, but {given_by} is {listed(given)}; "
            "it must name all."
            for part, some in odd.items()
            if some
        ]
        if problems:
            raise InputError(*problems)
        common: LabelNames | None = given
    elif not lists:
        common = None
    elif len(lists) < len(held):
        if any(list(names) != [str(n) for n in range(len(names))] for names in lists.values()):
            named, other = next(iter(lists)), next(part for part in held if part not in lists)
            raise InputError(
                f"the labels of {named} are the names {listed(lists[named])} but those of {other} are "
                "numbers; both must be of one kind, or data.labels must list the names in the "
                "order of the numbers."
            )
        common = None
    else:
        different = set(lists.values())
        common = (
            next(iter(different)) if len(different) == 1 else tuple(in_order(n for d in different for n in d))
        )
    return {part: (common, _become(held[part], common)) for part in held}


def _become(mine: LabelNames | None, common: LabelNames | None) -> NDArray[np.int64] | None:
    if mine is None or common is None or mine == common:
        return None
    place = {name: number for number, name in enumerate(common)}
    return np.array([place[name] for name in mine], np.int64)


def listed(names: Iterable[str], show: Any = str) -> str:
    """Return some names in one line, at most a dozen."""
    shown = [show(name[:40]) for name in names]
    more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
    return ", ".join(shown[:_SHOWN]) + more
