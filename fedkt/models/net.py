"""What a model is here: features [B, width], then a head that makes logits [B, classes] of them.

Behaviours read both: logits for distillation, features for prototypes. The models of the zoo also run
stacked (``torch.func.functional_call`` under ``vmap``): they keep no running statistics, so GroupNorm and
never BatchNorm, and change nothing in place.
"""

from collections.abc import Iterable
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from fedkt.errors import InputError

if TYPE_CHECKING:
    from fedkt.data.sets.dataset import InputSpec

TRIAL_ROWS = 2


class Net(nn.Module):
    """Features and head.

    ``features`` maps rows [B, ...] to [B, width], ``head`` maps those to logits [B, classes]; ``width`` is
    the number of features. Calling it returns both: ``(features [B, width], logits [B, classes])``.
    """

    mixes_rows: bool = False
    """Whether in training a row's output depends on its batch (:func:`mixes_rows`), as with BatchNorm."""
    refits: bool = False
    """Whether it learns anew from all rows at once, as estimators do, in place of steps from where it was."""

    def __init__(self, features: nn.Module, head: nn.Module, width: int) -> None:
        super().__init__()
        self.features = features
        self.head = head
        self.width = width
        self.closed: Tensor | None = None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z = self.features(x)
        return z, self.head(z) if self.closed is None else self.head(z) + self.closed

    def close(self, closed: Tensor) -> None:
        """Add ``closed`` [classes] to all logits from now on: far below 0 for classes that are not known.

        It is part of the model's state.
        """
        del self.closed
        self.register_buffer("closed", closed)


def net(features: list[nn.Module], width: int, classes: int, dropout: float) -> Net:
    """Put a zoo model together: feature layers, dropout (none at 0) on the features, a linear head.

    At 0 there is no dropout layer at all, since ``vmap`` refuses random layers unless told otherwise.
    """
    last = [nn.Dropout(dropout)] if dropout else []
    return Net(nn.Sequential(*features, *last), nn.Linear(width, classes), width)


def check(module: Any, input: "InputSpec", classes: int, name: str = "") -> Net:
    """Make a Net of a module that has the submodules ``features`` and ``head``, and try it on two rows.

    The Net's logits are ``head(features(x))``, whatever the module's own ``forward`` does; ``width`` is
    read off the trial. ``name`` is what errors call the model. Its weights, its mode and the global random
    state stay as they are. Raises InputError where it is no such module or the trial has other shapes.
    """
    what = f"model {name!r}" if name else f"model {type(module).__name__}"
    features, head = getattr(module, "features", None), getattr(module, "head", None)
    if not (
        isinstance(module, nn.Module) and isinstance(features, nn.Module) and isinstance(head, nn.Module)
    ):
        raise InputError(
            f"{what} must be a torch module with the submodules 'features' (rows to [B, width]) and 'head' "
            f"(those to logits [B, {classes}]), but is of type {type(module).__name__} without them."
        )
    z, logits = _try(what, nn.Sequential(features, head), input)
    rows = TRIAL_ROWS
    if z.ndim != 2 or len(z) != rows:
        raise InputError(
            f"the features of {what} have shape {_shape(z)} for {rows} rows; they must be [{rows}, width], "
            "which a final nn.Flatten() makes."
        )
    if logits.shape != (rows, classes):
        raise InputError(
            f"the logits of {what} have shape {_shape(logits)} for {rows} rows of {classes} classes; "
            f"they must be [{rows}, {classes}]."
        )
    width = z.shape[1]
    if not isinstance(module, Net):
        return Net(features, head, width)
    if module.width != width:
        raise InputError(f"{what} says that its width is {module.width}, but its features are {width} wide.")
    return module


def projection(names: Iterable[str]) -> frozenset[str]:
    """Return the parameters of the last layer of features, of a model's parameters in order.

    Everything before it is the extractor of methods that train a projection alone.
    """
    layers = [name.rpartition(".")[0] for name in names if name.startswith("features.")]
    return frozenset(name for name in names if layers and name.rpartition(".")[0] == layers[-1])


def trial_rows(input: "InputSpec") -> Tensor:
    """Return two rows of zeros of the form that a model gets: int64 token ids, float32 for all else."""
    kind = torch.int64 if input.kind == "tokens" else torch.float32
    return torch.zeros(TRIAL_ROWS, *input.shape, dtype=kind)


@torch.no_grad()
def mixes_rows(net: nn.Module, input: "InputSpec") -> bool:
    """Say whether in training what a model makes of a row depends on the other rows of its batch.

    Tried on made rows, whatever the layers are called: the first of two rows must come out as it does beside
    another one. Such a model needs at least two rows in each batch, and batches that nobody pads.
    False where it cannot be called in training at all, which is told when it trains.
    """
    rows = torch.Generator().manual_seed(0)
    if input.kind == "tokens":
        made = torch.randint(max(1, input.vocabulary or 1), (3, *input.shape), generator=rows)
    else:
        made = torch.randn(3, *input.shape, generator=rows)
    try:
        outs = []
        for other in (1, 2):
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(0)  # dropout drops the same
                outs.append(deepcopy(net).train()(made[[0, other]]))
    except Exception:
        return False
    return not all(
        torch.allclose(one[0], two[0], rtol=1e-3, atol=1e-5, equal_nan=True)
        for one, two in zip(*outs, strict=True)
    )


def check_settings(
    name: str,
    input: "InputSpec",
    kinds: tuple[str, ...],
    width: Any,
    dropout: Any,
    hidden: Any = (),
    *,
    hidden_name: str = "hidden",
) -> None:
    """Raise InputError, all problems at once, unless a zoo model can be built of these.

    ``input.kind`` must be one of ``kinds``, ``width`` an integer of at least 1, ``dropout`` in [0, 1), and
    ``hidden`` (by the name that the model has for it) a list of integers of at least 1.
    """
    problems = []
    hint = ""
    if {"tabular", "tokens"} & {*kinds} and input.kind in ("tabular", "tokens"):
        hint = "; data.kind (table, tokens or text) decides what rows are read as"
    if input.kind not in kinds:
        problems.append(
            f"model {name!r} takes {' or '.join(kinds)} rows, but the data set has {input.kind} rows{hint}."
        )
    if not _is_whole(width):
        problems.append(f"width of model {name!r} is {width!r}; it must be an integer of at least 1.")
    if not isinstance(hidden, list | tuple) or not all(map(_is_whole, hidden)):
        problems.append(
            f"{hidden_name} of model {name!r} is {hidden!r}; it must be a list of integers of at least 1."
        )
    if type(dropout) not in (int, float) or not 0 <= dropout < 1:
        problems.append(f"dropout of model {name!r} is {dropout!r}; it must be at least 0 and less than 1.")
    if problems:
        raise InputError(*problems)


def _is_whole(value: Any) -> bool:
    return type(value) is int and value >= 1  # True is no number of units


def _try(what: str, parts: nn.Sequential, input: "InputSpec") -> tuple[Tensor, Tensor]:
    """Run features and head in evaluation mode on two rows of zeros."""
    modes = [(part, part.training) for part in parts.modules()]
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            parts.eval()
            z = parts[0](trial_rows(input))
            logits = parts[1](z)
    except Exception as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{what} cannot be run on {input.kind} rows of shape {list(input.shape)}: "
            f"{type(error).__name__}: {reason.rstrip('.')}."
        ) from error
    finally:
        for part, training in modes:
            part.training = training
    for name, out in (("features", z), ("head", logits)):
        if not isinstance(out, Tensor):
            raise InputError(f"{name} of {what} returns {type(out).__name__}; it must return one tensor.")
    return z, logits


def _shape(x: Tensor) -> list[int]:
    return list(x.shape)
