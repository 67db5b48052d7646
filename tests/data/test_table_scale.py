"""The scale of tables: columns that do not vary, columns without a value, large units."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedkt import scenario as scenarios
from fedkt.data import build
from fedkt.data.sets.preprocess import Statistics
from fedkt.errors import RunError

NAN = float("nan")


def of(column: list[float], missing: str | None = None, dtype: Any = np.float64) -> Statistics:
    return Statistics.of(np.array(column, dtype)[:, None], missing, True)


def sent(known: Statistics, *values: float) -> list[float]:
    return known.apply(np.array(values)[:, None])[:, 0].tolist()


@pytest.mark.parametrize(
    ("column", "missing"),
    [
        ([0, 0, 0], None),
        ([0.1, 0.1, 0.1], None),
        ([7], None),
        ([NAN, NAN], "mean"),
        ([NAN, NAN], "median"),
        ([NAN, NAN], "zero"),
        ([0.1, NAN, 0.1, 0.1], "mean"),
        ([0.1, NAN, 0.1, 0.1], "median"),
    ],
)
def test_a_column_that_does_not_vary_says_nothing(column, missing):
    assert sent(of(column, missing), 240, 0, -1e6, *([NAN] if missing else [])) == [0] * (4 if missing else 3)


def test_a_column_that_hardly_varies_is_bounded():
    known = of([0.0] * 99 + [0.001])
    assert sent(known, 240, -240) == [20, -20]
    assert sent(of([1.0, 3.0]), 4, 0) == [2, -2]  # mean 2, deviation 1


def test_whether_a_value_was_written_down_varies():
    # Filled with zero, a constant column with a blank tells who was measured: values 5 5 5 0.
    known = of([5, 5, 5, NAN], "zero")
    assert np.allclose(sent(known, 5, NAN), [1.25 / np.sqrt(4.6875), -3.75 / np.sqrt(4.6875)])


def test_statistics_are_of_float64():
    # A time stamp: float32 holds steps of 128 s, and 60 s of 1.7e9 once counted as no variation.
    known = of([1.7e9, 1.7e9 + 60])
    assert sent(known, 1.7e9, 1.7e9 + 60, 1.7e9 + 90) == [-1, 1, 2]
    assert known.apply(np.array([[1.7e9]])).dtype == np.float32


def test_statistics_of_float32_rows_are_summed_in_float64():
    column = np.full((1 << 20, 1), 0.1, np.float32)
    column[::2] += 1
    known = Statistics.of(column, "mean", True)
    assert abs(known.shift[0] - 0.6) < 1e-7
    assert abs(known.scale[0] - 0.5) < 1e-7


def test_only_missing_values_are_filled_where_nothing_is_scaled():
    known = Statistics.of(np.array([[1.0, 5.0], [3.0, 5.0]]), "mean", False)
    assert known.apply(np.array([[NAN, 1e6]])).tolist() == [[2, 1e6]]


def sites(folder: Path, **arrays: Any) -> Any:
    np.savez(folder / "sites.npz", **arrays)
    data = {
        "dataset": "npz:sites.npz",
        "partition": {"kind": "domain"},
        "missing": "mean",
        "standardise": True,
        "transfer": {"from": "train", "size": 10},
    }
    made = {"name": "t", "data": data, "clients": {"models": ["tabular"]}}
    return build(scenarios.from_dict(made), folder)


@pytest.mark.parametrize("unmeasured", [0.0, NAN])
def test_what_a_site_never_measured_stays_out_of_its_model(tmp_path, unmeasured):
    rng = np.random.default_rng(0)
    x = np.stack([rng.normal(size=80), rng.normal(240, 50, 80)], 1)
    other = x.copy()
    other[:, 1] = unmeasured
    found = sites(tmp_path, x_a=x, y_a=[0, 1] * 40, x_b=other, y_b=[0, 1] * 40, columns=["age", "chol"])
    a, b = found.shards
    assert found.test_tensors(b)[0][:, 1].abs().max() == 0
    assert found.transfer_tensor(b)[:, 1].abs().max() == 0
    assert found.test_tensors(a)[0][:, 1].abs().max() > 1
    assert found.notes == (
        "data.dataset: column 'chol' does not vary in the rows of 1 of 2 clients (b), so it is 0 for "
        "every row there.",
    )


def test_a_client_with_one_row_has_no_scale(tmp_path):
    rng = np.random.default_rng(0)
    found = sites(tmp_path, x_a=rng.normal(240, 50, (80, 2)), y_a=[0, 1] * 40, x_b=[[200.0, 1.0]], y_b=[1])
    assert len(found.shards[1].rows) == 1
    assert found.test_tensors(found.shards[1])[0].abs().max() == 0


def test_a_column_in_large_units_is_told_before_the_run_and_with_the_remedy(tmp_path):
    import fedkt

    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 60)
    x = np.stack([rng.normal(3e6, 1e6, 60), rng.normal(size=60)], 1)
    np.savez(tmp_path / "s.npz", x_train=x, y_train=y, columns=["salary", "age"])
    made = {
        "name": "t",
        "data": {
            "dataset": "npz:s.npz",
            "partition": {"kind": "iid", "clients": 2},
            "transfer": {"from": "train", "size": 10},
        },
        "clients": {"models": ["tabular"], "local": {"epochs": 1}},
        "strategy": {"name": "fedmd"},
        "rounds": 1,
        "engine": {"kind": "inline"},
    }
    (note,) = build(scenarios.from_dict(made), tmp_path).notes
    assert "column 'salary' holds numbers beyond 10000" in note and "data.standardise: true" in note
    with pytest.raises(RunError, match=r"data\.standardise"):
        fedkt.simulate(made, out=tmp_path / "run", data_dir=tmp_path)


@pytest.mark.parametrize(("x", "which"), [([[1.0, 1e39]], "column 1"), ([[np.inf, 1.0]], "column 0")])
def test_numbers_beyond_float32_are_refused_with_their_column(x, which):
    from fedkt.data.sets.dataset import dataset_of
    from fedkt.errors import InputError

    with pytest.raises(InputError, match=f"beyond float32's, in {which}"):
        dataset_of("here", np.array(x), [0])
