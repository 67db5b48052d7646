"""Features that are never trained, computed once for each row and kept.

A frozen backbone takes nearly all of the time that a model takes, and says the same of a row in every round.
Rows are computed in batches of one size, filled up with zeros: products of matrices of other sizes differ in
the last bit, and what was kept and what is computed anew after a resume must not.
"""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor, nn

BATCH = 64
"""Rows in a batch, always."""
MOST = 256 * 2**20
"""Bytes of features that a process keeps; when there are more, it begins anew."""

_kept: dict[bytes, Tensor] = {}
"""Features of rows by what the backbone is and what the row is."""


def is_frozen(module: nn.Module) -> bool:
    """Say whether none of a model's features are trained, which it says of itself."""
    features, head = getattr(module, "features", None), getattr(module, "head", None)
    return bool(getattr(features, "fixed", False)) and isinstance(head, nn.Module)


@torch.no_grad()
def features_of(module: nn.Module, x: Tensor) -> Tensor:
    """Return the features [n, width] of rows ``x`` [n, ...]; what was asked before is kept."""
    features = module.get_submodule("features").eval()
    keys = _keys(features, x)
    missing = list(dict.fromkeys(i for i, key in enumerate(keys) if key not in _kept))
    found: dict[bytes, Tensor] = {}
    for start in range(0, len(missing), BATCH):
        some = missing[start : start + BATCH]
        rows = x[some]
        filled = torch.cat([rows, rows.new_zeros(BATCH - len(some), *x.shape[1:])])
        found |= zip((keys[i] for i in some), features(filled)[: len(some)].clone().unbind(), strict=True)
    here = [found[key] if key in found else _kept[key] for key in keys]
    if not here:
        found_none: Tensor = features(x)
        return found_none
    if len(_kept) * here[0].numel() * here[0].element_size() > MOST:
        _kept.clear()
    _kept.update(found)
    return torch.stack(here)


def _keys(features: nn.Module, x: Tensor) -> Sequence[bytes]:
    about = hashlib.blake2b(digest_size=16)
    for name, tensor in features.state_dict().items():
        about.update(name.encode())
        about.update(_bytes(tensor))
    of = about.digest() + str(x.dtype).encode() + str(x.device).encode()
    return [of + hashlib.blake2b(_bytes(row), digest_size=16).digest() for row in x]


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
