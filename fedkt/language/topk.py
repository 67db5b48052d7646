"""Beliefs about the next byte, as little as can be said of them: k bytes, their codes, and the rest's code.

Both ends speak of the same places: :func:`places_of` spreads them over a passage, from its length alone.
"""

import torch
from torch import Tensor

from fedkt.knowledge.top_logits import CODES_PER_NAT, FAINTEST

BYTES = 256
NEXT = 0.99
"""Of the least probability that is named, what one that is not named may have at most."""
EVEN = 1e-4
"""Weight of the even distribution among what stands for bytes that were not named."""


def places_of(lengths: Tensor, places: int) -> Tensor:
    """Return the places [n, places] of passages with these lengths [n]: bytes spread evenly, -1 for none.

    All bytes of a passage that has no more of them. Raises nothing; ``places`` from 1.

    >>> places_of(torch.tensor([8, 3, 0]), 4).tolist()
    [[1, 3, 5, 7], [0, 1, 2, -1], [-1, -1, -1, -1]]
    """
    number = torch.arange(places)
    spread = ((2 * number + 1) * lengths[:, None]) // (2 * places)
    few = torch.where(number < lengths[:, None], number, -1)
    return torch.where(lengths[:, None] > places, spread, few)


def said(beliefs: Tensor, top: int) -> tuple[Tensor, Tensor]:
    """Return tokens uint8 [..., k] and codes uint8 [..., k + 1] of distributions [..., 256].

    Zeros stand for a place of which nothing is said.

    >>> tokens, codes = said(torch.tensor([0.5, 0.125, 0.375] + [0.0] * 253), top=2)
    >>> tokens.tolist(), codes.tolist()  # -16 ln of .5, .375 and .125
    ([0, 2], [12, 16, 34])
    """
    likely, tokens = beliefs.topk(top, -1)
    return tokens.to(torch.uint8), coded(likely, beliefs.sum(-1, keepdim=True, dtype=torch.float64))


def coded(likely: Tensor, total: Tensor) -> Tensor:
    """Return codes uint8 [..., k + 1] of what is named [..., k] and of the rest of ``total`` [..., 1], of
    which nothing is said where it is 0."""
    rest = (total - likely.double().sum(-1, keepdim=True)).clamp(min=0)
    return codes_of(torch.cat([likely.double(), rest], -1), total <= 0)


def codes_of(parts: Tensor, silent: Tensor) -> Tensor:
    """Return codes uint8 [..., k] of probabilities float64 [..., k].

    The last is the rest's, and its code 0 where nothing is said: ``silent`` [..., 1].
    """
    codes = (-CODES_PER_NAT * parts.clamp(min=1e-12).log()).ceil()
    codes[..., -1:].masked_fill_(silent, 0)
    return codes.clamp(0, FAINTEST).to(torch.uint8)


def heard(tokens: Tensor, codes: Tensor) -> Tensor:
    """Return distributions float32 [..., 256] of what was said; zeros where nothing was.

    Codes are rounded up, so half a code is given back. The rest's probability goes to the bytes that were not
    named in proportion to how probable they are among all that was said (of English text, letters and blanks,
    not control characters), but to none more than a named byte has; what is left then to all of them alike.

    >>> q = heard(torch.tensor([[101, 32], [32, 101]]), torch.tensor([[6, 30, 43], [3, 40, 51]]))
    >>> [round(p, 2) for p in (q[0, 101].item(), q[0, 32].item(), q[0].sum().item())]
    [0.76, 0.17, 1.0]
    """
    parts = decoded(codes)
    spoken = codes[..., :1] < FAINTEST
    found = spread(tokens, parts[..., :-1], parts[..., -1:], spoken)
    return found.mul_(spoken / found.sum(-1, keepdim=True))


def decoded(codes: Tensor) -> Tensor:
    """Return the probabilities that codes [...] are heard as."""
    return _HEARD.to(codes.device)[codes.int()]


def spread(tokens: Tensor, likely: Tensor, rest: Tensor, spoken: Tensor) -> Tensor:
    """Return numbers from 0 on [..., 256]: ``likely`` [..., k] of the ``tokens`` [..., k], of others the
    ``rest`` [..., 1] as :func:`heard` has it. ``spoken`` [..., 1]: where something is said."""
    named = likely.new_zeros(*tokens.shape[:-1], BYTES).scatter_(-1, tokens.long(), likely * spoken)
    usual = named.reshape(-1, BYTES).mean(0, dtype=torch.float64)
    usual = (usual / usual.sum().clamp(min=1e-12) + EVEN / BYTES).to(named)
    others = usual.expand_as(named).scatter(-1, tokens.long(), 0.0)
    others *= rest / others.sum(-1, keepdim=True).clamp(min=1e-12)
    others = torch.minimum(others, NEXT * likely.amin(-1, keepdim=True), out=others)
    left = (rest - others.sum(-1, keepdim=True)).clamp_(min=0) / max(1, BYTES - tokens.shape[-1])
    return others.add_(left).scatter_(-1, tokens.long(), likely)


_HEARD = torch.exp((0.5 - torch.arange(FAINTEST + 1)) / CODES_PER_NAT)
"""What each code is heard as."""
