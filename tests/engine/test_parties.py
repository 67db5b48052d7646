"""Parties that differ (models, columns, classes, tasks) on the engines of many processes: the same bits."""

from pathlib import Path
from typing import Any

import pytest

import fedkt
from fedkt.files import read_tensors
from fedkt.results.folder import read_rows
from tests import parties


def told(run: Path) -> tuple[dict[str, Any], list[Any]]:
    """Every client's newest tensors, as bytes, and what the run measured of all."""
    files = {file.parent.name: file for file in sorted((run / "checkpoint/clients").rglob("*.safetensors"))}
    states = {
        client: {name: part.numpy().tobytes() for name, part in read_tensors(file)[0].items()}
        for client, file in files.items()
    }
    return states, read_rows(run / "clients.jsonl")


@pytest.mark.slow
@pytest.mark.parametrize("case", parties.CASES)
@pytest.mark.parametrize("kind", ["ray", "flower"])
def test_every_engine_gives_the_same_bits(kind: str, case: str, tmp_path: Path) -> None:
    pytest.importorskip("skops", reason="the extra 'trees' (and 'dev') has what estimators need")
    parties.write(tmp_path)
    engines: dict[str, dict[str, Any]] = {"inline": {"kind": "inline"}, kind: {"kind": kind, "workers": 2}}
    one, other = (
        told(
            fedkt.simulate(
                parties.described(case, engine={**engine, "cohort": "off"}),
                out=tmp_path / name,
                data_dir=tmp_path,
                progress=False,
            ).path
        )
        for name, engine in engines.items()
    )
    assert one[0].keys() == set(parties.SITES) and one == other
