"""What a server can tell of each client's prospects from one exchange: numbers that mean the same anywhere.

Pure functions of what crossed the wire (predictions on transfer rows, and the teachers made of them) and of
public settings; no labels, no private rows. With clients n of N, rows i of R, classes k of K,
p_n[i] a client's prediction, t_n[i] its teacher's, o_n the mean of p_m over m != n, a bar for a mean over
rows, H(q) = -sum_k q_k ln q_k / ln K in [0, 1], top(q) the likeliest class, TV(q, r) = sum_k |q_k - r_k| / 2.
Rows like the client's own are had by the weights w_n[i] ~ sum_k t_n[i,k] r_n[k], where r_n is the mean of p_n
divided by that of t_n; there its teacher, with the client's prior, says u_n[i,k] ~ t_n[i,k] r_n[k]:

=================  ===================================================================================
own_entropy        mean_i H(p_n[i]): how unsure the client is
peer_entropy       mean_i H(o_n[i])
teacher_entropy    mean_i H(t_n[i])
own_breadth        H(mean prediction of the client): over how many classes it spreads its predictions
teacher_breadth    H(mean prediction of the teacher)
agreement          share of rows with top(p_n) = top(t_n)
peer_agreement     share of (row, peer) with top(p_n) = top(p_m), m != n
among_peers        share of (row, pair of peers) with equal tops; 1 for a single peer
overlap            1 - TV(mean prediction of the client, mean prediction of its peers)
movement           mean_i TV(p_n[i], t_n[i])
own_weight         a in t = a p + (1 - a) o by least squares over rows and classes, within [0, 1]; 1 where
                   p = o
surer              share of rows on which max t_n > max p_n
peers_entropy      mean_i H(p_m[i]), mean over m != n: how unsure its peers are one by one
apart              mean_i (H(p[i]) - mean_m H(p_m[i])), p the mean of all: what it tells to know who speaks
own_tops           H(how often each class is top(p_n[i]))
teacher_tops       H(how often each class is top(t_n[i]))
skew               mean_m TV(mean prediction of m, mean prediction of all)
like_peers         correlation of p_n with o_n over own rows, each class less its mean: whether what tells one
                   row from another is known to others too; 0 where one of them says the same of all
peers_alike        mean over pairs of peers of the same between these, over all rows; 1 for a single peer
believed_gain      own mean of max u_n - u_n[top p_n]: how much more often right than the client its teacher
                   would be on the client's own rows, if the teacher were
log_rows           ln R
log_clients        ln N
log_classes        ln K
log_rounds         ln(rounds of the run)
log_steps          ln(steps that a client is distilled a round)
together           1 where clients learn jointly from private rows and teachers, else 0
=================  ===================================================================================
"""

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fedkt.client.behaviour import Steps
from fedkt.knowledge.contributions import Contributions
from fedkt.strategy.choosing.utilities import doubt
from fedkt.strategy.fusing.fusion import Fused

if TYPE_CHECKING:
    from fedkt.scenario import Scenario

EVIDENCE = (
    *("own_entropy", "peer_entropy", "teacher_entropy", "own_breadth", "teacher_breadth"),
    *("agreement", "peer_agreement", "among_peers", "overlap", "movement", "own_weight", "surer"),
    *("peers_entropy", "apart", "own_tops", "teacher_tops", "skew"),
    *("like_peers", "peers_alike", "believed_gain"),
    *("log_rows", "log_clients", "log_classes", "log_rounds", "log_steps", "together"),
)
"""Names of the columns of :func:`evidence`."""
SMALLEST = 1e-12
RARE = 1e-6
"""The least mean probability of a class that another one is divided by."""


def evidence_of(
    contributions: Contributions, fused: Fused, form: str, scenario: "Scenario", *, together: bool
) -> Tensor:
    """Return the evidence [clients, len(EVIDENCE)] of what clients sent, and what was fused of it.

    ``form``: that of the values, ``logits`` or ``probabilities``; ``together``: whether clients rehearse.
    """
    values = contributions.values
    teachers = torch.stack([teacher["values"] for teacher in fused.teachers]).expand_as(values)
    if form == "logits":
        values, teachers = values.double().softmax(-1), teachers.double().softmax(-1)
    parts = scenario.clients
    steps = Steps.distill(parts.distill, parts.local).count(values.shape[1])
    return evidence(values, teachers, rounds=scenario.rounds, steps=steps, together=together)


def evidence(values: Tensor, teachers: Tensor, *, rounds: int, steps: int, together: bool) -> Tensor:
    """Return the evidence [clients, len(EVIDENCE)], float64, of one exchange.

    ``values`` [clients, rows, classes]: what clients sent, as probabilities; ``teachers`` of the same shape:
    what each would be taught. Raises ValueError where there are fewer than two clients or classes.
    """
    n, rows, classes = values.shape
    if n < 2 or classes < 2:
        raise ValueError(f"evidence needs two clients and two classes, not {n} and {classes}")
    p, t = values.double(), teachers.double()
    o = (p.sum(0) - p) / (n - 1)
    beside, among = _beside_and_among(_equal(p.argmax(-1), classes))
    everywhere = p.new_full((n, rows), 1 / rows)
    varying = _varying(p, everywhere)
    own, teacher = _as_own(p, t)
    missed = teacher.amax(-1) - teacher.gather(-1, p.argmax(-1, keepdim=True)).squeeze(-1)
    unsure, everybody = entropy(p).mean(1), p.mean(0)
    told = {
        "own_entropy": unsure,
        "peer_entropy": entropy(o).mean(1),
        "teacher_entropy": entropy(t).mean(1),
        "own_breadth": entropy(p.mean(1)),
        "teacher_breadth": entropy(t.mean(1)),
        "agreement": (p.argmax(-1) == t.argmax(-1)).double().mean(1),
        "peer_agreement": beside,
        "among_peers": among,
        "overlap": 1 - variation(p.mean(1), o.mean(1)),
        "movement": variation(p, t).mean(1),
        "own_weight": own_weight(p, o, t),
        "surer": (t.amax(-1) > p.amax(-1)).double().mean(1),
        "peers_entropy": (unsure.sum() - unsure) / (n - 1),
        "apart": (entropy(everybody).mean() - unsure.mean()).expand(n),
        "own_tops": entropy(_tops(p)),
        "teacher_tops": entropy(_tops(t)),
        "skew": variation(p.mean(1), everybody.mean(0)).mean().expand(n),
        "like_peers": (_varying(p, own) * _varying(o, own)).sum(1),
        "peers_alike": _beside_and_among(varying @ varying.T)[1],
        "believed_gain": (own * missed).sum(1),
    }
    public = {
        "log_rows": math.log(rows),
        "log_clients": math.log(n),
        "log_classes": math.log(classes),
        "log_rounds": math.log(rounds),
        "log_steps": math.log(steps),
        "together": float(together),
    }
    told |= {name: p.new_full((n,), value) for name, value in public.items()}
    return torch.stack([told[name] for name in EVIDENCE], 1)


def entropy(q: Tensor) -> Tensor:
    """Return the entropy of the last dimension [..., classes] as a share of the largest, ln(classes)."""
    return doubt.entropy(q) / math.log(q.shape[-1])


def variation(q: Tensor, r: Tensor) -> Tensor:
    """Return the total variation [...] between distributions [..., classes], in [0, 1]."""
    return (q - r).abs().sum(-1) / 2


def own_weight(own: Tensor, others: Tensor, teacher: Tensor) -> Tensor:
    """Return [clients]: what a client's own predictions count in a teacher mixed of them and the others'."""
    apart, moved = (own - others).flatten(1), (teacher - others).flatten(1)
    size = apart.square().sum(1)
    weight = torch.where(size > SMALLEST, (apart * moved).sum(1) / size.clamp_min(SMALLEST), 1.0)
    return weight.clamp(0, 1)


def _as_own(p: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Return what rows weigh as a client's own [clients, rows], and teachers with its prior, [..., classes].

    ``p`` and ``t`` [clients, rows, classes]: what clients and their teachers say.
    """
    scaled = t * (p.mean(1) / t.mean(1).clamp_min(RARE)).unsqueeze(1)
    total = scaled.sum(-1)
    return total / total.sum(1, keepdim=True), scaled / total.clamp_min(SMALLEST).unsqueeze(-1)


def _varying(q: Tensor, weights: Tensor) -> Tensor:
    """Return predictions less their mean over rows, flat and of length 1 [clients, rows * classes].

    ``weights`` [clients, rows] of sum 1. The product of two is their correlation; zeros where nothing varies.
    """
    weights = weights.unsqueeze(-1)
    flat = ((q - (weights * q).sum(1, keepdim=True)) * weights.sqrt()).flatten(1)
    length = flat.norm(dim=1, keepdim=True)
    return torch.where(length > RARE, flat / length.clamp_min(RARE), 0.0)


def _beside_and_among(alike: Tensor) -> tuple[Tensor, Tensor]:
    """Return each client's mean likeness with its peers [n], and that of pairs of peers (1 for a single one).

    ``alike`` [n, n], symmetric.
    """
    n = len(alike)
    each = alike.sum(1) - alike.diagonal()
    pairs = (n - 1) * (n - 2)
    return each / (n - 1), (each.sum() - 2 * each) / pairs if pairs else torch.ones_like(each)


def _tops(q: Tensor) -> Tensor:
    """Return how often each class is the likeliest over rows [clients, rows, classes], [clients, classes]."""
    return torch.nn.functional.one_hot(q.argmax(-1), q.shape[-1]).double().mean(1)


def _equal(tops: Tensor, classes: int) -> Tensor:
    """Return the share of rows [clients, clients] on which two clients find the same class likeliest."""
    chosen = torch.nn.functional.one_hot(tops, classes).double().flatten(1)
    return chosen @ chosen.T / tops.shape[1]
