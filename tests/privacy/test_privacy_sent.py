"""The table of docs/privacy.md that says what leaves a client under each mode, and what pays for it."""

from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from fedkt.engine.world.private import privacy_problems
from fedkt.privacy.protection import float_arrays
from tests.privacy.test_privacy_contract import FITS, SETTINGS, private
from tests.strategy.test_contract import world_of

PAGE = Path(__file__).parents[2] / "docs" / "privacy.md"
HEAD = "| client half: array | sent by |"


def table() -> dict[tuple[str, str, str], dict[str, str]]:
    """Return what the page says, by client half, array and strategy: mode to what pays."""
    if not PAGE.is_file():
        pytest.skip("docs/privacy.md is not here: these are the tests of an installed package")
    lines = PAGE.read_text(encoding="utf-8").split(HEAD)[1].splitlines()
    modes = [cell.strip(" `") for cell in lines[0].strip("|").split("|")]
    assert modes == list(SETTINGS)
    found: dict[tuple[str, str, str], dict[str, str]] = {}
    for line in lines[2:]:
        if not line.startswith("|"):
            break
        what, by, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        half, _, arrays = what.partition(": ")
        for name in by.partition(" (")[0].split(", "):
            for array in arrays.split(", "):
                found[half, array, name] = dict(zip(modes, cells, strict=True))
    return found


def paid(name: str, mode: str) -> dict[str, str]:
    """Return for each array that a strategy sends under a mode what the code does to it."""
    world = world_of(private(name, mode))
    expected, held = world.full_contribution("0"), world.mode
    assert held is not None
    events = held.release(expected, 2.0)
    if mode in ("vote_rr", "vote_gnmax"):
        assert list(expected) == ["labels"]  # votes stand for the values
        rows = expected["labels"].shape[0]
        if mode == "vote_rr":
            assert [(e.kind, e.count) for e in events] == [("rr", rows)]
        return {"values": "e^ε₀ per vote" if mode == "vote_rr" else "√2 per row"}
    if mode == "central_gauss":
        assert list(expected) == ["values"]
        return {"values": "C"}
    if mode == "proto_gauss":
        assert [(e.kind, e.count) for e in events] == [("gauss", 1)] and held.training_noise(2.0)
        return {array: "√2·C with counts" for array in expected}
    ones = {array: np.full(spec.shape, 3).astype(spec.dtype) for array, spec in expected.items()}
    sent = held.privatise(ones, expected, 2.0)
    constant = {array for array in expected if (np.asarray(sent[array]) == 1).all()}
    if mode == "logit_gauss":
        assert [(e.kind, e.count) for e in events] == [("gauss", 1)]
        assert constant == set(expected) - set(float_arrays(expected))
        return {array: "a constant" if array in constant else "2C√rows" for array in expected}
    assert not events and not world.behaviour.reads_private_rows(world.settings)
    return {array: "a constant" if array in constant else "post-processing" for array in expected}


def test_the_table_is_what_the_code_does() -> None:
    derived: dict[tuple[str, str, str], dict[str, str]] = defaultdict(
        lambda: dict.fromkeys(SETTINGS, "refused")
    )
    for name, modes in FITS.items():
        for mode in modes:
            half = world_of(private(name, mode)).strategy.client
            for array, what in paid(name, mode).items():
                derived[half, "tensors" if array.startswith("tensor.") else array, name][mode] = what
    assert table() == dict(derived)


@pytest.mark.parametrize("mode", SETTINGS)
def test_patience_decides_by_private_rows_and_is_refused(mode: str) -> None:
    name = "fedproto" if mode == "proto_gauss" else "fedmd"
    scenario = private(name, mode)
    data = scenario.data.model_copy(update={"validation": 0.2})
    world = world_of(scenario.model_copy(update={"data": data, "patience": 2}))
    (problem,) = privacy_problems(world)
    assert problem.startswith("patience ends a run by what is right of clients' validation rows")
    assert f"privacy mode '{mode}' does not pay for; leave it out." in problem
