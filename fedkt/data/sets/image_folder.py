"""Images in folders: ``images:FOLDER`` with a folder per class, and perhaps one per site around these.

``CLASS/FILE``, ``SITE/CLASS/FILE``, or ``train/CLASS/FILE`` beside ``test/CLASS/FILE``. Files are PNG, JPEG
and what else ``ENDINGS`` names; others are told as left out.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fedkt.data.columns.choices import Choices
from fedkt.data.images.decoding import stack
from fedkt.data.sets.dataset import Dataset, Split, check_unnamed, dataset_of
from fedkt.data.sets.joining import split_of
from fedkt.data.sets.preprocess import fit_raw
from fedkt.errors import InputError
from fedkt.files import data_places

if TYPE_CHECKING:
    from fedkt.scenario import Image

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
HALVES = ("train", "test")
_MOST_TOLD = 5


def load_images(name: str, data_dir: Path | None, image: "Image | None", choices: Choices) -> Split:
    """Load a folder of images; ``image``: the shape that they are brought to. Raises InputError."""
    where, folder = f"images:{name}", _folder(name, data_dir)
    check_unnamed(where, choices)
    files = sorted(file for file in folder.rglob("*") if file.is_file() and not file.name.startswith("."))
    pictures = [file for file in files if file.suffix.lower() in ENDINGS]
    depths = {len(file.relative_to(folder).parts) for file in pictures}
    if depths not in ({2}, {3}):
        raise InputError(
            f"{where} holds {len(pictures)} pictures"
            + (f" {' and '.join(map(str, sorted(depths)))} levels deep" if depths else "")
            + "; they must lie as CLASS/FILE, SITE/CLASS/FILE or train/CLASS/FILE and test/CLASS/FILE."
        )
    others = [(str(file.relative_to(folder)), "no picture") for file in files if file not in set(pictures)]
    tops = {file.relative_to(folder).parts[0] for file in pictures}
    if depths == {3} and tops <= set(HALVES) and "train" in tops:
        halves = {half: [file for file in pictures if file.is_relative_to(folder / half)] for half in HALVES}
        made = {
            half: _read(f"{where}: {half}", held, None, image, choices)
            for half, held in halves.items()
            if held
        }
        return split_of(where, made["train"], made.get("test"), choices=choices, left_out=others)
    sites = [file.relative_to(folder).parts[0] for file in pictures] if depths == {3} else None
    return split_of(
        where, _read(where, pictures, sites, image, choices), None, choices=choices, left_out=others
    )


def _folder(name: str, data_dir: Path | None) -> Path:
    places = data_places(name, data_dir)
    found = next((place for place in places if place.is_dir()), None)
    if found is None:
        raise InputError(
            f"folder '{name}' was not found as {' or '.join(map(str, places))}; --data-dir or FEDKT_DATA "
            "must name the folder that it lies in."
        )
    return found


def _read(
    where: str, files: list[Path], sites: list[str] | None, image: "Image | None", choices: Choices
) -> Dataset:
    from PIL import Image as Pillow

    opened, bad = [], []
    for file in files:
        try:
            with Pillow.open(file) as picture:
                picture.load()
                opened.append(picture)
        except Exception as error:  # Pillow's plug-ins raise many types for damaged files
            reason = " ".join(str(error).split()).rstrip(".")
            bad.append(f"{where}: {file} cannot be read as a picture ({type(error).__name__}: {reason}).")
    if bad:
        more = [f"{len(bad) - _MOST_TOLD} more cannot be read."] if len(bad) > _MOST_TOLD else []
        raise InputError(*bad[:_MOST_TOLD], *more)
    labels = np.array([file.parent.name for file in files])
    sizes = {picture.size for picture in opened}
    if image is None or len(sizes) == 1:
        x: Any = stack(where, opened, choices.white)
    else:
        each = [_shaped(where, picture, image, choices) for picture in opened]
        floats = any(part.dtype != np.uint8 for part in each)
        x = np.concatenate(
            [part / np.float32(255) if floats and part.dtype == np.uint8 else part for part in each]
        )
    said = choices if choices.white is None else Choices(labels=choices.labels, labelled=choices.labelled)
    return dataset_of(where, x, labels, domain=sites, choices=said)


def _shaped(where: str, picture: Any, image: "Image", choices: Choices) -> Any:
    x = stack(where, [picture], choices.white)
    x = x[:, None] if x.ndim == 3 else x.transpose(0, 3, 1, 2)
    return fit_raw(np.ascontiguousarray(x), image.size, image.channels)
