"""What lies in a table or a folder: rows, classes, sites, and how a scenario reads them."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fedkt.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

LABELS = ("label", "target", "y", "class", "diagnosis", "outcome", "num")
SITES = ("site", "hospital", "center", "centre", "domain", "client", "ward", "institution")
MOST_CLASSES, MOST_SITES = 20, 50
TABLES = (".csv", ".tsv", ".parquet")
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
SIDE = 32
"""Pixels that pictures of different sizes are brought to."""


@dataclass
class Found:
    """Rows, as a scenario reads them; ``module``: the Python file that does, empty where none is needed."""

    what: str
    dataset: str
    rows: int
    classes: int
    models: str
    module: str = ""
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


def module_name(path: Path) -> str:
    """Return what the Python file of a source is called, without its ending."""
    return re.sub(r"\W", "_", path.resolve().stem.lower()).strip("_") + "_data"


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
    if text:
        found.said.append(f"no numbers, so not read: {', '.join(text)}")
    holes = int(others.isna().any(axis=1).sum())
    if holes:
        found.said.append(f"{holes} rows have missing values")
        found.settings.append(("missing: mean", "fills what is missing with the client's own mean"))
    found.settings.append(
        ("standardise: true", "columns of different units: each client's own mean and scale")
    )
    found.dataset = f"{module_name(path)}:rows"
    found.module = _table_module(files, label, site)
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


def _table_module(files: list[Path], label: str, site: str | None) -> str:
    several = len(files) > 1
    reader = {".parquet": "pd.read_parquet({0})", ".tsv": 'pd.read_csv({0}, sep="\\t")'}
    reads = [
        reader.get(file.suffix.lower(), "pd.read_csv({0})").format(repr(str(file.resolve())))
        for file in files
    ]
    lines = [
        '"""Rows, labels and sites as fedkt reads them; written by fedkt init."""',
        "",
        "import pandas as pd",
    ]
    lines += ["", "", "def rows():"]
    if several:
        lines.append("    parts = {")
        lines += [f"        {file.stem!r}: {read}," for file, read in zip(files, reads, strict=True)]
        lines += [
            "    }",
            "    table = pd.concat(parts.values(), ignore_index=True)",
            "    site = [name for name, part in parts.items() for _ in range(len(part))]",
        ]
    else:
        lines.append(f"    table = {reads[0]}")
    lines.append(f"    label = table.pop({label!r})")
    if site:
        lines.append(f"    site = table.pop({site!r}).astype(str)")
    lines.append("    return table, label, site" if site or several else "    return table, label")
    return "\n".join(lines) + "\n"


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
    found.said.append(f"{classes} classes" + (f", {sites} sites" if sites else ""))
    if not image:
        found.settings.append(("standardise: true", "columns of different units"))
    return found


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
    size = next(iter(sizes)) if len(sizes) == 1 and max(next(iter(sizes))) <= 2 * SIDE else (SIDE, SIDE)
    found = Found(f"{len(files)} pictures", f"{module_name(path)}:rows", len(files), len(classes), "cnn")
    found.sites = len(sites)
    found.said.append(f"a folder per class: {len(classes)} classes")
    if sites:
        found.said.append(f"a folder per site: {len(sites)} sites")
    if sizes != {size}:
        found.said.append(f"{len(sizes)} sizes, read at {size[0]} x {size[1]} pixels")
    found.module = _picture_module(path, sorted(classes), mode, size, bool(sites))
    return found


def _picture_module(path: Path, classes: list[str], mode: str, size: Any, sites: bool) -> str:
    parts = f"""\
\"\"\"Pictures, labels and sites as fedkt reads them; written by fedkt init.\"\"\"

from pathlib import Path

import numpy as np
from PIL import Image

FOLDER = Path({str(path.resolve())!r})
CLASSES = {classes!r}
KINDS = {PICTURES!r}


def rows():
    files = [file for file in sorted(FOLDER.rglob("*")) if file.suffix.lower() in KINDS]
    x = np.stack([np.asarray(Image.open(file).convert({mode!r}).resize({tuple(size)!r})) for file in files])
    x = x.reshape(len(files), {size[1]}, {size[0]}, -1).transpose(0, 3, 1, 2).astype("float32") / 255
    y = np.array([CLASSES.index(file.parent.name) for file in files])
"""
    if sites:
        return parts + "    return x, y, np.array([file.relative_to(FOLDER).parts[0] for file in files])\n"
    return parts + "    return x, y\n"
