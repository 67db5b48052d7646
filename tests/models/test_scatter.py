"""Fixed wavelet features: nothing but the head is trained, and features are computed once."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

import fedkt
from fedkt.client import Fit, Steps, classification
from fedkt.client.training import ahead, fit, predict
from fedkt.data import build as build_data
from fedkt.data.sets.common_rows import CommonRows
from fedkt.data.sets.dataset import InputSpec
from fedkt.errors import InputError
from fedkt.models.scatter import Scattering, scatter, wavelets, whitening
from fedkt.privacy.dpsgd import Dpsgd, fit_privately
from fedkt.results.export import export
from fedkt.rng import torch_stream
from fedkt.scenario import load

IMAGE = InputSpec("image", (1, 16, 16), 0)


def phase(**more: object) -> Fit:
    stream = torch_stream(0, "scatter")
    rows = {
        "x": torch.rand(20, 1, 16, 16, generator=stream),
        "y": torch.randint(0, 3, (20,), generator=stream),
    }
    return Fit("train", rows, classification, Steps(2, 5, "sgd", 1.0), private=True)


def test_features_are_fixed_and_bounded() -> None:
    """16x16 pixels in squares of 4: 16 numbers of each of 17 responses, 272, of norm 1 together."""
    net = scatter(IMAGE, 3)
    z, logits = predict(net, phase().rows["x"])
    assert z.shape == (20, 272) and logits.shape == (20, 3)
    assert torch.allclose(z.norm(dim=1), torch.ones(20), atol=1e-5)
    assert [name for name, _ in net.named_parameters()] == ["head.weight", "head.bias"]
    # A constant image has no response but its mean, which is taken off.
    assert predict(net, torch.ones(1, 1, 16, 16))[0][:, :16].abs().max() < 1e-5


def test_wavelets_have_mean_zero_and_a_direction() -> None:
    found = wavelets(4, 1.0)
    assert found.sum((-2, -1)).abs().max() < 1e-5
    # The first looks along x: a wave along x excites it more than one along y does.
    x = torch.arange(-3.0, 4.0).expand(7, 7)
    wave = torch.exp(1j * 0.75 * torch.pi * x)
    assert (found[0, 0].conj() * wave).sum().abs() > 3 * (found[0, 0].conj() * wave.T).sum().abs()


def test_training_on_features_is_training_on_images(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = scatter(IMAGE, 3), scatter(IMAGE, 3)
    quick = fit(one, phase(), {}, seed=0, client="0", round_=1)
    monkeypatch.setattr("fedkt.client.training.ahead", lambda module, its: (module, its))
    slow = fit(other, phase(), {}, seed=0, client="0", round_=1)
    assert torch.allclose(one.head.weight, other.head.weight, atol=1e-5)  # type: ignore[arg-type]
    assert set(quick) == set(slow)
    assert ahead(one, phase())[1].rows["x"].shape == (20, 272)


def test_it_trains_privately() -> None:
    net = scatter(IMAGE, 3)
    fit_privately(net, phase(), {}, Dpsgd(1.0, 0.5), seed=0, client="0", round_=1)
    assert net.get_parameter("head.weight").abs().max() > 0


def test_small_images_are_refused() -> None:
    with pytest.raises(InputError, match="at least 8x8 pixels"):
        scatter(InputSpec("image", (1, 6, 6), 0), 3)


# Components that are learned from the transfer set -----------------------------------------------------


def with_common(rows: int = 30) -> tuple[InputSpec, list[int]]:
    """Return an input with so many common rows, and a list that grows each time they are looked at."""
    looked: list[int] = []

    def common() -> torch.Tensor:
        looked.append(rows)
        return torch.rand(rows, 1, 16, 16, generator=torch_stream(0, "common"))

    return InputSpec("image", (1, 16, 16), 0, CommonRows(common)), looked


def test_whitening_by_hand() -> None:
    """Variances 0.5 along x and 0.125 along y; a ridge of a tenth of the larger adds 0.05."""
    rows = torch.tensor([[3.0, 1.0], [1.0, 1.0], [2.0, 1.5], [2.0, 0.5]])
    mean, axes = whitening(rows, 2, 0.1)
    assert mean.tolist() == [2.0, 1.0]
    assert torch.allclose(axes, torch.diag(torch.tensor([0.55**-0.5, 0.175**-0.5])), atol=1e-6)
    assert whitening(torch.ones(3, 2), 1, 0.1)[1].isfinite().all()


def test_components_are_learned_once_and_bounded() -> None:
    """From common rows alone; the head is all that is trained, and it has 5 weights per class."""
    input_, looked = with_common()
    nets = [scatter(input_, 3, components=5) for _ in range(3)]
    assert looked == [30]
    z, logits = predict(nets[0], phase().rows["x"])
    assert z.shape == (20, 5) and logits.shape == (20, 3) and nets[0].width == 5
    assert torch.allclose(z.norm(dim=1), torch.ones(20), atol=1e-5)
    assert [(n, tuple(p.shape)) for n, p in nets[0].named_parameters()] == [
        ("head.weight", (3, 5)),
        ("head.bias", (3,)),
    ]
    assert sorted(nets[0].state_dict()) == ["features.axes", "features.mean", "head.bias", "head.weight"]
    assert torch.equal(nets[0].get_buffer("features.axes"), nets[1].get_buffer("features.axes"))
    assert ahead(nets[0], phase())[1].rows["x"].shape == (20, 5)


def test_a_model_to_be_loaded_needs_no_common_rows() -> None:
    learned = scatter(with_common()[0], 3, components=5)
    empty = scatter(InputSpec("image", (1, 16, 16), 0, CommonRows(None)), 3, components=5)
    empty.load_state_dict(learned.state_dict())
    x = phase().rows["x"]
    assert torch.equal(predict(empty, x)[0], predict(learned, x)[0])


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"components": -1}, "components of model 'scatter' is -1; it must be an integer from 0 on."),
        ({"components": True}, "components of model 'scatter' is True; it must be an integer from 0 on."),
        ({"ridge": 0}, "ridge of model 'scatter' is 0; it must be above 0."),
        ({"components": 273}, "is 273; it must be at most 272, the features it has."),
        ({"components": 30}, "is 30; it must be less than the 30 rows of the transfer set."),
    ],
)
def test_components_that_cannot_be_are_refused(settings: dict[str, Any], why: str) -> None:
    with pytest.raises(InputError, match=re.escape(why)):
        scatter(with_common()[0], 3, **settings)


def test_components_need_a_transfer_set() -> None:
    with pytest.raises(InputError, match="learns its components from the transfer set, and there is none"):
        scatter(IMAGE, 3, components=5)


def test_a_run_learns_them_from_its_transfer_set_and_exports_them(tmp_path: Path) -> None:
    run = fedkt.simulate(
        "private-digits",
        [
            "engine.kind=inline", "rounds=1", "clients.models=[{name: scatter, components: 6}]",
            "clients.local.epochs=2", "clients.distill.epochs=1", "privacy={mode: none}",
            "data.partition.clients=2",
        ],
        out=tmp_path / "run",
    )  # fmt: skip
    model = fedkt.load_model(export(run.path, "1", tmp_path / "model"))
    federation = build_data(load(run.path / "scenario.yaml"))
    rows = federation.transfer_tensor()
    mean, axes = whitening(Scattering(8)(rows), 6, 0.01)
    assert torch.equal(model.get_buffer("features.axes"), axes)
    assert torch.equal(model.get_buffer("features.mean"), mean)
