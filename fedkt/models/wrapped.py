"""Nets of other libraries, such as torchvision and timm, as features and a head."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from fedkt.errors import InputError
from fedkt.models.net import Net
from fedkt.registry import did_you_mean


class Trunk(nn.Module):
    """A net without its head; what is frozen is neither trained nor moves its running statistics.

    ``fixed``: whether all of it is frozen, so that a row's features are the same in every round.
    """

    def __init__(self, body: nn.Module, frozen: Sequence[str] = ()) -> None:
        super().__init__()
        self.body = body
        self.frozen = tuple(frozen)
        self.fixed = "" in self.frozen
        for part in self._parts():
            part.requires_grad_(False)
        self.train(self.training)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x)
        return out

    def train(self, mode: bool = True) -> "Trunk":
        """Set the mode of all but what is frozen, which stays in evaluation mode."""
        super().train(mode)
        for part in self._parts():
            part.eval()
        return self

    def _parts(self) -> list[nn.Module]:
        return [self.body.get_submodule(name) for name in self.frozen]


def wrap(
    module: nn.Module, head: str, *, classes: int | None = None, freeze: bool | Sequence[str] = False
) -> Net:
    """Split a finished net into its features and its head, as every model here is.

    The net is taken over, not copied: its last layer moves out of it. For a function that a scenario names:
    ``def mine(input, classes): return wrap(resnet18(num_classes=classes), head="fc")``.

    Args:
        module: the net; called with rows [B, ...] it returns logits [B, classes].
        head: the dotted name of the layer that makes the logits: ``fc`` (ResNet), ``classifier`` (DenseNet,
            timm's EfficientNet), ``classifier.1`` (MobileNet), ``head`` (timm's ViT), ``heads.head``
            (torchvision's). Nothing but a flattening may come after it.
        classes: a new linear layer of so many outputs in its place; None: the layer stays.
        freeze: True: the features are not trained and their running statistics stay; or the dotted names of
            parts to freeze, such as ``["conv1", "layer1"]``; False: everything is trained.

    Returns:
        The model; its width is known after a trial where it is built.

    Raises:
        InputError: there is no such layer, or ``classes`` is given and it is not linear.

    >>> body = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 1000))
    >>> net = wrap(body, head="3", classes=10, freeze=["1"])
    >>> net.width, tuple(net.head.weight.shape), [p.requires_grad for p in net.parameters()]
    (8, (10, 8), [False, False, True, True])
    """
    named = dict(module.named_modules())
    frozen = [""] if freeze is True else [] if freeze is False else list(freeze)
    kind = type(module).__name__
    problems = [
        f"{kind} has no part {name!r}, which {what} names; {did_you_mean(name, [*named][1:])}"
        for name, what in ((head, "head"), *((name, "freeze") for name in frozen if name))
        if not name or name not in named
    ]
    if problems:
        raise InputError(*problems)
    last: Any = named[head]
    width = next((layer.in_features for layer in last.modules() if isinstance(layer, nn.Linear)), 0)
    if not width:
        raise InputError(
            f"{head!r} of {kind} has no linear layer; head must name the layer that makes the logits."
        )
    if classes is not None:
        if not isinstance(last, nn.Linear):
            raise InputError(
                f"{head!r} of {kind} is a {type(last).__name__}, which classes cannot replace; it must be "
                "the linear layer that makes the logits."
            )
        last = nn.Linear(width, classes, bias=last.bias is not None)
    around, _, own = head.rpartition(".")
    setattr(named[around], own, nn.Identity())
    return Net(Trunk(module, frozen), last, width)
