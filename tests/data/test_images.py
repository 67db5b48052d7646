"""What the numbers of images mean, and pictures of a table in each of Pillow's modes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fedkt.data import load_dataset
from fedkt.data.images import levels
from fedkt.data.images.decoding import stack
from fedkt.data.sets.dataset import Dataset, Split
from fedkt.data.sets.preprocess import pixels
from fedkt.errors import InputError

MODULE = __name__
BITS = np.array([[[0, 1], [1, 1]], [[1, 0], [0, 0]]])
FULL = np.array([[[0, 255], [255, 255]], [[255, 0], [0, 0]]])


def write(folder: Path, x: Any, x_test: Any = None) -> str:
    more = {} if x_test is None else {"x_test": x_test, "y_test": [0, 1]}
    np.savez(folder / "a.npz", x_train=x, y_train=[0, 1], **more)
    return "npz:a.npz"


def bits_in_a_split() -> Split:
    return Split(Dataset(BITS[:, None] > 0, np.array([0, 1]), None, "image"), None, 2)


@pytest.mark.parametrize("kind", ["bool", "uint8", "int64"])
def test_black_and_white_is_0_and_1(tmp_path: Path, kind: str) -> None:
    split = load_dataset(write(tmp_path, BITS.astype(kind), BITS[::-1].astype(kind)), tmp_path)
    assert split.test is not None
    assert pixels(split.train.x)[:, 0].tolist() == BITS.tolist()
    assert pixels(split.test.x)[:, 0].tolist() == BITS[::-1].tolist()


def test_black_and_white_of_a_function_and_of_domains(tmp_path: Path) -> None:
    assert pixels(load_dataset(f"{MODULE}:bits_in_a_split").train.x)[:, 0].tolist() == BITS.tolist()
    np.savez(tmp_path / "d.npz", x_a=BITS, y_a=[0, 1], x_b=FULL.astype(np.uint8), y_b=[0, 1])
    joined = load_dataset("npz:d.npz", tmp_path).train
    assert pixels(joined.x)[:, 0].tolist() == [*BITS.tolist(), *BITS.tolist()]


@pytest.mark.parametrize("white", [15, 16, 31, 63, 100, 127])
def test_few_levels_are_refused_with_both_ways_to_read_them(tmp_path: Path, white: int) -> None:
    with pytest.raises(InputError) as error:
        load_dataset(write(tmp_path, (BITS * white).astype(np.uint8)), tmp_path)
    assert len(error.value.problems) == 1
    assert f"x spans [0, {white}]" in str(error.value)
    assert f"where {white} is white, x must be divided by {white}, else by 255" in str(error.value)


def test_dark_test_rows_of_bright_training_rows_are_fine(tmp_path: Path) -> None:
    split = load_dataset(write(tmp_path, FULL.astype(np.uint8), (BITS * 16).astype(np.uint8)), tmp_path)
    assert split.test is not None and split.test.x.max() == 16


@pytest.mark.parametrize(
    ("x", "words"),
    [
        ((BITS * 4095).astype(np.uint16), r"spans \[0, 4095\].*\(65535 for 16 bits\)"),
        (BITS / 255, "next to nothing of"),
        (BITS / 65535 * 4095, "next to nothing of"),
    ],
)
def test_deep_and_twice_divided_images_are_refused(tmp_path: Path, x: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        load_dataset(write(tmp_path, x), tmp_path)


def test_a_black_set_is_left_as_it_is() -> None:
    (black,) = levels.read("", [np.zeros((2, 1, 2, 2), np.uint8)])
    assert black.dtype == np.uint8


def palette(colours: list[int]) -> Image.Image:
    picture = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8), "P")
    picture.putpalette(colours)
    return picture


GREY = Image.fromarray(np.array([[9, 200], [30, 200]], np.uint8))


def test_a_palette_s_places_are_no_greys() -> None:
    """Places 0, 1, 2 stand for 9, 200, 30; with colours for red, green and blue."""
    assert stack("", [palette([9, 9, 9, 200, 200, 200, 30, 30, 30])])[0].tolist() == [[9, 200], [30, 200]]
    coloured = stack("", [palette([255, 0, 0, 0, 255, 0, 0, 0, 255])])[0]
    assert coloured.tolist() == [[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [0, 255, 0]]]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P", "1", "L", "I;16"])
def test_white_and_black_are_the_same_in_each_mode(mode: str) -> None:
    drawn = Image.fromarray(FULL[0].astype(np.uint8))
    deep = Image.fromarray((BITS[0] * 65535).astype(np.uint16))
    found = stack("", [deep if mode == "I;16" else drawn.convert(mode)])[0]
    seen = found if found.ndim == 2 else found[..., 0]
    assert (seen / (255 if seen.dtype == np.uint8 else 1)).tolist() == BITS[0].tolist()


def test_mixed_modes_become_one() -> None:
    """Red in a palette, grey, and grey of 16 bits: all get colour, in fractions."""
    red = Image.new("RGB", (2, 2), (255, 0, 0)).convert("P")
    found = stack("", [red, GREY, Image.fromarray(np.full((2, 2), 13107, np.uint16))])
    assert found.shape == (3, 2, 2, 3) and found.dtype == np.float32
    assert found[0, 0, 0].tolist() == [1, 0, 0]
    assert (
        found[1, :, :, 2].tolist() == (np.array([[9, 200], [30, 200]], np.float32) / np.float32(255)).tolist()
    )
    assert np.unique(found[2]).tolist() == [np.float32(0.2)]


def test_pictures_that_cannot_be_read_in_one_way_are_refused() -> None:
    glass = Image.new("RGBA", (2, 2), (255, 0, 0, 128))
    for pictures, words in (
        ([GREY, None], "row 1 has no picture"),
        ([glass], "the picture of row 0 is transparent in places; it must be laid on a background"),
        ([GREY, Image.new("L", (3, 2))], "differ in size .2x2 and 3x2"),
        ([Image.new("F", (2, 2))], "Pillow's mode 'F'"),
    ):
        with pytest.raises(InputError, match=words):
            stack("here", pictures)


def test_pictures_of_a_hugging_face_table(tmp_path: Path) -> None:
    from datasets import ClassLabel, Features
    from datasets import Dataset as Table
    from datasets import Image as Picture

    shown = Features({"image": Picture(), "label": ClassLabel(names=["n", "p"])})
    for name, pictures, expected in (
        ("bits", [Image.fromarray(x.astype(np.uint8)).convert("1") for x in FULL], FULL.tolist()),
        ("places", [palette([9, 9, 9, 200, 200, 200, 30, 30, 30])] * 2, [[[9, 200], [30, 200]]] * 2),
    ):
        Table.from_dict({"image": pictures, "label": [0, 1]}, shown).save_to_disk(tmp_path / name)
        assert load_dataset(f"hf:{name}", tmp_path).train.x[:, 0].tolist() == expected
