"""Fixed wavelet features: nothing but the head is trained, and features are computed once."""

import pytest
import torch

from fedkt.client import Fit, Steps, classification
from fedkt.client.training import ahead, fit, predict
from fedkt.data.sets.dataset import InputSpec
from fedkt.errors import InputError
from fedkt.models.scatter import scatter, wavelets
from fedkt.privacy.dpsgd import Dpsgd, fit_privately
from fedkt.rng import torch_stream

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
