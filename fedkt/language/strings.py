"""Tokens by their bytes: what two models with other tokens can compare beyond the next byte.

Where a token of its text ends a model has a belief about the whole next token, not its first byte alone. It
says it by *strings*: the likeliest of its tokens of 2 to 7 bytes. What is meant by one is an event of the
text, **the text goes on with these bytes**, not "the next token is this one", since tokens of the same bytes
are not the same event. Of a party that reads single bytes the token ``t`` is each text that begins so; of one
that has ``the`` too it is only those that do not go on with ``he``. Compared as they are, the first would
teach the second to spell. By its tokens' probabilities p a model believes of a string s, a token of its own,

    P(s) = sum of p(v) over tokens v that begin with s.

Some named strings begin with others, so a place is spoken of by *cells*, which share among them all that can
follow: of a string, the text goes on with it but with no longer string that is named; of a byte, the text
goes on with the byte but with no string that is named. Where none is named cells are next bytes; and what is
believed of the next byte is always the sum of the cells that begin with it. So whoever shares no token hears
what it would have heard of bytes.

A student compares a string exactly where a token of its own text begins at the place and it has a token of
these bytes. All other strings are *folded* into the longest one that it does compare, or the byte. Teacher
and student then speak of the same cells, and what the student learns by is the divergence of two
distributions over them: never less than that of next bytes, whose events are sums of theirs.

By hand: at a place the teacher has tokens ``a`` .1, ``t`` .1, ``th`` .2, ``the`` .3, ``to`` .3 and names all
but single bytes. Its cells: ``the`` .3, ``th`` .2 (without ``the``), ``to`` .3, t and none of these .1, a .1.
The student has ``a`` .2, ``t`` .2, ``the`` .4, ``to`` .2 and no ``th``: a text with ``th`` it writes as t, h.
So ``th`` is folded into t, which becomes .3 (it would be wrong to compare the tokens ``t``, .1 with .2), and

    KL = .3 ln (.3 / .4) + .3 ln (.3 / .2) + .3 ln (.3 / .2) + .1 ln (.1 / .2) = 0.0877 nats;

of next bytes alone, t .9 and .8, a .1 and .2, it is 0.0367: what a student of single bytes learns by.

What is taken for true: that a text which goes on with a token's bytes is written with that token, or a longer
one. Byte pair encoding mostly does so, but for ``then`` it may write ``th``, ``en`` though it has ``the``
(:mod:`fedkt.language.marginals` has the sources of sums over all ways to write a text). Tokens of more than 7
bytes are not named, and count for the longest named string that they begin with, or their first byte.

**Fusing.** Parties name different strings. The likeliest k of all are kept, others are folded. What a party
said of coarser cells than these (it has no such token, its token goes on there, or it found others likelier)
is split as those parties split it that do name them: coarse observations of one multinomial, by the EM
algorithm (Dempster, Laird, Rubin 1977, J. R. Stat. Soc. B 39). That leaves each party's next bytes as they
were. So methods see of each place 256 + k numbers that sum to one, whoever the party.

Strings are numbers, as :mod:`fedkt.knowledge.top_logits` has them; 0 is none.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from fedkt.knowledge.top_logits import BODY, LENGTH_AT, MOST_BYTES
from fedkt.language.marginals import Continuations

BYTES = 256
STEPS = 3
"""Of the EM algorithm."""
_MASKS = torch.tensor([BODY & ~((1 << 8 * (MOST_BYTES - length)) - 1) for length in range(MOST_BYTES + 1)])
"""Of the bytes that strings of each length have."""
_SHIFTS = torch.arange(8 * (MOST_BYTES - 1), -1, -8)


def number(held: bytes) -> int:
    """Return the number of a string of at most 7 bytes: its length, then its bytes, then zeros.

    >>> hex(number(b"the"))
    '0x374686500000000'
    """
    return len(held) << LENGTH_AT | int.from_bytes(held.ljust(MOST_BYTES, b"\0"), "big")


def string(number: int) -> bytes:
    """Return the bytes of a number.

    >>> string(number(b"the"))
    b'the'
    """
    return (number & BODY).to_bytes(MOST_BYTES, "big")[: number >> LENGTH_AT]


class Namable:
    """The strings that a model can name: its tokens of 2 to 7 bytes.

    ``strings`` int64 [V]: of each token, 0 of those that cannot be named; ``edges`` int64 [V, 2]: from where
    to before where the tokens stand that begin with it, in the order of the model's
    :class:`~fedkt.language.marginals.Continuations`.

    >>> held = [b"a", b"the", b"t", b"th", b""]
    >>> can = Namable(held, Continuations(held))
    >>> can.edges.tolist(), can.found(torch.tensor([number(b"th"), number(b"to")])).tolist()
    ([[0, 0], [3, 4], [0, 0], [2, 4], [0, 0]], [[2, 4], [-1, -1]])
    """

    def __init__(self, token_bytes: Sequence[bytes], known: Continuations) -> None:
        self._edges: dict[int, tuple[int, int]] = {}
        self.strings = torch.zeros(len(token_bytes), dtype=torch.int64)
        self.edges = torch.zeros(len(token_bytes), 2, dtype=torch.int64)
        for i, token in enumerate(token_bytes):
            if 1 < len(token) <= MOST_BYTES and (its := number(token)) not in self._edges:
                self._edges[its] = known.begun(token)
                self.strings[i], self.edges[i] = its, torch.tensor(self._edges[its])

    def found(self, strings: Tensor) -> Tensor:
        """Return the edges [..., 2] of strings [...], -1 of those that are no token."""
        each, which = strings.unique(return_inverse=True)
        edges = torch.tensor([self._edges.get(its, (-1, -1)) for its in each.tolist()])
        return edges.reshape(-1, 2)[which]


def spelled(strings: Tensor) -> Tensor:
    """Return the length and the bytes [..., 8], numbers below 256, of strings [...]; a float can hold each.

    >>> spelled(torch.tensor([number(b"the")])).tolist()
    [[3, 116, 104, 101, 0, 0, 0, 0]]
    """
    letters = strings[..., None] >> _SHIFTS.to(strings.device) & 255
    return torch.cat([(strings >> LENGTH_AT)[..., None], letters], -1)


def joined(spelled: Tensor) -> Tensor:
    """Return strings [...] of what :func:`spelled` made of them.

    >>> string(int(joined(spelled(torch.tensor([number(b"the")]))[0])))
    b'the'
    """
    parts = spelled.round().long()
    shifts = F.pad(_SHIFTS, (1, 0), value=LENGTH_AT).to(parts.device)
    return (parts << shifts).sum(-1)


def parents(strings: Tensor, among: Tensor) -> Tensor:
    """Return the column [..., K] into which each string [..., K] is folded.

    256 + the place of the longest shorter string that it begins with and that is ``among`` bool [..., K];
    else its first byte.

    >>> strings = torch.tensor([number(one) for one in (b"th", b"then", b"to", b"the")])
    >>> parents(strings, torch.tensor([True, True, True, False])).tolist()  # t, th, t, th
    [116, 256, 116, 256]
    """
    lengths, bodies = strings >> LENGTH_AT, strings & BODY
    masks = _MASKS.to(strings.device)[lengths]
    begins = (bodies[..., None, :] & masks[..., :, None]) == bodies[..., :, None]
    begins &= (lengths[..., :, None] < lengths[..., None, :]) & (among & (strings > 0))[..., :, None]
    longest, which = (begins * lengths[..., :, None]).max(-2)
    return torch.where(longest > 0, BYTES + which, bodies >> 8 * (MOST_BYTES - 1))


def folded(cells: Tensor, strings: Tensor, kept: Tensor) -> Tensor:
    """Return cells [..., 256 + K] in which strings [..., K] that are not ``kept`` have nothing: it went to
    what they begin with.

    >>> strings = torch.tensor([number(b"th"), number(b"the")])
    >>> cells = torch.cat([torch.zeros(256), torch.tensor([0.25, 0.5])])
    >>> found = folded(cells, strings, torch.tensor([False, True]))
    >>> found[116].item(), found[256:].tolist()
    (0.25, [0.0, 0.5])
    """
    moved = cells[..., BYTES:] * ~kept
    found = cells - F.pad(moved, (BYTES, 0))
    return found.scatter_add(-1, parents(strings, kept), moved)


def next_bytes(cells: Tensor, strings: Tensor) -> Tensor:
    """Return the distributions over the next byte [..., 256] of cells [..., 256 + K]."""
    return folded(cells, strings, torch.zeros_like(strings, dtype=torch.bool))[..., :BYTES]


def cells(following: Tensor, begun: Tensor, above: Tensor) -> Tensor:
    """Return cells [..., 256 + K] of what is believed of next bytes [..., 256] and of strings [..., K].

    ``above`` int64 [..., K]: each string's :func:`parents`. Nothing where a string's is 0. Gradients flow.

    >>> strings = torch.tensor([number(b"th"), number(b"the")])
    >>> q, P = torch.zeros(256).scatter(0, torch.tensor([116]), 1.0), torch.tensor([0.75, 0.5])
    >>> found = cells(q, P, parents(strings, strings > 0))
    >>> found[116].item(), found[256:].tolist()
    (0.25, [0.25, 0.5])
    """
    return torch.cat([following, begun], -1).scatter_add(-1, above, -begun)


def united(values: Tensor, strings: Tensor) -> tuple[Tensor, Tensor]:
    """Return what parties say [parties, n, 256 + K] of the same strings [n, K] as each other.

    ``values`` [parties, n, 256 + K] of the ``strings`` [parties, n, K] that each of them names.

    >>> strings = torch.tensor([[[number(b"th")]], [[0]]])  # the second names none, and believes t .5
    >>> values = torch.zeros(2, 1, 257)
    >>> values[0, 0, 116], values[0, 0, 256], values[1, 0, 116], values[1, 0, 97] = 0.25, 0.75, 0.5, 0.5
    >>> found, common = united(values, strings)
    >>> string(int(common)), [round(p, 3) for p in found[1, 0, [97, 116, 256]].tolist()]
    (b'th', [0.5, 0.125, 0.375])
    """
    common = _likeliest(values[..., BYTES:], strings)
    same = (strings[..., :, None] == common[..., None, :]) & (common > 0)[..., None, :]
    values = folded(values, strings, same.any(-1))
    own = (same * values[..., BYTES:, None]).sum(-2)
    return _split(torch.cat([values[..., :BYTES], own], -1), common.expand(len(values), -1, -1), same.any(-2))


def _likeliest(mass: Tensor, strings: Tensor) -> Tensor:
    """Return the strings [n, K] to which parties [parties, n, K] give most in all, that first; 0 for none."""
    flat, order = strings.movedim(0, 1).flatten(1).sort(-1)
    running = mass.movedim(0, 1).flatten(1).gather(-1, order).cumsum(-1, dtype=torch.float64)
    last = F.pad(flat[:, 1:] != flat[:, :-1], (0, 1), value=True)
    before = F.pad(torch.where(last, running, 0.0).cummax(-1).values[:, :-1], (1, 0))
    total, at = ((running - before) * (last & (flat > 0))).topk(strings.shape[-1])
    found: Tensor = flat.gather(-1, at) * (total > 0)
    return found


def _split(values: Tensor, strings: Tensor, named: Tensor) -> tuple[Tensor, Tensor]:
    """Split each party's cells [parties, n, 256 + K] over the strings [parties, n, K] it has not named."""
    above, open_ = parents(strings, named), ~named & (strings > 0)
    together = (above[..., :, None] == above[..., None, :]) & open_[..., None, :]
    coarse = values.gather(-1, above)
    # Begun with what those say who name some string at the place: often that is where it ends.
    some = named.any(-1, keepdim=True)
    heard = (values[..., :BYTES] * some).sum(0) / some.sum(0).clamp(min=1)
    shares = torch.cat([heard, values[..., BYTES:].sum(0) / named.sum(0).clamp(min=1)], -1)
    found = values
    for _ in range(STEPS):
        fine = shares[..., BYTES:].expand_as(coarse)
        of_all = shares.expand_as(values).gather(-1, above) + (together * fine[..., None, :]).sum(-1)
        part = coarse * open_ * fine / of_all.clamp(min=torch.finfo(fine.dtype).tiny)
        found = (values + F.pad(part, (BYTES, 0))).scatter_add(-1, above, -part)
        shares = found.mean(0)
    return found.clamp(min=0), strings[0]
