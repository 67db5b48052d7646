"""DP-SGD on one client: clipping, noise, sampling, and what must not reach them."""

from functools import partial
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from fedkt.client import Arrays, Fit, Forward, Steps, classification
from fedkt.client.training import ModuleForward, lay_out
from fedkt.clients.weights import proximal
from fedkt.data.sets.dataset import InputSpec
from fedkt.models.build import build
from fedkt.models.net import Net
from fedkt.models.net import net as make_net
from fedkt.privacy import clipping, dpsgd
from fedkt.privacy.clipping import is_plain
from fedkt.privacy.dpsgd import Dpsgd, fit_privately, sampling
from fedkt.rng import torch_stream

IMAGE = InputSpec("image", (1, 8, 8), 0)
WORDS = InputSpec("tokens", (6,), 20)


def rows(n: int, spec: InputSpec = IMAGE) -> dict[str, Tensor]:
    stream = torch_stream(0, "rows", n)
    x = (
        torch.randint(0, 20, (n, *spec.shape), generator=stream)
        if spec.kind == "tokens"
        else torch.randn(n, *spec.shape, generator=stream)
    )
    return {"x": x, "y": torch.randint(0, 3, (n,), generator=stream)}


def phase(n: int, loss: Any = classification, steps: Steps | None = None, **more: Any) -> Fit:
    return Fit("train", rows(n), loss, steps or Steps(1, 8, "sgd", 0.1), private=True, **more)


def train(net: nn.Module, what: Fit, how: Dpsgd, seed: int = 0) -> dict[str, Tensor]:
    return fit_privately(net, what, {}, how, seed=seed, client="0", round_=1)


def mlp(width: int = 5) -> Net:
    return build(("mlp", {"width": width}), IMAGE, 3, 0)


class Line(nn.Module):
    """One weight per coordinate; the loss below makes a row's gradient the row itself."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.head = nn.Linear(width, 1, bias=False)
        nn.init.zeros_(self.head.weight)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, self.head(x)


def output(net: Forward, batch: Arrays, constants: Arrays) -> Tensor:
    return net(batch["x"])[1].squeeze(-1)


@pytest.mark.parametrize("small", [clipping.SMALL, 0])
@pytest.mark.parametrize(
    ("model", "spec"),
    [
        ("mlp", IMAGE),
        ("cnn", IMAGE),
        ("resnet8", IMAGE),
        ("text", WORDS),
    ],
)
def test_both_ways_to_clip_agree(
    model: str, spec: InputSpec, small: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the row gradients of small layers are kept or made anew."""
    monkeypatch.setattr(clipping, "SMALL", small)
    net = build((model, {"width": 8}), spec, 3, 0)
    found = []
    for way in (clipping.ghost, clipping.by_row):
        for clip in (0.1, 1.0, 100.0):
            for parameter in net.parameters():
                parameter.grad = torch.zeros_like(parameter)
            with way(net, classification, {}, clip) as add:
                add(rows(12, spec))
            found.append(torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None]))
    for ghost, by_row in zip(found[:3], found[3:], strict=True):
        assert torch.allclose(ghost, by_row, atol=1e-5)
    assert found[0].norm() <= 12 * 0.1 + 1e-5
    # Where nothing is clipped, the sum is that of an ordinary backward pass.
    values = classification(ModuleForward(net), rows(12, spec), {})
    plain = torch.autograd.grad(values.sum(), list(net.parameters()))
    assert torch.allclose(found[2], torch.cat([g.flatten() for g in plain]), atol=1e-5)


@pytest.mark.parametrize("small", [clipping.SMALL, 0])
def test_a_layer_that_is_called_twice(small: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against rows one by one."""
    monkeypatch.setattr(clipping, "SMALL", small)
    shared = nn.Conv2d(1, 1, 3, padding=1)
    net = make_net([shared, nn.Tanh(), shared, nn.Flatten()], 64, 3, 0.0)
    batch, total = rows(5), [torch.zeros_like(p) for p in net.parameters()]
    for i in range(5):
        row = {name: tensor[i : i + 1] for name, tensor in batch.items()}
        own = torch.autograd.grad(classification(ModuleForward(net), row, {}).sum(), list(net.parameters()))
        length = float(torch.cat([g.flatten() for g in own]).norm())
        total = [t + g * min(1.0, 0.5 / length) for t, g in zip(total, own, strict=True)]
    for way in (clipping.ghost, clipping.by_row):
        with way(net, classification, {}, 0.5) as add:
            add(batch)
        for parameter, expected in zip(net.parameters(), total, strict=True):
            assert parameter.grad is not None and torch.allclose(parameter.grad, expected, atol=1e-5)


def test_gradients_are_clipped_by_row() -> None:
    """Rows (3, 4) and (0, .5): the first has norm 5 and is cut to (.6, .8), the second stays."""
    net = Line(2)
    for way in (clipping.ghost, clipping.by_row):
        net.zero_grad()
        with way(net, output, {}, 1.0) as add:
            add({"x": torch.tensor([[3.0, 4.0], [0.0, 0.5]])})
        (found,) = [p.grad for p in net.parameters()]
        assert found is not None
        assert found.tolist()[0] == pytest.approx([0.6, 1.3], abs=1e-5)


def test_what_a_phase_costs() -> None:
    """250 rows in batches of 32 are 8 batches: rate 1/8, and three epochs are 24 steps."""
    assert sampling(250, Steps(3, 32, "sgd", 0.1)) == (0.125, 24)
    assert sampling(93, Steps(1, 1, "sgd", 0.1)) == (1 / 93, 93)
    assert sampling(10, Steps(2, 100, "sgd", 0.1)) == (1.0, 2)
    assert sampling(0, Steps(2, 100, "sgd", 0.1)) == (0.0, 0)


def test_noise_has_the_declared_size() -> None:
    """One full-batch step on zero gradients: weights are -lr * sigma * C / n times normal numbers."""
    net = Line(20_000)
    what = Fit("train", {"x": torch.zeros(4, 20_000)}, output, Steps(1, 4, "sgd", 1.0), private=True)
    train(net, what, Dpsgd(multiplier=2.0, max_grad_norm=0.5))
    noise = net.head.weight.detach().flatten() * 4 / (2.0 * 0.5)
    # Chi-square interval of 20 000 normal numbers; a sound implementation fails once in a million runs.
    low, high = stats.chi2.interval(1 - 1e-6, len(noise))
    assert low < float(noise.square().sum()) < high


def test_rows_are_drawn_by_poisson_sampling(monkeypatch: pytest.MonkeyPatch) -> None:
    """400 steps at rate 1/4 of 40 rows: batch sizes are binomial, empty ones included by the loop."""
    sizes: list[int] = []

    def note(net: Forward, batch: Arrays, constants: Arrays) -> Tensor:
        sizes.append(len(batch["x"]))
        return output(net, batch, constants)

    monkeypatch.setattr(dpsgd, "is_plain", lambda *_: True)
    what = Fit("train", {"x": torch.zeros(40, 2)}, note, Steps(100, 10, "sgd", 0.1), private=True)
    train(Line(2), what, Dpsgd(1.0, 1.0))
    assert len(sizes) >= 390
    mean, variance = float(torch.tensor(sizes).float().mean()), float(torch.tensor(sizes).float().var())
    assert mean == pytest.approx(10, abs=1.0)
    assert variance == pytest.approx(40 * 0.25 * 0.75, abs=3.0)


def test_a_batch_without_rows_gets_noise_only() -> None:
    """One row at rate 1/1000 hardly ever comes: the weights move all the same."""
    net = Line(3)
    what = Fit("train", {"x": torch.zeros(1000, 3)}, output, Steps(1, 1, "sgd", 1.0), private=True)
    train(net, what, Dpsgd(1.0, 1.0))
    assert net.head.weight.isfinite().all() and net.head.weight.abs().min() > 0


def test_the_seed_does_not_reach_the_noise() -> None:
    results = []
    for _ in range(2):
        net = mlp()
        torch.manual_seed(0)
        train(net, phase(16), Dpsgd(1.0, 1.0), seed=3)
        results.append(torch.cat([p.detach().flatten() for p in net.parameters()]))
    assert not torch.equal(*results)


def test_without_noise_and_clip_it_is_plain_training() -> None:
    """A full batch, no noise, a clip that nothing reaches: one step of plain gradient descent."""
    steps = Steps(1, 16, "sgd", 0.1)
    private, plain = mlp(), mlp()
    train(private, phase(16, steps=steps), Dpsgd(0.0, 1e6))
    loss = classification(ModuleForward(plain), rows(16), {}).mean()
    for parameter, gradient in zip(
        plain.parameters(), torch.autograd.grad(loss, list(plain.parameters())), strict=True
    ):
        parameter.data -= 0.1 * gradient
    for one, other in zip(private.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_the_optimiser_goes_on() -> None:
    """Adam's state comes back by name and counts its steps; nothing of Opacus stays on the parameters."""
    net = mlp()
    what = phase(16, steps=Steps(1, 8, "adam", 0.01))
    state = train(net, what, Dpsgd(1.0, 1.0))
    assert state["head.bias/step"].item() == 2
    state = fit_privately(net, what, state, Dpsgd(1.0, 1.0), seed=0, client="0", round_=2)
    assert state["head.bias/step"].item() == 4
    assert not any(hasattr(p, "summed_grad") or hasattr(p, "_norm_sample") for p in net.parameters())


def test_a_loss_that_uses_parameters_is_clipped_by_row() -> None:
    """FedProx' pull towards the server's weights is a part of each row's gradient."""
    net = mlp()
    anchor = {name: torch.zeros_like(p) for name, p in net.named_parameters()}
    pulled = phase(8, partial(proximal, mu=100.0), constants=anchor)
    assert is_plain(net, phase(8)) and not is_plain(net, pulled)
    before = sum(p.detach().square().sum() for p in net.parameters())
    train(net, pulled, Dpsgd(0.0, 1.0))
    after = sum(p.detach().square().sum() for p in net.parameters())
    assert after < before


def test_a_loss_that_leaves_the_head_alone_works() -> None:
    net = mlp()
    only_features = phase(8, lambda net, batch, constants: net(batch["x"])[0].square().mean(-1))
    assert not is_plain(net, only_features)
    train(net, only_features, Dpsgd(1.0, 1.0))


def test_what_a_phase_leaves_alone_is_left_alone() -> None:
    net = mlp()
    only = frozenset(name for name, _ in net.named_parameters() if not name.startswith("head"))
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    train(net, phase(8, only=only), Dpsgd(1.0, 1.0))
    assert {name for name, p in net.named_parameters() if not torch.equal(p, before[name])} == only


def test_a_loss_that_mixes_rows_is_refused() -> None:
    def mixing(net: Forward, batch: Arrays, constants: Arrays) -> Tensor:
        logits = net(batch["x"])[1]
        return (logits - logits.mean(0)).square().sum(-1)

    with pytest.raises(ValueError, match="mixes rows"):
        train(mlp(), phase(8, mixing), Dpsgd(1.0, 1.0))


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
def test_row_gradients_of_convolutions_in_both_layouts(stride: int, channels_last: bool) -> None:
    """Against rows one by one. Opacus 1.6 reads images as if their channels came first in memory."""
    layer = nn.Conv2d(3, 4, (3, 2), padding=(1, 0), stride=stride)
    net = make_net([layer, nn.ReLU(), nn.Flatten()], 4 * (8 // stride) * ((8 - 2) // stride + 1), 3, 0.0)
    batch = {"x": torch.randn(5, 3, 8, 8, generator=torch_stream(0, "x")), "y": torch.arange(5) % 3}
    if channels_last:
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        batch["x"] = batch["x"].to(memory_format=torch.channels_last)
    total = [torch.zeros_like(p) for p in net.parameters()]
    for i in range(5):
        row = {name: tensor[i : i + 1] for name, tensor in batch.items()}
        own = torch.autograd.grad(classification(ModuleForward(net), row, {}).sum(), list(net.parameters()))
        length = float(torch.cat([g.flatten() for g in own]).norm())
        total = [t + g * min(1.0, 0.1 / length) for t, g in zip(total, own, strict=True)]
    with clipping.ghost(net, classification, {}, 0.1) as add:
        add(batch)
    for p, expected in zip(net.parameters(), total, strict=True):
        assert p.grad is not None and torch.allclose(p.grad, expected, atol=1e-6)


def test_a_pooling_network_in_its_layout_is_clipped_without_row_gradients_of_all() -> None:
    """In the layout in which the engines train it, ghost clipping is right and therefore taken."""
    net = build(("cnn", {"width": 8}), IMAGE, 3, 0)
    lay_out(net)
    assert net.get_parameter("features.3.weight").is_contiguous(memory_format=torch.channels_last)
    assert is_plain(net, phase(8))
