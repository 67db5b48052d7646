"""What made rows are made of, in a few words that everybody can repeat: their recipe, and its hash."""

import hashlib
import inspect
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict, ValidationError, create_model

from fedkt import registry
from fedkt.data.columns.tokens import VOCABULARY
from fedkt.data.made.draws import Draws
from fedkt.data.made.public import Generator, Public, Range
from fedkt.data.sets.dataset import InputSpec
from fedkt.data.sets.npz import find_file
from fedkt.errors import InputError
from fedkt.scenario.about_data import MADE

if TYPE_CHECKING:
    from fedkt.scenario import Data

WHERE = "data.transfer"
_TAG = "fedkt made rows 1\n"
_WORDS = {"tabular": "tables", "sparse": "bags of words", "image": "images", "tokens": "texts"}


@dataclass(frozen=True, eq=False)
class Recipe:
    """A generator, what is public of the rows, and the seed; ``files``: the texts of the files that it
    reads."""

    name: str
    make: Generator
    public: Public
    size: int
    seed: int
    settings: Mapping[str, Any]
    files: Mapping[str, str]

    def rows(self, round_: int) -> Any:
        """Return the raw rows [size, ...] of a round, 0 for those that stay the same in all rounds.

        The same recipe gives the same rows wherever :attr:`Generator.exact` holds.
        """
        draws = Draws(self.seed, "made", self.name, round_)
        return self.make(self.public, self.size, draws, **{**self.settings, **self.files})

    @property
    def hash(self) -> str:
        """The SHA-256, in hexadecimal, of everything that decides the rows, and of no row."""
        told = {
            "name": self.name,
            "version": self.make.version,
            "size": self.size,
            "seed": self.seed,
            "public": asdict(self.public),
            "settings": dict(self.settings),
            "files": {key: hashlib.sha256(text.encode()).hexdigest() for key, text in self.files.items()},
        }
        return hashlib.sha256((_TAG + json.dumps(told, sort_keys=True)).encode()).hexdigest()


def recipe_of(
    spec: str,
    data: "Data",
    public: Public,
    size: int,
    seed: int,
    data_dir: Path | None,
) -> Recipe:
    """Return the recipe of ``made:NAME``. Raises InputError where the generator does not fit."""
    name = spec.removeprefix(MADE)
    make: Generator = registry.find("generators", name)
    if not hasattr(make, "makes"):
        raise InputError(
            f"{WHERE}.from is '{spec}', which is no generator; it must be a function with the decorator "
            "fedkt.data.made.public.generator."
        )
    if public.kind not in make.makes:
        fitting = [
            n for n in registry.names("generators") if public.kind in registry.find("generators", n).makes
        ]
        made = " and ".join(_WORDS[kind] for kind in make.makes)
        raise InputError(
            f"{WHERE}.from is '{spec}', which makes {made}, but data.dataset holds {_WORDS[public.kind]}; "
            f"generators for those are {', '.join(fitting)}."
        )
    if name == "gaussian" and data.standardise:
        raise InputError(
            f"{WHERE}.from is '{spec}', but data.standardise scales columns by each client's own rows, so "
            f"that one "
            "row would mean another thing to each; it must be 'made:schema', which makes rows in the "
            "data's units."
        )
    assert data.transfer is not None
    settings = _checked(name, make, data.transfer.generator)
    files = {
        key: _text(key, settings.pop(key), data_dir) for key in make.files if settings.get(key) is not None
    }
    return Recipe(
        name, make, public, size, seed, {k: v for k, v in settings.items() if k not in make.files}, files
    )


def public_of(data: "Data", spec: InputSpec, columns: tuple[str, ...] | None) -> Public:
    """Return what the scenario and the form of the rows say. Raises InputError where columns do not fit."""
    mean = None
    if data.normalise is not None and not isinstance(data.normalise, str):
        mean = sum(data.normalise.mean) / len(data.normalise.mean)
    return Public(
        spec.kind,
        spec.shape,
        spec.vocabulary,
        hashed=spec.kind == "tokens" and spec.vocabulary == VOCABULARY,
        mean=mean,
        ranges=_ranges(data, spec, columns),
    )


def _ranges(data: "Data", spec: InputSpec, columns: tuple[str, ...] | None) -> tuple[Range, ...] | None:
    """Return what is known of each column, in the order of the data set's."""
    if data.schema_ is None or spec.kind != "tabular":
        return None
    given = data.schema_
    if columns is None:
        if len(given) != spec.shape[0]:
            raise InputError(
                f"data.schema has {len(given)} columns but a row has {spec.shape[0]}; where columns have "
                f"no names, "
                "it must list all of them in order."
            )
        names = tuple(given)
    else:
        names = columns
        problems = [
            f"data.schema names column '{name}'; {registry.did_you_mean(name, columns)}"
            for name in given
            if name not in columns
        ]
        lacking = [name for name in columns if name not in given]
        if lacking:
            problems.append(
                f"data.schema lacks column {', '.join(map(repr, lacking))}; it must give all ranges."
            )
        if problems:
            raise InputError(*problems)
    return tuple(Range(**given[name].model_dump()) for name in names)


def _checked(name: str, make: Generator, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return all settings of a generator, its defaults included. Raises InputError with all problems."""
    parameters = list(inspect.signature(make).parameters.values())[3:]
    fields: dict[str, Any] = {p.name: (p.annotation, p.default) for p in parameters}
    strict = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
    try:
        checked: dict[str, Any] = create_model(name, __config__=strict, **fields)(**given).model_dump()
        return checked
    except ValidationError as error:
        problems = []
        for problem in error.errors():
            key = ".".join(str(part) for part in problem["loc"])
            if problem["type"] == "extra_forbidden":
                known = (
                    registry.did_you_mean(key, fields) if fields else f"generator '{name}' has no settings."
                )
                problems.append(f"unknown key '{WHERE}.generator.{key}'; {known}")
            else:
                problems.append(f"{WHERE}.generator.{key} is {problem['input']!r}; {problem['msg'].lower()}.")
        raise InputError(*problems) from error


def _text(key: str, name: Any, data_dir: Path | None) -> str:
    """Return the text of a file that a setting names."""
    where = f"{WHERE}.generator.{key}"
    try:
        path = find_file(str(name), data_dir)
        return path.read_text(encoding="utf-8")
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{where} names '{name}', which cannot be read as UTF-8 text.") from error
