"""The sum of a batch's clipped row gradients, which private training adds noise to: two ways to make it.

Norms and their clip factors are Opacus' where model and loss allow ghost clipping; else row gradients that
``torch.func`` makes are clipped by the same rule. Which of them it is is tried: ghost clipping is taken only
where it gives what row gradients give (:func:`is_plain`).
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from fedkt.client.behaviour import Arrays, Fit, Forward, RowLoss
from fedkt.client.training import ModuleForward

CLIP_SLACK = 1e-6
"""Added to a norm before dividing by it, as Opacus does; it can only shrink what is clipped."""
SMALL = 2**16
"""Parameters of a layer, at most, whose row gradients are kept; those of larger ones take too much memory."""
_TRIED = 3
"""Rows of the trial that shows what kind of loss this is."""
_TRIED_CLIP = 1e-3
"""Norm to which the trial clips: less than rows' gradients have, so that a wrong norm shows."""

_known: WeakKeyDictionary[nn.Module, dict[Any, bool]] = WeakKeyDictionary()
"""By module and phase: whether ghost clipping was tried and found right."""

AddGradients = Callable[[Arrays], Tensor]
"""Sets ``.grad`` of every trainable parameter to the sum of a batch's clipped row gradients; returns the
rows' losses [rows]."""


@contextmanager
def ghost(module: nn.Module, loss: RowLoss, constants: Arrays, clip: float) -> Iterator[AddGradients]:
    """Ghost clipping: the rows' norms from one backward pass, then their weighted sum.

    Li et al. 2022, "Large Language Models Can Be Strong Differentially Private Learners", arXiv 2110.05679.
    Opacus takes the norms of dense layers and embeddings without any row's gradient; of other layers it makes
    row gradients on the way to the norm. What the first pass saw is kept, as in Bu et al. 2023,
    "Differentially Private Optimization on Large Model at Small Cost", arXiv 2210.00038: row gradients of
    small layers are summed with their weights, a dense layer's sum is one product of what it took and gave.
    Only what is left then needs a second backward pass.
    """
    from opacus.grad_sample.grad_sample_module_fast_gradient_clipping import (
        GradSampleHooksFastGradientClipping,
    )

    hooks = GradSampleHooksFastGradientClipping(
        module, loss_reduction="sum", max_grad_norm=clip, strict=False
    )
    net = ModuleForward(module)
    trained = [p for p in module.parameters() if p.requires_grad]
    kept: dict[Tensor, Tensor] = {}
    dense: dict[nn.Linear, tuple[Tensor, Tensor]] = {}
    outputs: list[Tensor] = []

    def unpadded(sampler: Callable[..., dict[Tensor, Tensor]]) -> Callable[..., dict[Tensor, Tensor]]:
        def by_row(layer: nn.Module, taken: list[Tensor], given: Tensor) -> dict[Tensor, Tensor]:
            if isinstance(layer, nn.Embedding) and layer.padding_idx is not None:
                # Opacus' samplers train the padding's row, which autograd leaves alone.
                given = given.masked_fill((taken[0] == layer.padding_idx).unsqueeze(-1), 0.0)
            if type(layer) is nn.Linear:
                dense[layer] = taken[0], given
            if type(layer) is nn.Conv2d and _is_simple(layer):
                return _convolved(layer, taken[0], given)
            # Opacus reads images as if their channels came first in memory, and products of strided
            # gradients are slow.
            return sampler(layer, [one.contiguous() for one in taken], given.contiguous())

        return by_row

    def keeping(sampler: Callable[..., dict[Tensor, Tensor]]) -> Callable[..., dict[Tensor, Tensor]]:
        def by_row(layer: nn.Module, taken: list[Tensor], given: Tensor) -> dict[Tensor, Tensor]:
            found = sampler(layer, taken, given)
            for parameter, gradients in found.items():
                if parameter.numel() <= SMALL:
                    kept[parameter] = kept[parameter] + gradients if parameter in kept else gradients
            return found

        return by_row

    def note(_: nn.Module, __: Any, output: Any) -> None:
        found = output if isinstance(output, tuple) else (output,)
        outputs.extend(part for part in found if isinstance(part, Tensor) and part.requires_grad)

    def add(batch: Arrays) -> Tensor:
        kept.clear()
        dense.clear()
        outputs.clear()
        values = loss(net, batch, constants)
        # The norms follow from what layers take and give: no parameter's gradient is computed on the way.
        torch.autograd.grad(values.sum(), outputs, retain_graph=True, allow_unused=True)
        weights = hooks.get_clipping_coef()
        for parameter, gradients in kept.items():
            parameter.grad = _weighted(weights, gradients)
        for layer, (taken, given) in dense.items():
            _sum_dense(layer, taken, given, weights)
        done = {*kept, *(parameter for layer in dense for parameter in layer.parameters())}
        rest = [parameter for parameter in trained if parameter not in done]
        hooks.disable_hooks()
        if rest:
            found = torch.autograd.grad((weights * values).sum(), rest)
            for parameter, gradient in zip(rest, found, strict=True):
                parameter.grad = gradient
        hooks.enable_hooks()
        return values.detach()

    hooks.GRAD_SAMPLERS = {kind: keeping(unpadded(one)) for kind, one in hooks.GRAD_SAMPLERS.items()}
    hooks.NORM_SAMPLERS = {kind: unpadded(one) for kind, one in hooks.NORM_SAMPLERS.items()}
    watched = [layer.register_forward_hook(note) for layer in hooks.iterate_submodules(module)]
    try:
        with warnings.catch_warnings():
            # torch tells that nothing asked for gradients of the rows themselves.
            warnings.filterwarnings("ignore", message="Full backward hook is firing")
            yield add
    finally:
        hooks.remove_hooks()
        for handle in watched:
            handle.remove()


@contextmanager
def by_row(module: nn.Module, loss: RowLoss, constants: Arrays, clip: float) -> Iterator[AddGradients]:
    """Each row's whole gradient by ``torch.func``: for all that :func:`ghost` is not right for, such as
    layers that are called twice and losses that use the parameters themselves.
    """
    trained = {name: p for name, p in module.named_parameters() if p.requires_grad}

    def one(params: dict[str, Tensor], row: dict[str, Tensor]) -> Tensor:
        net: Forward = _Functional(module, params)
        return loss(net, {name: value.unsqueeze(0) for name, value in row.items()}, constants).squeeze(0)

    both = torch.func.vmap(torch.func.grad_and_value(one), in_dims=(None, 0), randomness="different")

    def add(batch: Arrays) -> Tensor:
        held = {name: p.detach() for name, p in trained.items()}
        per_row, values = both(held, dict(batch))
        norms = torch.stack([g.flatten(1).norm(dim=1) for g in per_row.values()]).norm(dim=0)
        weights = (clip / (norms + CLIP_SLACK)).clamp(max=1.0)
        for name, parameter in trained.items():
            parameter.grad = _weighted(weights, per_row[name])
        found: Tensor = values.detach()
        return found

    yield add


def _weighted(weights: Tensor, gradients: Tensor) -> Tensor:
    """Return the sum of row gradients [rows, ...] with these weights [rows]."""
    return torch.einsum("b,b...->...", weights, gradients)


def _sum_dense(layer: nn.Linear, taken: Tensor, given: Tensor, weights: Tensor) -> None:
    """Set the gradients of a dense layer to the sum over rows with these weights [rows].

    ``taken`` [rows, ..., in]: its inputs; ``given`` [rows, ..., out]: the loss's gradient at its outputs.
    """
    scaled = given * weights.view(-1, *[1] * (given.ndim - 1))
    if layer.weight.requires_grad:
        layer.weight.grad = scaled.flatten(0, -2).T @ taken.flatten(0, -2)
    if layer.bias is not None and layer.bias.requires_grad:
        layer.bias.grad = scaled.flatten(0, -2).sum(0)


def _is_simple(layer: nn.Conv2d) -> bool:
    return (
        layer.groups == 1
        and layer.dilation == (1, 1)
        and layer.padding_mode == "zeros"
        and not isinstance(layer.padding, str)
    )


def _convolved(layer: nn.Conv2d, taken: Tensor, given: Tensor) -> dict[Tensor, Tensor]:
    """Return the row gradients [rows, ...] of a convolution's weight and bias.

    ``taken`` [rows, in, H, W], ``given`` [rows, out, H', W'], in whatever layout: for channels that come
    last, in which networks that pool are trained, this needs no copy of ``given``.
    """
    rows, channels = taken.shape[:2]
    (high, wide), (down, along) = layer.kernel_size, layer.stride
    assert not isinstance(layer.padding, str)
    height, width = given.shape[2:]
    padded = _padded(taken, layer.padding)
    row, channel, line, place = padded.stride()
    patches = padded.as_strided(
        (rows, channels, high, wide, height, width),
        (row, channel, line, place, line * down, place * along),
    ).reshape(rows, -1, height * width)
    gradients = given.permute(0, 2, 3, 1).reshape(rows, height * width, -1)
    found: dict[Tensor, Tensor] = {}
    if layer.weight.requires_grad:
        product = (patches @ gradients).transpose(1, 2)
        found[layer.weight] = product.reshape(rows, *layer.weight.shape)
    if layer.bias is not None and layer.bias.requires_grad:
        found[layer.bias] = gradients.sum(1)
    return found


def _padded(x: Tensor, padding: tuple[int, ...]) -> Tensor:
    """Return images [rows, channels, H, W] with zeros around them, their channels first in memory."""
    up, left = padding
    rows, channels, height, width = x.shape
    found = x.new_zeros(rows, channels, height + 2 * up, width + 2 * left)
    found[:, :, up : up + height, left : left + width] = x
    return found


class _Functional:
    """A module with its parameters given from outside, as :class:`~fedkt.client.Forward`."""

    def __init__(self, module: nn.Module, params: dict[str, Tensor]) -> None:
        self._module = module
        self.params: Arrays = params

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        out: tuple[Tensor, Tensor] = self._call(self._module, "", x)
        return out

    def head(self, z: Tensor) -> Tensor:
        out: Tensor = self._call(self._module.get_submodule("head"), "head", z)
        return out

    def _call(self, part: nn.Module, at: str, x: Tensor) -> Any:
        """Call a part of the module with each tensor put where it belongs, once.

        A layer in two places is one object, into which ``functional_call`` must put a tensor once, or it
        would leave it there; one parameter in two layers must be put into both.
        """
        places = {id(p): name for name, p in self._module.named_parameters() if name in self.params}
        own: dict[str, Tensor] = {}
        for place, layer in part.named_modules():  # each object once
            for name, parameter in layer._parameters.items():
                if parameter is not None and id(parameter) in places:
                    own[f"{place}.{name}" if place else name] = self.params[places[id(parameter)]]
        return torch.func.functional_call(part, own, (x,), tie_weights=False)


def is_plain(module: nn.Module, phase: Fit) -> bool:
    """Say whether :func:`ghost` is right for a phase: its loss calls the model once, leaves its parameters
    alone and uses all of them, and each layer's gradient follows from what the layer took and gave.

    Raises ValueError where a row's loss changes with the rows beside it. Tried on the first rows; nothing of
    it is kept.
    """
    batch = {name: tensor[:_TRIED] for name, tensor in phase.rows.items()}
    net, values = _tried(module, phase, batch)
    trained = [p for p in module.parameters() if p.requires_grad]
    if net.calls != 1 or net.looked or not values.requires_grad:
        return False
    found = torch.autograd.grad(values.sum(), trained, allow_unused=True)
    if any(gradient is None for gradient in found):
        return False
    known = _known.setdefault(module, {})
    asked = phase.name, phase.only, getattr(phase.loss, "func", phase.loss)
    if asked not in known:  # it is a matter of layers and loss, and takes as long as a few steps
        known[asked] = _ghost_is_right(module, phase, batch)
    return known[asked]


def refuse_mixed_rows(module: nn.Module, phase: Fit) -> None:
    """Raise ValueError where a row's loss changes with the rows beside it. Tried on the first rows."""
    _tried(module, phase, {name: tensor[:_TRIED] for name, tensor in phase.rows.items()})


def _tried(module: nn.Module, phase: Fit, batch: Arrays) -> "tuple[_Recorder, Tensor]":
    """Return how a loss used the model on these rows, and its values."""
    net = _Recorder(module)
    module.eval()  # without dropout, which would tell rows apart by chance
    values = phase.loss(net, batch, phase.constants)
    with torch.no_grad():
        for i in range(len(values)):
            row = {name: tensor[i : i + 1] for name, tensor in batch.items()}
            alone = phase.loss(ModuleForward(module), row, phase.constants)
            if alone.shape != (1,) or not torch.allclose(alone, values[i : i + 1], rtol=1e-3, atol=1e-4):
                raise ValueError(
                    f"the loss of phase '{phase.name}' mixes rows, so no row's influence can be bounded."
                )
    return net, values


def _ghost_is_right(module: nn.Module, phase: Fit, batch: Arrays) -> bool:
    """Say whether both ways to clip give the same sum for these rows.

    They do not where a layer's weight is also used outside of it (its hooks see a part of the gradient only,
    so the norm is too small), where one layer is called twice, and for layers that Opacus does not know.
    """
    tried = deepcopy(module).train()  # hooks need training mode
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in tried.parameters():  # what begins at zero would hide what it is multiplied with
            by = torch.randn(parameter.shape, generator=noise).to(parameter)
            parameter.add_(by if parameter.ndim < 2 else by / parameter[0].numel() ** 0.5)
    for part in tried.modules():
        if isinstance(part, nn.modules.dropout._DropoutNd):
            part.eval()
    trained = [p for p in tried.parameters() if p.requires_grad]
    sums = []
    for way in (by_row, ghost):
        try:
            with way(tried, phase.loss, phase.constants, _TRIED_CLIP) as add:
                add(batch)
            sums.append(torch.cat([p.grad.flatten() for p in trained if p.grad is not None]))
        except Exception:
            # Whatever a library stumbles over, it is not ghost clipping that will train this model.
            return False
    one, other = sums
    return one.shape == other.shape and torch.allclose(one, other, rtol=0, atol=1e-4 * _TRIED_CLIP)


def tidy(module: nn.Module) -> None:
    """Take off what the last step left on parameters and layers: gradients, and what Opacus keeps there."""
    for parameter in module.parameters():
        parameter.grad = None
    names = ("summed_grad", "grad_sample", "_norm_sample", "_forward_counter", "_current_grad_sample")
    for held, what in [
        *((p, names) for p in module.parameters()),
        *((part, ("activations", "max_batch_len")) for part in module.modules()),
    ]:
        for name in what:
            if hasattr(held, name):
                delattr(held, name)


class _Recorder:
    """A forward pass that notes how a loss uses it."""

    def __init__(self, module: nn.Module) -> None:
        self._forward = ModuleForward(module)
        self.calls = 0
        self.looked = False

    @property
    def params(self) -> Arrays:
        self.looked = True
        return self._forward.params

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.calls += 1
        return self._forward(x)

    def head(self, z: Tensor) -> Tensor:
        self.calls += 1  # the head's hooks know one call per batch only
        return self._forward.head(z)
