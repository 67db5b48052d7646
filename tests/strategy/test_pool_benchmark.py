"""The pool that is three quarters foreign: what is in it, and what each policy asks for there."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedkt.data.content.same_rows import row_hashes

pool: Any = pytest.importorskip("benchmarks.pool", reason="benchmarks are in the checkout only")


def test_a_quarter_of_the_pool_is_held_out_of_the_private_rows(tmp_path: Path) -> None:
    right = pool.write_data(pool.QUICK, tmp_path, tmp_path)
    with np.load(tmp_path / "pool.npz") as mixed, np.load(tmp_path / "private.npz") as private:
        rows = row_hashes(mixed["x_train"])
        assert (len(right), len(rows), len(private["x_train"])) == (60, 240, 1438 - 60)
        assert np.isin(rows, right).tolist() == [True] * 60 + [False] * 180
        for part in ("x_train", "x_test"):
            assert not np.isin(row_hashes(private[part]), rows).any()


def test_a_clean_pool_and_validation_rows_share_no_row_with_the_private_ones(tmp_path: Path) -> None:
    right = pool.write_data(pool.QUICK, tmp_path, tmp_path, clean=True, validation=True)
    with np.load(tmp_path / "pool.npz") as held, np.load(tmp_path / "private.npz") as private:
        rows, trained, tested = (
            row_hashes(part) for part in (held["x_train"], private["x_train"], private["x_test"])
        )
        assert (len(right), len(rows), len(trained), len(tested)) == (240, 240, 1438 - 240 - 359, 359)
        assert np.isin(rows, right).all()
        for one, other in ((rows, trained), (rows, tested), (trained, tested)):
            assert not np.isin(one, other).any()


def test_doubt_asks_for_foreign_rows_and_disagreement_for_the_right_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = ["--quick", "--seeds", "0", "--alphas", "0.5", "--out", str(tmp_path), "--policies"]
    pool.main([*wanted, "entropy", "disagreement"])
    log = tmp_path / "quick" / "runs.jsonl"
    runs = [json.loads(line) for line in log.read_text().splitlines()]
    entropy, disagreement = (run["right"] for run in runs)
    assert entropy < 10 < 50 < disagreement  # by chance 25
    before = log.read_bytes()
    capsys.readouterr()
    pool.main([*wanted, "entropy"])
    assert log.read_bytes() == before  # what is there is not run again
    assert capsys.readouterr().out.splitlines() == [
        "| policy | alpha 0.5: personal | alpha 0.5: global | alpha 0.5: right kind |",
        "|---|---|---|---|",
        f"| entropy | {runs[0]['personal']:.1f} | {runs[0]['global']:.1f} | {entropy:.1f} |",
    ]


def test_the_table_holds_means_and_sample_deviations() -> None:
    cells = [
        ("random", 5.0, 85.0, 80.0, 20.0),
        ("random", 5.0, 87.0, 82.0, 30.0),
        ("margin", 0.5, 70.0, 61.25, 0.0),
    ]
    keys = ("policy", "alpha", "personal", "global", "right")
    assert pool.table([dict(zip(keys, cell, strict=True)) for cell in cells]) == [
        "| policy | alpha 0.5: personal | alpha 0.5: global | alpha 0.5: right kind | alpha 5: personal "
        "| alpha 5: global | alpha 5: right kind |",
        "|---|---|---|---|---|---|---|",
        "| random | – | – | – | 86.0 ± 1.4 | 81.0 ± 1.4 | 25.0 ± 7.1 |",
        "| margin | 70.0 | 61.2 | 0.0 | – | – | – |",
    ]
