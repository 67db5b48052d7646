"""What is added to small releases, and how much one change can move them.

Sensitivities are L2, per release, for one record or one client ``added or removed`` (``add/remove``) or
replaced by any other (``replace``); C is the L2 bound of a row. They are property-tested: random and
adversarial neighbours reach at least 99 % of each and never exceed it.

Noise is OpenDP's discrete Gaussian on a fixed public grid, drawn from the operating system's entropy: rows
are rounded towards zero on the grid, so that a norm can only shrink, sums are exact integers, and there is no
floating-point noise to attack (Mironov 2012; Jin et al. 2021, arXiv 2107.10138; Casacuberta et al. 2022).
"""

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Adjacency = Literal["add/remove", "replace"]
Floats = NDArray[np.float64]

GRID = 2.0**-16
"""Width of the grid, as a share of the clip C: its rounding costs at most 2**-16 C per coordinate."""


# Sensitivities ------------------------------------------------------------------------------------------


def of_sums(clip: float, adjacency: Adjacency) -> float:
    """Sums of rows per class [classes, d]: C; replace 2C (same class, opposite rows)."""
    return clip if adjacency == "add/remove" else 2 * clip


def of_counts(adjacency: Adjacency) -> float:
    """Rows per class [classes]: 1; replace √2 (one class loses a row, another gains one)."""
    return 1.0 if adjacency == "add/remove" else math.sqrt(2)


def of_sums_and_counts(clip: float, weight: float, adjacency: Adjacency) -> float:
    """Sums and ``weight`` times counts released together: √(C² + w²); replace max(2C, √(2(C² + w²)))."""
    together = math.hypot(clip, weight)
    return together if adjacency == "add/remove" else max(2 * clip, math.sqrt(2) * together)


def of_clamped_mean(clip: float, least: int, adjacency: Adjacency) -> float:
    """Sums divided by max(count, m), m >= 1 public: 2C/(m+1); replace max(2C/m, 2√2 C/(m+1)).

    Below m a row moves the mean by at most C/m; above, (S+f)/(n+1) - S/n = (f - S/n)/(n+1) has norm at most
    2C/(n+1). C/m, which one often sees, is too small by a factor of up to 2.
    """
    if adjacency == "add/remove":
        return 2 * clip / (least + 1)
    return max(2 * clip / least, 2 * math.sqrt(2) * clip / (least + 1))


def of_rows(clip: float, rows: int) -> float:
    """A client's own matrix [rows, d], each row within C: 2C√rows when all of its data are replaced.

    There is no smaller bound for one record: without private training it may move every row.
    """
    return 2 * clip * math.sqrt(rows)


def of_client_mean(bound: float, clients: int, adjacency: Adjacency) -> float:
    """Sum of clients' payloads, each of norm within B, over a public number of clients: B/n; replace 2B/n."""
    return (1 if adjacency == "add/remove" else 2) * bound / clients


def of_vote_counts(adjacency: Adjacency) -> float:
    """Clients' votes per class on one row: 1; replace √2 (two counts move by one)."""
    return of_counts(adjacency)


# Bounding -----------------------------------------------------------------------------------------------


def clip_rows(rows: Any, clip: float) -> Floats:
    """Return rows [n, d] scaled down to L2 norm ``clip`` where they are longer; one with NaN becomes zero.

    A clip that let NaN through would bound nothing: min(1, NaN) is 1 in more than one library.
    """
    held = np.asarray(rows, np.float64).reshape(len(rows), -1)
    held = np.where(np.isfinite(held).all(1, keepdims=True), held, 0.0)
    # In two steps, since the square of a large number would be infinite.
    largest = np.abs(held).max(1, initial=0.0, keepdims=True)
    scaled = np.divide(held, largest, out=np.zeros_like(held), where=largest > 0)
    norm = np.linalg.norm(scaled, axis=1, keepdims=True) * largest
    factor: Floats = np.divide(clip, norm, out=np.ones_like(norm), where=norm > clip)
    return held * factor


def to_grid(rows: Floats, width: float) -> NDArray[np.int64]:
    """Return how many grid steps each value is away from 0, rounded towards it: norms can only shrink."""
    return np.trunc(rows / width).astype(np.int64)


def onto_simplex(rows: Floats) -> Floats:
    """Return the nearest distributions (L2) to rows [n, d]: projection costs no privacy.

    Duchi et al. 2008, "Efficient Projections onto the l1-Ball", figure 1.
    """
    ordered = -np.sort(-rows, axis=-1)
    excess = (ordered.cumsum(-1) - 1) / np.arange(1, rows.shape[-1] + 1)
    kept = (ordered > excess).sum(-1, keepdims=True)
    found: Floats = np.maximum(rows - np.take_along_axis(excess, kept - 1, -1), 0)
    return found


# Noise --------------------------------------------------------------------------------------------------


def discrete_gaussian(values: NDArray[np.int64], scale: float, sensitivity: float) -> NDArray[np.int64]:
    """Return integers plus discrete Gaussian noise of this scale (std), by OpenDP.

    Checked against OpenDP's own proof: for this L2 ``sensitivity`` its cost in zero-concentrated privacy
    must be (sensitivity/scale)²/2, to rounding upwards.
    """
    import opendp.prelude as dp

    dp.enable_features("contrib")
    flat = values.reshape(-1)
    space = dp.vector_domain(dp.atom_domain(T="i64"), size=len(flat)), dp.l2_distance(T=float)
    measurement: Any = dp.m.make_gaussian(*space, scale=scale)
    rho = (sensitivity / scale) ** 2 / 2
    if measurement.map(sensitivity) > rho * (1 + 1e-9):
        raise RuntimeError(f"OpenDP bounds this noise by {measurement.map(sensitivity)} zCDP, not {rho}")
    return np.asarray(measurement(flat.tolist()), np.int64).reshape(values.shape)


def gaussian(sums: NDArray[np.int64], width: float, sensitivity: float, multiplier: float) -> Floats:
    """Return sums on the grid with noise of ``multiplier`` times ``sensitivity``, in the values' unit."""
    steps = sensitivity / width
    return discrete_gaussian(sums, multiplier * steps, steps).astype(np.float64) * width


def noisy_rows(rows: Any, clip: float, multiplier: float) -> Floats:
    """Return a client's matrix [n, d], each row clipped, with noise that hides all of the client's data."""
    width = clip * GRID
    return gaussian(to_grid(clip_rows(rows, clip), width), width, of_rows(clip, len(rows)), multiplier)


def noisy_class_sums(
    rows: Any, labels: Any, classes: int, clip: float, multiplier: float
) -> tuple[Floats, Floats]:
    """Return noisy sums per class [classes, d] and noisy counts [classes], together one release.

    ``rows`` [n, d], clipped here; ``labels`` [n]. Counts weigh C, so their noise is that of a coordinate of
    the sums divided by C. Every class is there: one that is absent looks like noise. Add/remove of a record.
    """
    width = clip * GRID
    held = to_grid(clip_rows(rows, clip), width)
    sums = np.zeros((classes, held.shape[1] + 1), np.int64)
    np.add.at(sums[:, :-1], labels, held)
    sums[:, -1] = np.bincount(labels, minlength=classes) * round(1 / GRID)
    noisy = gaussian(sums, width, of_sums_and_counts(clip, clip, "add/remove"), multiplier)
    return noisy[:, :-1], noisy[:, -1] / clip


def noisy_client_mean(payloads: Any, bound: float, clients: int, multiplier: float) -> Floats:
    """Return the sum of payloads [n, ...], each within norm ``bound``, plus noise, over ``clients``.

    ``clients`` is a public constant, not the number of payloads, which one client changes by staying away.
    Add/remove of a client.
    """
    width = bound * GRID
    flat = np.asarray(payloads, np.float64)
    total = to_grid(clip_rows(flat, bound), width).sum(0)
    noisy = gaussian(total, width, of_sums(bound, "add/remove"), multiplier)
    return noisy.reshape(flat.shape[1:]) / clients


def randomised_response(labels: NDArray[Any], classes: int, epsilon: float) -> NDArray[np.int64]:
    """Return each label kept with probability e^ε/(e^ε+K-1), else another one, all alike (Warner 1965).

    By OpenDP, each answer from the operating system's entropy; its proof is checked against ``epsilon``.
    """
    import opendp.prelude as dp

    dp.enable_features("contrib")
    keep = keeps(classes, epsilon)
    answer: Any = dp.m.make_randomized_response(list(range(classes)), keep)
    if answer.map(1) > epsilon * (1 + 1e-9):
        raise RuntimeError(f"OpenDP bounds this answer by {answer.map(1)}, not {epsilon}")
    return np.asarray([answer(int(label)) for label in labels], np.int64)


def keeps(classes: int, epsilon: float) -> float:
    """Return the probability with which randomised response keeps a label: e^ε/(e^ε+K-1)."""
    return 1 / (1 + (classes - 1) * math.exp(-epsilon))


def unbiased(one_hot: Any, classes: int, epsilon: float) -> Any:
    """Return unbiased estimates of one-hot true votes [..., classes] from one-hot answers.

    (answer - q)/(p - q), q = (1-p)/(K-1): the mean over many clients is the share of each class.
    """
    keep = keeps(classes, epsilon)
    other = (1 - keep) / (classes - 1)
    return (one_hot - other) / (keep - other)


def noisy_winner(counts: NDArray[np.int64], std: float) -> NDArray[np.int64]:
    """Return GNMax: the class with the most votes [rows, classes] plus noise, per row.

    Papernot et al. 2018, "Scalable Private Learning with PATE", arXiv 1802.08908. One client moves two counts
    of a row by one each (replace).
    """
    noisy = discrete_gaussian(counts, std, of_vote_counts("replace"))
    return np.asarray(noisy.argmax(axis=-1), np.int64)


def confident_rows(counts: NDArray[np.int64], threshold: float, std: float) -> NDArray[np.int64]:
    """Return the rows whose largest count plus noise reaches the threshold (Confident-GNMax, algorithm 1).

    The largest count of a row moves by at most one.
    """
    return np.flatnonzero(discrete_gaussian(counts.max(-1), std, 1.0) >= threshold)
