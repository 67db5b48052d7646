"""Made rows: one contract for every generator, and what each of them is for by numbers done by hand."""

import re
from typing import Any

import numpy as np
import pytest

from fedkt import registry, scenario
from fedkt.data import build
from fedkt.data.columns.tokens import id_of_word, split_words
from fedkt.data.content.transfer_set import transfer_hash
from fedkt.data.made.draws import Draws
from fedkt.data.made.ngrams import ngrams
from fedkt.data.made.pictures.shapes import shapes
from fedkt.data.made.public import Public, Range
from fedkt.data.made.ranges import schema
from fedkt.data.made.recipe import Recipe
from fedkt.data.made.words import words
from fedkt.errors import InputError

TEXT = "the cat sat on the mat and the dog sat on the log by the cat"
RANGES = (
    Range(20, 90, whole=True),
    Range(values=(0.0, 1.0), weights=(3.0, 1.0)),
    Range(-1.0, 1.0, missing=0.25),
)
PUBLIC = {
    "image": Public("image", (1, 12, 12), mean=0.2),
    "tabular": Public("tabular", (3,), ranges=RANGES),
    "sparse": Public("sparse", (50,)),
    "tokens": Public("tokens", (16,), 20_000, hashed=True),
}
IDS = (Range(1, 30, whole=True), Range(31, 35, whole=True), Range(1, 30, whole=True))
OWN = {"links": Public("tokens", (3,), 36, ranges=IDS)}
FILES = {"tokens": {"list": TEXT.replace(" ", "\n")}, "ngrams": {"text": TEXT}}
HASHES = {
    "fractals": "335f83f109bc4f8b4018e4f943d7d28addbe957aa01d6aa8fdf0a33025937ea3",
    "gaussian": "d81f1327cd6b23439c1021c7c232a59ed85dee3e2c0ac582c5429f949459a2c4",
    "links": "2ffa59ea7dea9219cf2091450af34db748fff6d41b1b6d31dc22320eafa028ce",
    "leaves": "d412045a00e047760125ccee3ec533460518010a3a485058d650e61ec76f82a0",
    "medley": "ba9af40e25bd4e888607e3160f0873f6b5f9c80c10f3d482563e928baa97a8be",
    "ngrams": "4f657de4c31854762fd5ceeec19e8c9cfdfd2d207928c702dedf589fa9822b4b",
    "schema": "399a785fe537bdd9778c79c3c3868f73c04bccb2baa79995506e8f695dabdd30",
    "shapes": "92df13c5291a8fdd1a68c5c69582780c45e5137ad2a90103153ecab539ce5b00",
    "strokes": "e6038e3cfd8b4c52a4f3957c3bf15a497a4a8eb58079cbf4c3534ae0f937c051",
    "tokens": "165782d24a58956783f07249c31dd6f934b1da686946377e3ff00eef76ae14a0",
    "words": "3547907f3619dc8c786244817cb4593904988258641b892a23348608873da3d4",
}
every_generator = pytest.mark.parametrize("name", registry.names("generators"))


def recipe(name: str, size: int = 40, seed: int = 0) -> Recipe:
    make = registry.find("generators", name)
    return Recipe(name, make, OWN.get(name, PUBLIC[make.makes[0]]), size, seed, {}, FILES.get(name, {}))


def dense(rows: Any) -> Any:
    return rows.toarray() if hasattr(rows, "tocsr") else rows


@every_generator
def test_the_rows_are_these_bits(name: str) -> None:
    """Written out, so that another machine or version of NumPy that makes others is found."""
    assert transfer_hash(recipe(name).rows(0)) == HASHES[name]


@every_generator
def test_rows_follow_from_recipe_and_round_alone(name: str) -> None:
    one, again, other = recipe(name), recipe(name), recipe(name, seed=1)
    first = dense(one.rows(1))
    one.rows(2)
    assert np.array_equal(first, dense(one.rows(1)), equal_nan=name == "schema")
    assert np.array_equal(first, dense(again.rows(1)), equal_nan=name == "schema")
    for others in (one.rows(2), other.rows(1)):
        assert not np.array_equal(first, dense(others), equal_nan=name == "schema")
    assert one.hash == again.hash != other.hash
    assert recipe(name, size=41).hash != one.hash


@every_generator
def test_rows_have_the_form_that_was_asked_for_and_differ(name: str) -> None:
    it = recipe(name)
    rows, public = it.rows(0), it.public
    assert rows.shape == (40, *public.shape)
    seen = dense(rows)
    assert len({row.tobytes() for row in seen}) > 30
    if public.kind == "image":
        assert rows.dtype == np.uint8
        assert seen.max() > 128
    elif public.kind == "tokens":
        assert rows.dtype == np.int64
        assert seen.min() >= 0
        assert seen.max() < public.vocabulary
        ends = (seen > 0).sum(1)
        assert all((row[:n] > 0).all() and not row[n:].any() for row, n in zip(seen, ends, strict=True))
    elif public.kind == "sparse":
        assert seen.min() == 0
        assert (seen == np.round(seen)).all()


def test_draws_by_hand() -> None:
    """The raw numbers are NumPy's, which it keeps; all else is arithmetic on them."""
    raw = int(Draws(7).bits(1)[0])
    assert Draws(7).below(10, 1)[0] == (raw >> 32) * 10 >> 32
    assert Draws(7).between(5, 15, 1)[0] == 5 + ((raw >> 32) * 10 >> 32)
    assert Draws(7).unit(1)[0] == (raw >> 11) / 2**53
    assert abs(Draws(0).normal(100_000).mean()) < 0.02
    assert Draws(0).normal(100_000).std() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize(
    ("mean", "got", "deviation"), [(0.131, 0.131, 0.27), (0.286, 0.286, 0.34), (None, 0.145, 0.285)]
)
def test_shapes_have_the_mean_that_is_public(mean: float | None, got: float, deviation: float) -> None:
    """MNIST's mean and Fashion-MNIST's; without one what the notes measured, .145 and .285."""
    rows = shapes(Public("image", (1, 28, 28), mean=mean), 4000, Draws(0)) / 255
    assert rows.mean() == pytest.approx(got, abs=0.01)
    assert rows.std() == pytest.approx(deviation, abs=0.03)


def test_columns_keep_to_what_is_known_of_them() -> None:
    rows = schema(PUBLIC["tabular"], 20_000, Draws(0))
    ages, kinds, rates = rows.T
    assert set(np.unique(ages)) == set(range(20, 91))
    assert (kinds == 0).mean() == pytest.approx(0.75, abs=0.02)
    assert set(np.unique(kinds)) == {0.0, 1.0}
    assert np.isnan(rates).mean() == pytest.approx(0.25, abs=0.02)
    assert np.nanmin(rates) >= -1
    assert np.nanmax(rates) <= 1
    assert np.nanmean(rates) == pytest.approx(0, abs=0.02)


def test_words_fall_with_their_rank() -> None:
    """Weights (rank + 2.7)^-1: the first is (52.7 / 3.7) = 14.2 times as frequent as the fiftieth of 50."""
    counts = words(PUBLIC["sparse"], 2000, Draws(0), fall=1.0, length=80.0)
    totals = np.asarray(counts.sum(0)).ravel()
    assert totals[0] / totals[49] == pytest.approx(52.7 / 3.7, rel=0.1)
    lengths = np.asarray(counts.sum(1)).ravel()
    assert np.median(lengths) == pytest.approx(80, rel=0.03)
    assert np.log(lengths).std() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("order", [2, 3])
def test_neighbours_are_neighbours_in_the_public_text(order: int) -> None:
    ids = [id_of_word(word) for word in split_words(TEXT)]
    known = {tuple(ids[(i + j) % len(ids)] for j in range(order)) for i in range(len(ids))}
    rows = ngrams(PUBLIC["tokens"], 50, Draws(0), text=TEXT, order=order)
    for row in rows.tolist():
        said = [word for word in row if word]
        assert {tuple(said[i : i + order]) for i in range(len(said) - order + 1)} <= known


DIGITS = "name: a\ndata: {transfer: {from: 'made:shapes', size: 20}}\n"


def test_a_federation_needs_no_row_of_anybody_for_its_transfer_set() -> None:
    plain = build(scenario.load("name: a\n"))
    federation = build(scenario.load(DIGITS))
    assert federation.transfer is not None
    assert len(federation.transfer) == 20
    assert (federation.transfer.y == -1).all()
    assert sum(len(s.rows) for s in federation.shards) == sum(len(s.rows) for s in plain.shards)
    assert federation.transfer_hash_in(1) == federation.transfer_hash_in(2) == federation.transfer_hash
    fresh = build(scenario.load(DIGITS, ["data.transfer.refresh=round"]))
    assert fresh.transfer_hash_in(1) == fresh.transfer_hash != fresh.transfer_hash_in(2)
    assert tuple(fresh.transfer_tensor(None, 2).shape) == (20, 1, 8, 8)
    for round_ in range(1, 8):
        fresh.transfer_hash_in(round_)
    assert fresh.stock is not None
    assert len(fresh.stock._kept) <= 6


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            "data.transfer.from='made:words'",
            "data.transfer.from is 'made:words', which makes bags of words, but data.dataset holds images; "
            "generators for those are fractals, leaves, medley, shapes, strokes.",
        ),
        ("data.transfer.from='made:shape'", "there is no generator 'shape'; did you mean 'shapes'?"),
        (
            "data.transfer.generator={sise: 3}",
            "unknown key 'data.transfer.generator.sise'; generator 'shapes' has no settings.",
        ),
    ],
)
def test_a_generator_that_does_not_fit(change: str, problem: str) -> None:
    with pytest.raises(InputError) as told:
        build(scenario.load(DIGITS, [change]))
    assert told.value.problems == (problem,)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            "data.transfer={from: train, size: 20, refresh: round}",
            "data.transfer.refresh is given, but 'train' makes no rows; data.transfer.from must be "
            "made:NAME, or "
            "it be left out.",
        ),
        (
            "data.transfer={from: 'made:shapes', size: 20, rows: 5, policy: entropy, refresh: round}",
            "data.transfer.refresh is round, but policy entropy chooses by what was said of the same rows "
            "before; with new rows in each round policy must be random.",
        ),
        (
            "data.schema={age: [90, 20]}",
            "data.schema.age has low 90 but high 20; low must be below high.",
        ),
        (
            "data.schema={age: {values: [0, 1], weights: [1]}}",
            "data.schema.age has 2 values but 1 weights; they must match.",
        ),
    ],
)
def test_settings_that_contradict_one_another(change: str, problem: str) -> None:
    with pytest.raises(InputError) as told:
        scenario.load(DIGITS, [change])
    assert [re.sub(r"^--set [^:]*: ", "", p) for p in told.value.problems] == [problem]


TABLE = {
    "name": "t",
    "data": {"dataset": "tests.data.test_made:table", "transfer": {"from": "made:schema", "size": 30}},
    "clients": {"models": ["tabular"]},
}


def table() -> Any:
    """Ages and sexes of 200, of which every tenth is 120 years old."""
    draws = Draws(3)
    age = draws.between(20, 90, 200).astype(float)
    age[::10] = 120
    sex, y = draws.below(2, 200), draws.below(2, 200)
    return {"age": age, "sex": sex.astype(float)}, y


def made_table(*changes: str) -> Any:
    return build(scenario.load(scenario.dump(scenario.from_dict(TABLE)), list(changes)))


def test_ranges_are_needed_by_name_and_what_leaves_them_is_counted_here() -> None:
    for change, problem in (
        (
            [],
            "data.transfer.from is 'made:schema', but data.schema is not set; it must give each column's "
            "range, "
            "such as 'schema: {age: [20, 90], sex: {values: [0, 1]}}'.",
        ),
        (
            ["data.schema={age: [20, 90]}"],
            "data.schema lacks column 'sex'; it must give all ranges.",
        ),
        (
            ["data.schema={age: [20, 90], sex: [0, 1], six: [0, 1]}"],
            "data.schema names column 'six'; did you mean 'sex'?",
        ),
        (
            ["data.transfer.from='made:gaussian'", "data.standardise=true"],
            "data.transfer.from is 'made:gaussian', but data.standardise scales columns by each client's own "
            "rows, so that one row would mean another thing to each; it must be 'made:schema', which "
            "makes rows "
            "in the data's units.",
        ),
        (
            ["data.transfer.from='made:gaussian'", "data.transfer.generator={deviation: 0}"],
            "data.transfer.generator.deviation is 0; input should be greater than 0.",
        ),
    ):
        with pytest.raises(InputError) as told:
            made_table(*change)
        assert told.value.problems == (problem,)
    federation = made_table("data.schema={sex: {values: [0, 1]}, age: [20, 90]}")
    assert federation.transfer is not None
    assert federation.transfer.columns == ("age", "sex")
    assert federation.transfer.x[:, 0].max() > 1  # in the data set's order, not the schema's
    held = federation.pool.x[federation.whole.rows]
    beyond = int((held[:, 0] > 90).sum())
    assert beyond > 0
    assert (
        f"data.schema: column 'age' lies in 20 to 90, but {beyond} of the {len(held)} training rows here "
        f"that "
        "have it are beyond; no made row asks about such." in federation.notes
    )
    # Between the values of a category there is nothing either.
    halves = made_table("data.schema={sex: {values: [-1, 0, 3]}, age: [0, 200]}")
    ones = int((held[:, 1] == 1).sum())
    assert (
        f"data.schema: column 'sex' is one of -1, 0, 3, but {ones} of the {len(held)} training rows here "
        "that have it are beyond; no made row asks about such." in halves.notes
    )


def test_files_of_words_are_texts_of_texts() -> None:
    plain, hashed = Public("tokens", (4,), 30), PUBLIC["tokens"]
    tokens = registry.find("generators", "tokens")
    assert tokens(plain, 5, Draws(0)).max() < 30
    with pytest.raises(InputError, match=r"hashes of words, which have no order; .* must be \{list: FILE\}"):
        tokens(hashed, 5, Draws(0))
    with pytest.raises(InputError, match=r"rows are token ids already; it must be left out"):
        tokens(plain, 5, Draws(0), list="a\nb")
    with pytest.raises(InputError, match=r"no text is named; .* must be \{text: FILE\}"):
        ngrams(hashed, 5, Draws(0))
    with pytest.raises(InputError, match=r"a file of 1 words; it must hold more than 2"):
        ngrams(hashed, 5, Draws(0), text="alone")
