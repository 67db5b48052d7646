"""What lies in a table or a folder: rows, classes, sites, and how a scenario reads them."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fedkt.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

LABELS = ("label", "target", "y", "class", "diagnosis", "outcome", "num")
SITES = ("site", "hospital", "center", "centre", "domain", "client", "ward", "institution")
MOST_CLASSES, MOST_SITES, MOST_VALUES = 20, 50, 20
TABLES = (".csv", ".tsv", ".parquet")
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
SIDE = 32
"""Pixels that pictures of different sizes are brought to."""


@dataclass
class Found:
    """Rows, as a scenario reads them."""

    what: str
    dataset: str
    rows: int
    classes: int
    models: str
    sites: int = 0
    settings: list[tuple[str, str]] = field(default_factory=list)
    """Lines of the scenario's data part, each with why."""
    said: list[str] = field(default_factory=list)


def look(path: Path, label: str | None = None, site: str | None = None) -> Found:
    """Return what lies there; ``label`` and ``site`` name columns of a table, which else are guessed.

    Raises InputError where it is neither a table, an npz file nor a folder of them or of pictures by class.
    """
    if path.is_dir():
        tables = sorted(file for file in path.iterdir() if file.suffix.lower() in TABLES)
        return _tables(path, tables, label, site) if tables else _pictures(path)
    if not path.exists():
        raise InputError(
            f"{path} does not exist; name a table ({', '.join(TABLES)}), an npz file or a folder."
        )
    if path.suffix.lower() == ".npz":
        return _arrays(path)
    if path.suffix.lower() not in TABLES:
        raise InputError(f"{path} is no table ({', '.join(TABLES)}), npz file or folder; name one of these.")
    return _tables(path, [path], label, site)


def named(kind: str, path: Path) -> str:
    """Return a source as a scenario writes it."""
    spec = f"{kind}:{path.resolve()}"
    return spec if re.fullmatch(r"[\w./:-]+", spec) else json.dumps(spec)


def _tables(path: Path, files: list[Path], label: str | None, site: str | None) -> Found:
    import pandas as pd

    frames = [_read(file) for file in files]
    table = pd.concat(frames, ignore_index=True)
    several = len(files) > 1
    wrong = [
        f"{path} has no column {name!r}; its columns are {', '.join(map(str, table.columns))}."
        for name in (label, site)
        if name is not None and name not in table
    ]
    if wrong:
        raise InputError(*wrong)
    label = label or _label(table, path)
    site = None if several else site or _guess(table, SITES, MOST_SITES, but=label)
    classes = int(table[label].nunique())
    sites = len(files) if several else int(table[site].nunique()) if site else 0
    what = f"{len(files)} tables" if several else "a table"
    found = Found(f"{what} of {len(table)} rows", "", len(table), classes, "tabular", sites=sites)
    found.said.append(f"column {label!r} is the label: {classes} classes")
    if sites:
        from_ = "each file is a site" if several else f"column {site!r} says whose row is whose"
        found.said.append(f"{from_}: {sites} sites")
    others = table.drop(columns=[label, *([site] if site else [])])
    text = [str(name) for name in others if not pd.api.types.is_numeric_dtype(others[name])]
    few = {name: sorted(others[name].dropna().astype(str).unique()) for name in text}
    few = {name: values for name, values in few.items() if 2 <= len(values) <= MOST_VALUES}
    lost = [name for name in text if name not in few]
    found.settings.append((f"label: {json.dumps(label)}", ""))
    if site:
        found.settings.append((f"site: {json.dumps(site)}", "whose a row is"))
    if few:
        found.said.append(f"columns of a few values: {', '.join(few)}")
        found.settings.append((f"categories: {json.dumps(few)}", "a column of 0 and 1 for each value"))
    if lost:
        found.said.append(f"no numbers, so not read: {', '.join(lost)}")
        found.settings.append((f"drop: {json.dumps(lost)}", "neither numbers nor a few values"))
    holes = int(others.drop(columns=text).isna().any(axis=1).sum())
    if holes:
        found.said.append(f"{holes} rows have missing values")
        found.settings.append(("missing: mean", "fills what is missing with the client's own mean"))
    found.settings.append(
        ("standardise: true", "columns of different units: each client's own mean and scale")
    )
    specs = {
        file.stem: named("parquet" if file.suffix.lower() == ".parquet" else "csv", file) for file in files
    }
    found.dataset = next(iter(specs.values()))
    if several:
        found.dataset = f"{{{', '.join(f'{json.dumps(name)}: {spec}' for name, spec in specs.items())}}}"
    return found


def _read(file: Path) -> "pd.DataFrame":
    import pandas as pd

    try:
        if file.suffix.lower() == ".parquet":
            return pd.read_parquet(file)
        return pd.read_csv(file, sep="\t" if file.suffix.lower() == ".tsv" else ",")
    except Exception as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise InputError(f"{file} cannot be read as a table ({type(error).__name__}: {reason}).") from error


def _label(table: "pd.DataFrame", path: Path) -> str:
    found = _guess(table, LABELS, MOST_CLASSES)
    last = str(table.columns[-1])
    if found is None and 2 <= table[table.columns[-1]].nunique() <= MOST_CLASSES:
        found = last
    if found is None:
        raise InputError(
            f"{path} has no column that is plainly the label (its columns are "
            f"{', '.join(map(str, table.columns))}); name it with --label."
        )
    return found


def _guess(table: "pd.DataFrame", names: tuple[str, ...], most: int, but: str = "") -> str | None:
    by_lower = {str(name).lower(): str(name) for name in table if str(name) != but}
    near = (by_lower[name] for name in names if name in by_lower)
    return next((name for name in near if 2 <= table[name].nunique() <= most), None)


def _arrays(path: Path) -> Found:
    with np.load(path, allow_pickle=False) as held:
        shapes = {name: held[name].shape for name in held.files}
        labels = [held[name] for name in held.files if name.startswith("y")]
    trains = [name for name in shapes if name.startswith("x_") and name != "x_test"]
    if not trains or not labels:
        raise InputError(
            f"{path} holds {', '.join(shapes) or 'nothing'}; it must hold x_train and y_train, or x_NAME and "
            "y_NAME for each site."
        )
    shape, sites = shapes[trains[0]], 0 if trains == ["x_train"] else len(trains)
    rows, classes = sum(shapes[name][0] for name in trains), len(np.unique(np.concatenate(labels)))
    image = len(shape) > 2
    kind = f"images of shape {list(shape[1:])}" if image else f"rows of {shape[1:]} columns"
    found = Found(
        f"an npz file of {rows} {kind}", f"npz:{path.name}", rows, classes, "cnn" if image else "tabular"
    )
    found.sites = sites
    said, settings = _targets(labels) or (f"{classes} classes", [])
    found.said.append(said + (f", {sites} sites" if sites else ""))
    found.settings += settings
    if not image:
        found.settings.append(("standardise: true", "columns of different units"))
    return found


def _targets(y: list[np.ndarray]) -> tuple[str, list[tuple[str, str]]] | None:
    """Return what is to be predicted, in words and settings; None where it is a class of each row."""
    columns = {part.shape[1] if part.ndim == 2 else 1 for part in y}
    if len(columns) > 1 or any(part.dtype.kind not in "biuf" or not part.size for part in y):
        return None
    values = np.concatenate([part.reshape(len(part), -1) for part in y]).astype(np.float64)
    count = columns.pop()
    if count > 1 and np.isin(values, (0, 1)).all():
        return f"{count} labels of each row", [("task: multilabel", "each label is there or not")]
    if count == 1 and not (values != np.floor(values)).any():
        return None
    low, high = np.floor(np.nanmin(values, 0)), np.ceil(np.nanmax(values, 0))
    ranges = ", ".join(f"[{a:g}, {b:g}]" for a, b in zip(low, np.maximum(high, low + 1), strict=True))
    return f"{count} number{'s' if count > 1 else ''} to predict of each row", [
        ("task: regression", ""),
        (f"targets: [{ranges}]", "what everybody may know of each target: make it wide enough"),
    ]


def _pictures(path: Path) -> Found:
    files = [file for file in sorted(path.rglob("*")) if file.suffix.lower() in PICTURES]
    depths = {len(file.relative_to(path).parts) for file in files}
    if depths not in ({2}, {3}):
        raise InputError(
            f"{path} holds neither tables ({', '.join(TABLES)}) nor pictures in folders CLASS/FILE or "
            "SITE/CLASS/FILE; name a folder that does."
        )
    from PIL import Image

    sizes, modes = set(), set()
    for file in files[:200]:
        with Image.open(file) as picture:
            sizes.add(picture.size)
            modes.add(picture.mode)
    mode = "L" if modes <= {"L", "1"} else "RGB"
    classes = {file.parent.name for file in files}
    sites = {file.relative_to(path).parts[0] for file in files} if depths == {3} else set()
    only = next(iter(sizes))
    size = only if len(sizes) == 1 and only[0] == only[1] <= 2 * SIDE else (SIDE, SIDE)
    found = Found(f"{len(files)} pictures", named("images", path), len(files), len(classes), "cnn")
    found.sites = len(sites)
    found.said.append(f"a folder per class: {len(classes)} classes")
    if sites:
        found.said.append(f"a folder per site: {len(sites)} sites")
    if sizes != {size}:
        found.said.append(f"{len(sizes)} sizes, read at {size[0]} x {size[1]} pixels")
    if sizes != {size} or len(modes) > 1:
        shape = f"image: {{size: {size[0]}, channels: {1 if mode == 'L' else 3}}}"
        found.settings.append((shape, "the shape that all are brought to"))
    return found
