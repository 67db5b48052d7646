"""Nets of other libraries, such as torchvision, timm and transformers, as features and a head."""

from collections.abc import Mapping, Sequence
from math import gcd, prod
from typing import Any, Literal

from torch import Tensor, nn

from fedkt.errors import InputError
from fedkt.models.net import Net
from fedkt.registry import did_you_mean

MOST_GROUPS = 32
"""Of GroupNorm in the place of BatchNorm: as Wu and He 2018, arXiv 1803.08494, have it."""
Inputs = Mapping[str, Sequence[int]]
"""What a net takes by name, and the shape of each for one row; () for a number."""


class Trunk(nn.Module):
    """A net without its head; what is frozen is neither trained nor moves its running statistics.

    ``fixed``: whether all of it is frozen, so that a row's features are the same in every round. ``inputs``:
    what the net is called with by name, cut out of a row in this order; None: with the row itself.
    """

    def __init__(self, body: nn.Module, frozen: Sequence[str] = (), inputs: Inputs | None = None) -> None:
        super().__init__()
        self.body = body
        self.inputs = None if inputs is None else {name: tuple(shape) for name, shape in inputs.items()}
        self.frozen = tuple(frozen)
        self.fixed = "" in self.frozen
        for part in self._parts():
            part.requires_grad_(False)
        self.train(self.training)

    def forward(self, x: Tensor) -> Tensor:
        return scores_in(self.body(x) if self.inputs is None else self.body(**self.named(x)))

    def named(self, x: Tensor) -> dict[str, Tensor]:
        """Return what the net takes by name, of rows [B, d]. Raises ValueError where d is another sum."""
        shapes = self.inputs or {}
        sizes = [prod(shape) for shape in shapes.values()]
        if x.ndim != 2 or x.shape[1] != sum(sizes):
            raise ValueError(
                f"rows have shape {list(x.shape[1:])}, but inputs {', '.join(shapes)} take {sum(sizes)} "
                "numbers of a row"
            )
        parts = zip(shapes.items(), x.split(sizes, 1), strict=True)
        return {name: part.reshape(len(x), *shape) for (name, shape), part in parts}

    def train(self, mode: bool = True) -> "Trunk":
        """Set the mode of all but what is frozen, which stays in evaluation mode."""
        super().train(mode)
        for part in self._parts():
            part.eval()
        return self

    def _parts(self) -> list[nn.Module]:
        return [self.body.get_submodule(name) for name in self.frozen]


def scores_in(out: Any) -> Tensor:
    """Return the tensor of what a net returns: itself, its ``logits``, or the first of several."""
    if isinstance(out, Mapping):
        out = out.get("logits")
    elif not isinstance(out, Tensor):
        out = getattr(out, "logits", out[0] if isinstance(out, tuple | list) and out else None)
    if not isinstance(out, Tensor):
        raise TypeError("the net returns neither a tensor nor something with logits")
    return out


def grouped(module: nn.Module) -> nn.Module:
    """Put GroupNorm in the place of each BatchNorm, with its scale and shift; return the module.

    Running statistics are given up, so a pretrained net says other things until it is trained on. Groups are
    the largest power of two up to ``MOST_GROUPS`` that divides the channels.
    """
    for name, part in list(module.named_children()):
        if not isinstance(part, nn.modules.batchnorm._BatchNorm):
            grouped(part)
            continue
        channels = part.num_features
        new = nn.GroupNorm(gcd(MOST_GROUPS, channels), channels, eps=part.eps, affine=part.affine)
        if part.affine:
            new.load_state_dict({"weight": part.weight.detach(), "bias": part.bias.detach()})
        setattr(module, name, new)
    return module


def wrap(
    module: nn.Module,
    head: str,
    *,
    classes: int | None = None,
    freeze: bool | Sequence[str] = False,
    norm: Literal["keep", "group", "refuse"] = "keep",
    inputs: Inputs | None = None,
) -> Net:
    """Split a finished net into its features and its head, as every model here is.

    The net is taken over, not copied: its last layer moves out of it. For a function that a scenario names:
    ``def mine(input, classes): return wrap(resnet18(num_classes=classes), head="fc")``.

    Args:
        module: the net; called with rows [B, ...] it returns logits [B, classes], or an object or mapping
            with ``logits``, or a tuple that begins with them.
        head: the dotted name of the layer that makes the logits: ``fc`` (ResNet), ``classifier`` (DenseNet,
            timm's EfficientNet), ``classifier.1`` (MobileNet), ``head`` (timm's ViT), ``heads.head``
            (torchvision's). Nothing but a flattening may come after it.
        classes: a new linear layer of so many outputs in its place; None: the layer stays.
        freeze: True: the features are not trained and their running statistics stay; or the dotted names of
            parts to freeze, such as ``["conv1", "layer1"]``; False: everything is trained.
        norm: ``keep``: BatchNorm stays, with its limits; ``group``: GroupNorm takes its place
            (:func:`grouped`); ``refuse``: a net with BatchNorm is refused.
        inputs: for a net with several inputs, their names and shapes for one row, in the order of the data's
            columns: rows are cut into them, and the net is called with them by name.

    Returns:
        The model; its width is known after a trial where it is built.

    Raises:
        InputError: there is no such layer, or ``classes`` is given and it is not linear; ``norm`` is
            ``refuse`` and there is a BatchNorm.

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
    mixing = [name for name, part in named.items() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    if norm == "refuse" and mixing:
        problems.append(
            f"{kind} has BatchNorm ({mixing[0]}), whose statistics mix rows; norm must be group, which puts "
            "GroupNorm in its place, or keep."
        )
    if norm not in ("keep", "group", "refuse"):
        problems.append(f"norm of {kind} is {norm!r}; it must be keep, group or refuse.")
    if problems:
        raise InputError(*problems)
    if norm == "group":
        named = dict(grouped(module).named_modules())
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
    return Net(Trunk(module, frozen, inputs), last, width)


def adapted(module: nn.Module, settings: Mapping[str, Any], classes: int) -> nn.Module:
    """Return a module as a scenario's ``head``, ``norm``, ``trainable`` and ``inputs`` ask for it.

    Raises InputError where one of them is wrong, or names what is not there.
    """
    trainable, head = settings.get("trainable", "all"), settings.get("head")
    if trainable not in ("all", "head"):
        raise InputError(f"trainable of a model is {trainable!r}; it must be all or head.")
    if head is not None:
        linear = dict(module.named_modules()).get(head)
        fits = not isinstance(linear, nn.Linear) or linear.out_features == classes
        given = {key: settings[key] for key in ("norm", "inputs") if key in settings}
        new = None if fits else classes
        return wrap(module, head, classes=new, freeze=trainable == "head", **given)
    if "inputs" in settings:
        raise InputError("inputs of a model is set without head, which names the layer that makes logits.")
    features = getattr(module, "features", None)
    if not isinstance(features, nn.Module):
        raise InputError(
            f"{type(module).__name__} has no part 'features'; head must name the layer that makes logits."
        )
    if settings.get("norm", "keep") != "keep":
        whole = nn.Module()
        whole.features = features
        if settings["norm"] == "group":
            module.features = grouped(whole).features
        elif any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in module.modules()):
            raise InputError(
                f"{type(module).__name__} has BatchNorm, whose statistics mix rows; norm must be group, "
                "which puts GroupNorm in its place, or keep."
            )
    if trainable == "head":
        module.features = Trunk(features, [""])
    return module
