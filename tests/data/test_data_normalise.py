"""Images normalised by the transfer set's own mean and deviation."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fedkt import scenario
from fedkt.data import build
from fedkt.data.loaded import constants
from fedkt.data.own import Sources, build_own
from fedkt.data.sets.dataset import Dataset, InputSpec
from fedkt.errors import InputError

GIVEN = "name: a\ndata: {transfer: {from: train, size: 20}, normalise: transfer}\n"


def test_each_channel_has_the_transfer_sets_own_mean_and_deviation() -> None:
    """Channel 0 of two rows: 0 and 1, mean 1/2, deviation 1/2; channel 1: 1/4 throughout, only shifted."""
    rows = np.zeros((2, 2, 1, 1), np.float32)
    rows[1, 0], rows[:, 1] = 1.0, 0.25
    data = scenario.load(GIVEN).data
    part = Dataset(rows, np.zeros(2, np.int64), None, "image")
    assert constants(data, part, InputSpec("image", (2, 1, 1))) == ((0.5, 0.25), (0.5, 1.0))
    # As models see them: two pixels of 0 and of 1 beside each other are 1/2 in the image of one.
    wide = Dataset(np.repeat(rows, 2, axis=3).repeat(2, axis=2), np.zeros(2, np.int64), None, "image")
    assert constants(data, wide, InputSpec("image", (2, 1, 1))) == ((0.5, 0.25), (0.5, 1.0))


@pytest.mark.parametrize("named", [True, False])
def test_a_federation_is_normalised_by_public_rows_and_hashed_as_it_was(named: bool) -> None:
    """Also where the scenario leaves it open."""
    plain = build(scenario.load(GIVEN, ["data.normalise=none"]))
    federation = build(scenario.load(GIVEN, [] if named else ["data.normalise=null"]))
    raw, seen = plain.transfer_tensor(), federation.transfer_tensor()
    assert torch.allclose(seen, (raw - raw.mean()) / raw.std(correction=0), atol=1e-5)
    assert seen.mean().item() == pytest.approx(0, abs=1e-5)
    private, _ = federation.tensors(federation.shards[0])
    own, _ = plain.tensors(plain.shards[0])
    assert torch.allclose(private, (own - raw.mean()) / raw.std(correction=0), atol=1e-5)
    assert federation.transfer_hash == plain.transfer_hash
    assert scenario.load(scenario.dump(scenario.load(GIVEN))) == scenario.load(GIVEN)


def test_a_site_has_the_numbers_of_its_own_copy_of_the_transfer_set(tmp_path: Path) -> None:
    """Pixels 0 and 255: mean 1/2, deviation 1/2; a private pixel of 255 is 1."""
    public, own = np.zeros((2, 1, 4, 4), np.uint8), np.full((10, 1, 4, 4), 255, np.uint8)
    public[1] = 255
    np.savez(tmp_path / "public.npz", x_train=public, y_train=np.zeros(2, np.int64))
    np.savez(tmp_path / "own.npz", x_train=own, y_train=np.arange(10) % 2)
    sources = Sources(tmp_path, "npz:own.npz", transfer="npz:public.npz", classes=2, overlap="report")
    federation = build_own("here", sources, scenario.load(GIVEN))
    assert federation.tensors(federation.shards[0])[0].unique().tolist() == [1.0]
    assert federation.transfer_tensor().unique().tolist() == [-1.0, 1.0]
    with pytest.raises(InputError, match=r"data\.normalise is 'transfer', but there is no transfer set"):
        build_own("here", replace(sources, transfer=None), scenario.load(GIVEN))


def test_where_nothing_is_public_or_rows_are_no_images_nothing_is_normalised() -> None:
    bare = ["data.normalise=null", "data.transfer=null", "strategy={name: local}"]
    assert build(scenario.load(GIVEN, bare)).preprocess.normalise is None
    data = scenario.load(GIVEN, ["data.normalise=null"]).data
    table = Dataset(np.zeros((2, 3), np.float32), np.zeros(2, np.int64), None, "tabular")
    assert constants(data, table, InputSpec("tabular", (3,))) is None


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["data.transfer=null", "strategy={name: local}"], "but there is no transfer set"),
        (["data.normalise=transfr"], "data.normalise is 'transfr'; it must be 'transfer' or 'none'"),
        (["data.normalise={mean: [0.5], std: [0]}"], "data.normalise.std.0 is 0; it must be greater than 0"),
        (["data.normalise={mean: [0.5], sd: [1]}"], "unknown key 'data.normalise.sd'; did you mean 'std'?"),
    ],
)
def test_what_is_wrong_is_said(given: list[str], words: str) -> None:
    with pytest.raises(InputError) as raised:
        build(scenario.load(GIVEN, given))
    assert words in str(raised.value)
