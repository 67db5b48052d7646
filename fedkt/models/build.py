"""Find a model by name, build it from a seed, and deal models to clients."""

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from fedkt import registry
from fedkt.errors import InputError
from fedkt.models.estimator import estimating
from fedkt.models.estimators.refit import Estimator
from fedkt.models.heads.frozen_head import FrozenHead, directions_of
from fedkt.models.net import Net, check, mixes_rows
from fedkt.models.wrapped import adapted
from fedkt.rng import numpy_stream

if TYPE_CHECKING:
    from fedkt.data.sets.dataset import InputSpec
    from fedkt.scenario import ModelSpec

Dealt = tuple[str, dict[str, Any]]
"""A model's name (or ``package.module:name``) and its settings."""

PRETRAINED = "hf-lm:"
"""Before the folder of a language model of transformers."""
AROUND = ("head", "inputs", "norm", "trainable")
"""Settings of every net whose function has none of that name: :func:`fedkt.models.wrapped.adapted`."""

_mixing: dict[Any, bool] = {}
"""Whether models mix the rows of a batch, by what they are built of."""


def build(
    spec: "str | Dealt | ModelSpec | Mapping[str, Any]", input: "InputSpec", classes: int, seed: int
) -> Net:
    """Build a model on the CPU: the same seed gives the same weights, whatever was built before.

    ``spec`` is a name, (name, settings), or both in one as in a scenario. The name stands for a function
    ``factory(input, classes, **settings)`` that returns a module (see :func:`fedkt.models.net.check`) or an
    estimator with ``fit`` and ``predict_proba`` (see :mod:`fedkt.models.estimator`).
    torch's global random state is as before afterwards. Raises InputError where there is no such model, a
    setting is unknown or wrong, or the module does not fit the data. Every net has the settings
    ``common_head`` (:mod:`fedkt.models.heads.frozen_head`) and ``slim_from``, a larger model of the client's
    own from which it learns (:mod:`fedkt.engine.trials.elder`).
    """
    name, settings = named(spec)
    factory = registry.find("models", name)
    label = name if isinstance(name, str) else getattr(name, "__qualname__", repr(name))
    frozen, elder = settings.pop("common_head", None), settings.pop("slim_from", None)
    own, around = _apart(factory, settings)
    _check_known(label, factory, own)
    # Once for each architecture of a process: a run builds one model per client.
    key = (factory, repr(settings), repr(frozen), repr(input), classes)
    # Only the CPU's generator: seeding all of them would start CUDA, or disturb it.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        try:
            module = factory(input, classes, **own) if callable(factory) else factory
            if around:
                module = adapted(module, around, classes)
        except InputError:
            raise
        except Exception as error:
            reason = " ".join(str(error).split()).rstrip(".")
            raise InputError(f"model {label!r} cannot be built: {type(error).__name__}: {reason}.") from error
    if elder is not None:
        _check_elder(label, module, elder, input, classes)
    if not isinstance(module, nn.Module) and (isinstance(module, Estimator) or hasattr(module, "fit")):
        if frozen is not None:
            raise InputError(f"model {label!r} is an estimator, which has no head; leave common_head out.")
        return estimating(module, factory, label, input, classes, key)
    net = check(module, input, classes, label)
    if frozen is not None:
        net.head = FrozenHead(directions_of(str(frozen), classes, net.width))
    if key not in _mixing:
        _mixing[key] = mixes_rows(net, input)
    net.mixes_rows = _mixing[key]
    return net


def _check_elder(label: str, module: Any, elder: Any, input: "InputSpec", classes: int) -> None:
    """Raise InputError unless a net can learn from the model that ``slim_from`` names."""
    try:
        larger = build(elder, input, classes, 0)
    except InputError as error:
        raise InputError(
            *(f"slim_from of model {label!r}: {problem}" for problem in error.problems)
        ) from None
    if larger.refits or not isinstance(module, nn.Module):
        raise InputError(f"slim_from of model {label!r} takes two nets, but one is an estimator; drop it.")


def deal(models: Any, n_clients: int, seed: int) -> list[Dealt]:
    """Return one (name, settings) per client from the scenario's ``clients.models``.

    A list is dealt in turn: client k gets entry k modulo its length. A mapping from names to shares (any
    positive scale) is dealt by the largest remainder (Hamilton's method; of equal remainders the earlier
    name first), in an order shuffled by the seed.
    """
    if not isinstance(models, Mapping):
        entries = [named(entry) for entry in models]
        return [
            (name, dict(settings)) for name, settings in (entries[k % len(entries)] for k in range(n_clients))
        ]
    counts = shares_to_counts(list(models.values()), n_clients)
    in_order = [name for name, count in zip(models, counts, strict=True) for _ in range(count)]
    order = numpy_stream(seed, "deal models").permutation(n_clients)
    return [named(in_order[k]) for k in order]


def shares_to_counts(shares: Sequence[float], n: int) -> list[int]:
    """Split n into whole parts closest to the shares, by the largest remainder."""
    quotas = [n * share / sum(shares) for share in shares]
    # Rounded, so that 0.7 of 10 is 7 and equal remainders are equal in floating point too.
    counts = [int(round(quota, 9)) for quota in quotas]
    remainders = [round(quota - count, 9) for quota, count in zip(quotas, counts, strict=True)]
    by_remainder = sorted(range(len(shares)), key=lambda i: -remainders[i])
    for i in by_remainder[: n - sum(counts)]:
        counts[i] += 1
    return counts


def named(spec: Any) -> Dealt:
    """Return (name, settings) of what stands for a model in a scenario or in Python."""
    if isinstance(spec, tuple):
        name, settings = spec
        return _folder_apart(name, settings)
    if isinstance(spec, Mapping):
        if "name" not in spec:
            raise InputError(
                f"the model {dict(spec)!r} has no name; it must be written as {{name: mlp, width: 100}}."
            )
        return _folder_apart(spec["name"], {key: value for key, value in spec.items() if key != "name"})
    if hasattr(spec, "name") and hasattr(spec, "settings"):
        return _folder_apart(spec.name, spec.settings)
    return _folder_apart(spec, {})


def _folder_apart(name: Any, settings: Mapping[str, Any]) -> Dealt:
    """Return (name, settings); ``hf-lm:FOLDER`` is the model ``hf-lm`` with the setting ``folder``."""
    if isinstance(name, str) and name.startswith(PRETRAINED):
        return PRETRAINED[:-1], {"folder": name.removeprefix(PRETRAINED), **settings}
    return name, dict(settings)


def _apart(factory: Any, settings: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the settings that a model's function takes, and those of ``AROUND`` that it does not."""
    parameters = inspect.signature(factory).parameters.values() if callable(factory) else ()
    anything = any(p.kind is p.VAR_KEYWORD for p in parameters)
    taken = {p.name for p in parameters}
    around = {k: v for k, v in settings.items() if k in AROUND and k not in taken and not anything}
    return {k: v for k, v in settings.items() if k not in around}, around


def _check_known(name: str, factory: Any, settings: Mapping[str, Any]) -> None:
    """Raise InputError for each setting that the factory does not have."""
    if not callable(factory) and hasattr(factory, "fit"):
        if settings:
            raise InputError(f"model {name!r} is an estimator already, whose settings are its own.")
        return
    if not callable(factory):
        raise InputError(
            f"model {name!r} is of type {type(factory).__name__}; it must be a function that builds one."
        )
    parameters = list(inspect.signature(factory).parameters.values())
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return
    # The first two are the input and the classes, which a scenario does not set.
    known = [p.name for p in parameters[2:] if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    unknown = [key for key in settings if key not in known]
    if unknown and not known:
        raise InputError(*(f"model {name!r} has no setting {key!r}; it has none." for key in unknown))
    if unknown:
        raise InputError(
            *(
                f"model {name!r} has no setting {key!r}; {registry.did_you_mean(key, known)}"
                for key in unknown
            )
        )
