"""What may be claimed: one JSON object and one English sentence, in the summary, the report and the log."""

import math
from typing import TYPE_CHECKING, Any

from fedkt.privacy.accounting import RELATIONS, Spent
from fedkt.privacy.modes import MODES

if TYPE_CHECKING:
    from fedkt.scenario.about_privacy import Privacy

NO_GUARANTEE = (
    "No differential-privacy guarantee. Exchanged knowledge can reveal membership and label distribution."
)
_UNITS = {
    "record": "one record of a client",
    "client": "the whole data set of one client",
}
_RECORD_ASSUMPTIONS = (
    "all settings are public, and were not chosen on private data",
    "no person's records are at two clients, else their epsilons add up; a person with j records at one has "
    "j times the epsilon",
    "the transfer set is public: rows of it that belong to somebody are outside the guarantee",
)
_ASSUMPTIONS = {
    "dpsgd": (*_RECORD_ASSUMPTIONS, "training noise is float32 and its generator is not cryptographic"),
    "proto_gauss": _RECORD_ASSUMPTIONS,
    "logit_gauss": ("who takes part, and all settings, do not depend on private data",),
    "vote_rr": ("who takes part, and all settings, do not depend on private data",),
    "central_gauss": (
        "the sampling of clients is not secret, so it amplifies nothing",
        "no person's data are at two clients, else their epsilons add up",
    ),
    "vote_gnmax": (
        "the bound does not use the votes' agreement, which would need noise of its own",
        "no person's data are at two clients, else their epsilons add up",
    ),
}
_TRUSTED = {
    "dpsgd": "nobody but the client itself",
    "proto_gauss": "nobody but the client itself",
    "logit_gauss": "nobody but the client itself",
    "vote_rr": "nobody but the client itself",
    "central_gauss": "the server, which sees every contribution without noise",
    "vote_gnmax": "the server, which sees every vote without noise",
}
_EXCLUDED = (
    "the accuracy that a simulation measures, which no client sends (not released)",
    "models that clients keep or export",
    "that a client took part, failed or declined, and how long it took",
)


def statement(settings: "Privacy", worst: Spent | None) -> dict[str, Any]:
    """Return what may be claimed after a run in which the client that spent most spent ``worst``.

    None: nothing was released yet. An infinite epsilon is null, and the sentence says so.
    """
    if settings.mode not in MODES:
        return {
            "mode": "none",
            "unit": None,
            "epsilon": None,
            "delta": None,
            "statement": NO_GUARANTEE,
        }
    mode = MODES[settings.mode](settings)
    epsilon = math.inf if settings.deterministic_noise else worst.epsilon if worst else None
    accountant = worst.accountant if worst else None
    assumptions = [f"public is {mode.public}", *_ASSUMPTIONS[settings.mode]]
    if settings.mode == "proto_gauss" and settings.provenance == "public":
        assumptions.append("the features were made without private data, as the scenario declares")
    return {
        "mode": settings.mode,
        "unit": mode.unit,
        "change": mode.change,
        "relation": RELATIONS[mode.change],
        "theorem": mode.theorem,
        "epsilon": None if epsilon is None or math.isinf(epsilon) else epsilon,
        "delta": settings.delta,
        "max_epsilon": settings.max_epsilon,
        "accountant": accountant,
        "assumptions": assumptions,
        "excluded": list(_EXCLUDED),
        "trusted": _TRUSTED[settings.mode],
        "statement": _sentence(settings, epsilon, accountant),
    }


def _sentence(settings: "Privacy", epsilon: float | None, accountant: str | None) -> str:
    mode = MODES[settings.mode](settings)
    if settings.deterministic_noise:
        return (
            "No differential-privacy guarantee (epsilon is infinite): deterministic_noise makes the noise "
            "computable from the scenario's seed."
        )
    if epsilon is None:
        return f"Nothing has been released under mode {settings.mode}; nothing is claimed."
    if math.isinf(epsilon):
        return (
            f"No differential-privacy guarantee for {_UNITS[mode.unit]} (epsilon is infinite): "
            f"{(accountant or 'none').removeprefix('none: ')}."
        )
    return (
        f"Everything released so far is ({epsilon:.3g}, {settings.delta:g})-differentially private for "
        f"{_UNITS[mode.unit]} {mode.change}, by {accountant}, the worst of all clients; public is "
        f"{mode.public}; one must trust {_TRUSTED[settings.mode]}."
    )
