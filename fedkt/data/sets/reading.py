"""Finding a data set from what a scenario writes for it.

A specification is one of

``digits``
    or another registered name (entry points ``fedkt.datasets``).
``npz:FILE``, ``npz:FILE#DOMAIN``
    see :mod:`fedkt.data.sets.npz`.
``hf:NAME``
    see :mod:`fedkt.data.sets.hub`.
``package.module:function``
    called without arguments, or with ``data_dir`` (a Path or None) where it has such a parameter. It
    returns ``x, y``, or ``x, y, domain`` with a name per row (a seeded 20 % is then held out as test rows
    when a federation is built), or a :class:`Split`.
a mapping from domains to specifications
    all rows of each become rows of that domain.
"""

import inspect
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedkt import registry
from fedkt.data.sets.dataset import Split, dataset_of, split_of
from fedkt.data.sets.joining import join_domains
from fedkt.errors import InputError

if TYPE_CHECKING:
    from fedkt.scenario import Image


def load_dataset(
    spec: Any, data_dir: Path | None = None, image: "Image | None" = None, *, column: str | None = None
) -> Split:
    """Load what ``spec`` stands for (see above).

    ``image`` is used only where domains must be brought to one shape to become one array; otherwise the
    rows stay raw. ``column`` names the natural ids of npz files and Hugging Face data sets.
    Raises InputError with all problems that were found.
    """
    if isinstance(spec, Mapping):
        return _load_domains(spec, data_dir, image, column)
    if isinstance(spec, str) and spec.startswith("npz:"):
        from fedkt.data.sets.npz import load_npz

        return load_npz(spec.removeprefix("npz:"), data_dir, image, column)
    if isinstance(spec, str) and spec.startswith("hf:"):
        from fedkt.data.sets.hub import load_hub

        return load_hub(spec.removeprefix("hf:"), data_dir, column)
    return _call(registry.find("datasets", spec), str(spec), data_dir)


def _load_domains(
    spec: Mapping[str, Any], data_dir: Path | None, image: "Image | None", column: str | None
) -> Split:
    splits: dict[str, Split] = {}
    problems: list[str] = []
    for name, part in spec.items():
        try:
            splits[str(name)] = load_dataset(part, data_dir, image, column=column)
        except InputError as error:
            problems.extend(f"domain '{name}': {problem}" for problem in error.problems)
    if not spec:
        problems.append("a mapping from domains to data sets is empty; it must name at least one domain.")
    if problems:
        raise InputError(*problems)
    return join_domains("", splits, image)


def _call(function: Any, spec: str, data_dir: Path | None) -> Split:
    """Call a data set function and check what it returns."""
    where = f"data set {spec!r}"
    if not callable(function):
        raise InputError(
            f"{where} is a {type(function).__name__}; it must be a function that returns the data."
        )
    takes_folder = "data_dir" in inspect.signature(function).parameters
    try:
        made = function(data_dir=data_dir) if takes_folder else function()
    except InputError:
        raise
    except Exception as error:
        at = traceback.extract_tb(error.__traceback__)[-1]
        reason = " ".join(str(error).split()).rstrip(".")
        raise InputError(
            f"{where} cannot be made: {type(error).__name__}: {reason} "
            f"({Path(at.filename).name}:{at.lineno})."
        ) from error
    if isinstance(made, Split):
        return split_of(where, made.train, made.test, made.classes)
    if not isinstance(made, tuple) or len(made) not in (2, 3):
        raise InputError(
            f"{where} returned a {type(made).__name__}; it must return x, y or x, y, domain or a Split."
        )
    domain = made[2] if len(made) == 3 else None
    return split_of(where, dataset_of(where, made[0], made[1], domain=domain), None)
