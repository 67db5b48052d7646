"""What a privacy mode asks of a scenario, and what should be known before it runs: nothing is trained."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from fedkt.client.behaviour import Holding
from fedkt.data.identity import parties_hash
from fedkt.data.sets.dataset import InputSpec
from fedkt.engine.world.world import World
from fedkt.errors import InputError
from fedkt.knowledge.kinds import ClassLogits
from fedkt.models.net import Net
from fedkt.privacy.accounting import spent
from fedkt.privacy.curator import ledger_folder
from fedkt.privacy.dpsgd import Dpsgd, fit_privately
from fedkt.privacy.ledger import Declined, Ledger
from fedkt.privacy.modes import LogitGauss
from fedkt.privacy.protection import float_arrays
from fedkt.rng import torch_stream
from fedkt.scenario.about_privacy import Privacy
from fedkt.strategy.choosing.utility import UTILITIES


def privacy_problems(world: World) -> list[str]:
    """Return what keeps the scenario's privacy mode from protecting it, in sentences."""
    if world.mode is None:
        return []
    problems = [*_fit(world), *_models(world), *_statistics(world)]
    problems = problems or [*_rehearsed(world)]
    if problems:
        return problems
    try:
        planned = epsilons(world)
    except InputError as error:
        return list(error.problems)
    most = world.scenario.privacy.max_epsilon or 0.0
    for client, values in planned.items():
        if values[0] > most and not world.scenario.privacy.deterministic_noise:
            return [
                f"privacy.max_epsilon is {most:g}, but the first round alone would cost client {client} "
                f"{values[0]:.4g}; raise it, add noise or train less in a round."
            ]
    return _ledgers(world)


def privacy_notes(world: World) -> list[str]:
    """Return what is allowed but should be known, in sentences."""
    if world.mode is None:
        return []
    settings, notes = world.scenario.privacy, []
    delta, most = settings.delta or 0.0, settings.max_epsilon or 0.0
    if world.mode.unit == "record":
        own = {client: len(shard.rows) for client, shard in world.shards.items()}
        smallest, counted = min(own.values()), settings.rows
        far = [c for c, n in own.items() if counted and (n > 2 * counted or counted > 2 * n)]
        if far:
            notes.append(
                f"privacy.rows is {counted}, more than a factor of two from the number of rows of client "
                f"{', '.join(far)}: batches and noise are made for another size, and accuracy suffers."
            )
        if delta >= 1 / smallest:
            notes.append(
                f"privacy.delta is {delta:g}, not below 1/{smallest} (one over the rows of the smallest "
                "client): a mechanism that publishes a record now and then would meet it; choose far less."
            )
    if settings.deterministic_noise:
        notes.append("privacy.deterministic_noise is set: the noise hides nothing, epsilon is infinite.")
        return notes
    last = {client: sum(value <= most for value in values) for client, values in epsilons(world).items()}
    if world.scenario.engine.kind == "board":
        notes.append(
            f"epsilon is planned for {world.scenario.rounds} deposits of each client; one that comes to the "
            f"board more often pays for each, and declines at privacy.max_epsilon {most:g}."
        )
    if min(last.values()) < world.scenario.rounds:
        client = min(last, key=lambda name: last[name])
        notes.append(
            f"privacy.max_epsilon {most:g} is spent after round {last[client]} of {world.scenario.rounds} "
            f"(client {client}); from then on it declines."
        )
    if isinstance(world.mode, LogitGauss):
        first = next(iter(world.shards))
        ratio = world.mode.signal_to_noise(
            world.full_contribution(first), world.costs(first).noise, len(world.shards)
        )
        notes.append(
            f"privacy mode logit_gauss: averaged over all clients, a row's signal is at most {ratio:.2g} of "
            "its noise; mode dpsgd gives the same release for less."
        )
    return notes


def epsilons(world: World) -> dict[str, list[float]]:
    """Return the planned epsilon after each round, by client; by ``server`` where all pay together there.

    Of a fresh ledger, every client taking part in every round.
    """
    settings, mode = world.scenario.privacy, world.mode
    if mode is None or settings.delta is None:
        return {}
    rounds = range(1, world.scenario.rounds + 1)
    clients = list(world.shards)[:1] if mode.at_server else list(world.shards)
    found = {}
    for client in clients:
        cost = world.costs(client)
        values = [spent(cost.after(r), settings.delta, mode.unit).epsilon for r in rounds]
        found["server" if mode.at_server else client] = values
    return found


# One question each --------------------------------------------------------------------------------------


def _fit(world: World) -> Iterator[str]:
    mode, settings = world.mode, world.scenario.privacy
    why = mode and mode.misfit(world.strategy, world.behaviour, world.settings)
    if why:
        yield f"privacy mode '{settings.mode}' does not fit strategy '{world.scenario.strategy.name}': {why}."
    elif isinstance(mode, LogitGauss) and not float_arrays(world.full_contribution(next(iter(world.shards)))):
        yield (
            f"privacy mode '{settings.mode}' does not fit strategy '{world.scenario.strategy.name}': its "
            "clients send no real numbers that noise could be added to; use dpsgd."
        )
    if mode is not None and mode.training_noise(1.0) is not None:
        if world.scenario.clients.guard is not None:
            yield (
                f"privacy mode '{settings.mode}' does not pay for what clients.guard decides on private "
                "rows; leave it out, or use a mode that adds noise to what is sent."
            )
        if world.scenario.clients.distill.weigh is not None:
            yield (
                f"privacy mode '{settings.mode}' does not pay for the comparison with private rows that "
                "clients.distill.weigh asks for; leave it out, or use a mode that adds noise to what is sent."
            )
        first, each = world.private_phases(next(iter(world.shards)))
        if world.together:
            yield (
                f"privacy mode '{settings.mode}' trains on private rows alone, but clients.distill.together "
                "puts transfer rows into the same steps; leave it out, or use a mode that adds noise to what "
                "is sent."
            )
        elif any(phase.coupled for phase in [*first, *each]):
            yield (
                f"privacy mode '{settings.mode}' cannot train strategy "
                f"'{world.scenario.strategy.name}', whose loss mixes the rows of a batch; use a mode "
                "that adds noise to what is sent."
            )
        elif any(len(world.shards[next(iter(world.shards))].rows) != p.size for p in [*first, *each]):
            yield (
                f"privacy mode '{settings.mode}' cannot train strategy '{world.scenario.strategy.name}', "
                "which mixes other rows with private ones; use a mode that adds noise to what is sent."
            )
        elif world.behaviour.digests_private_rows:
            yield (
                f"privacy mode '{settings.mode}' pays for one phase of private training per round, but "
                f"strategy '{world.scenario.strategy.name}' has two; use a mode "
                "that adds noise to what is sent."
            )
    robust = world.scenario.robust
    if mode is not None and mode.at_server and (robust.centre, robust.filter) != ("mean", "none"):
        yield (
            f"privacy mode '{settings.mode}' bounds what one client does to a mean, which robust fusion does "
            "not take; leave robust out, or use a mode that adds noise at the clients."
        )
    transfer = world.scenario.data.transfer
    if mode is not None and mode.at_server and transfer is not None and transfer.audition:
        yield (
            f"data.transfer.audition looks at what single clients say, but in privacy mode "
            f"'{settings.mode}' nobody "
            "sees that; data.transfer.from must name the set."
        )
    utility = "random" if transfer is None else transfer.rule.utility
    named = transfer is not None and transfer.policy is not None
    if mode is not None and mode.at_server and named and UTILITIES[utility].answers:
        others = [name for name, other in UTILITIES.items() if not other.answers]
        yield (
            f"data.transfer.policy is {utility}, but in privacy mode '{settings.mode}' nobody sees what "
            f"single clients say; it must be {', '.join(others[:-1])} or {others[-1]}."
        )
    if mode is not None and utility == "census" and settings.mode != "dpsgd":
        yield (
            f"data.transfer.policy is census, for which clients count their own rows, but privacy mode "
            f"'{settings.mode}' does not pay for that; use dpsgd, or another policy."
        )
    learned = [name for name, how in world.scenario.data.categories.items() if how == "train"]
    if mode is not None and learned:
        yield (
            f"data.categories.{learned[0]} is learned from private rows, which privacy mode "
            f"'{settings.mode}' does not pay for; list the values, or say transfer."
        )
    if mode is not None and world.scenario.patience is not None:
        yield (
            f"patience ends a run by what is right of clients' validation rows, which privacy mode "
            f"'{settings.mode}' does not pay for; leave it out."
        )
    if "data" in world.strategy.shares:
        yield (
            f"strategy '{world.scenario.strategy.name}' pools all data, which no privacy mode protects; "
            "write 'privacy: {mode: none}'."
        )


def _models(world: World) -> Iterator[str]:
    """Refuse models whose layers mix rows, and features that are trained where they are said to be public."""
    from opacus.validators import ModuleValidator

    settings = world.scenario.privacy
    trains_privately = settings.mode == "dpsgd" or settings.provenance == "dp_trained"
    for client in world.one_of_each():
        net, name = world.net(client), world.models[client][0]
        if trains_privately and net.refits:
            yield (
                f"model '{name}' is an estimator, fitted to all rows at once without gradients, of which "
                "private training would clip and noise one per row; use a mode that noises what is sent, as "
                "vote_gnmax does."
            )
        elif trains_privately:
            mixing = [
                type(layer).__name__
                for layer in net.modules()
                if isinstance(layer, nn.modules.batchnorm._BatchNorm)
            ]
            if mixing:
                yield (
                    f"model '{name}' has {mixing[0]}, whose statistics mix rows, so private training is "
                    "impossible; use GroupNorm in its place."
                )
            elif net.mixes_rows:
                yield (
                    f"what model '{name}' makes of a row depends on the other rows of its batch, so private "
                    "training is impossible; use GroupNorm in place of statistics over rows."
                )
            elif getattr(getattr(net.features, "decoder", None), "tokens_of_own_text", False):
                yield (
                    f"model '{name}' learns its tokens of the client's own text, which private training does "
                    "not pay for; set 'tokenizer: public', or 'tokens: 256' for single bytes."
                )
            elif errors := ModuleValidator.validate(net, strict=False):
                yield f"model '{name}' cannot be trained privately: {_one_line(errors[0])}"
        if settings.provenance == "public":
            means = world.behaviour.sends is ClassLogits
            sent = {"features": net.features, "head": net.head} if means else {"features": net.features}
            for part in (
                key for key, held in sent.items() if any(p.requires_grad for p in held.parameters())
            ):
                yield (
                    f"privacy.provenance is public, but the {part} of model '{name}' "
                    f"{'are' if part == 'features' else 'is'} trained on private rows; write dp_trained, or "
                    f"use a model with fixed features{' and head' if means else ''}."
                )


def _statistics(world: World) -> Iterator[str]:
    """Refuse inputs that were scaled by statistics of private rows."""
    data, mode = world.scenario.data, world.mode
    if mode is None or mode.unit != "record":
        return
    if data.standardise:
        yield (
            "data.standardise scales columns by statistics of private rows, which the privacy mode does not "
            "pay for; leave it out or scale by published constants."
        )
    if data.missing in ("mean", "median"):
        yield (
            f"data.missing is {data.missing}, a statistic of private rows, which the privacy mode does not "
            "pay for; use zero."
        )


def _ledgers(world: World) -> list[str]:
    """Refuse to begin on ledgers that cannot be trusted, or that other rows paid into."""
    settings = world.scenario.privacy
    if settings.ledger is None:
        return []
    mode = world.mode
    at_server = mode is not None and mode.at_server
    for name in ["server"] if at_server else list(world.shards):
        rows = parties_hash(world.federation) if at_server else world.party_hash(name)
        ledger = Ledger(ledger_folder(settings, Path(), name))
        try:
            ledger.check_rows(rows)
            if mode is not None:
                ledger.refuse_weaker(ledger.entries(), mode.unit, mode.change)
        except Declined as no:
            return [no.detail]
    return []


def planned_text(settings: Privacy, planned: dict[str, list[float]]) -> str:
    """Return the line of ``fedkt show`` about epsilon."""
    if not planned:
        return "epsilon planned: none (privacy mode none gives no differential-privacy guarantee)"
    worst = max(values[-1] for values in planned.values())
    first = max(values[0] for values in planned.values())
    return (
        f"epsilon planned: {first:.3g} after the first round, {worst:.3g} after the last, at delta "
        f"{settings.delta:g} (mode {settings.mode}, the largest over clients)"
    )


def _one_line(error: object) -> str:
    return " ".join(str(error).split()).rstrip(".") + "."


# A rehearsal on made rows: what fails, fails before a ledger has paid; nothing private is in it -------------

_MADE = 4
"""Made rows of a rehearsal."""


def _rehearsed(world: World) -> Iterator[str]:
    """Train one private step of each architecture on made rows; yield why one fails, in sentences."""
    if world.mode is None or world.mode.training_noise(1.0) is None:
        return
    for client in world.one_of_each():
        if why := _rehearse(world, client):
            yield f"model '{world.models[client][0]}' cannot be trained privately: {why}."


def _rehearse(world: World, client: str) -> str | None:
    held = _made(world.holding(client), world.federation.input, world.federation.classes)
    how = Dpsgd(1.0, world.scenario.privacy.max_grad_norm)
    for phase in [p for part in world.private_phases(client, held) for p in part]:
        net = world.net(client)
        if (what := _changed_by_looking(net, held.x)) is not None:
            return (
                f"'{what}' changes when rows are merely looked at, so it tells of them without noise; use a "
                "layer without such a memory"
            )
        try:
            one = replace(phase, steps=replace(phase.steps, batches=1, batch_size=phase.size))
            fit_privately(net, one, {}, how, seed=world.scenario.seed, client=client, round_=0)
        except Exception as error:  # whatever it is, the first private round would end with it
            text = " ".join(str(error).split()).rstrip(".")
            return f"a step on made rows ends in {type(error).__name__}{': ' if text else ''}{text}"
    return None


def _made(holding: Holding, input_: InputSpec, classes: int) -> Holding:
    """Return the holding with made rows in place of the private ones, on the CPU."""
    stream = torch_stream(holding.seed, "rehearsal")
    shape = (_MADE, *holding.x.shape[1:])
    if holding.x.is_floating_point():
        x: Tensor = torch.randn(shape, generator=stream)
    else:
        x = torch.randint(0, max(input_.vocabulary, 1), shape, generator=stream)
        x[:, -1:] = 0  # padding
    y = holding.task.made(_MADE, classes)
    share = torch.full((len(holding.label_share),), 1 / classes)
    public = None if holding.public is None else (holding.public[0].cpu(), holding.public[1].cpu())
    transfer = None if holding.transfer is None else holding.transfer.cpu()
    return replace(holding, x=x.to(holding.x.dtype), y=y, label_share=share, public=public, transfer=transfer)


@torch.no_grad()
def _changed_by_looking(net: Net, x: Tensor) -> str | None:
    """Return the name of a tensor that a forward pass changes: statistics, or a table that is rescaled."""
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    net.train()
    try:
        net(x)
    except Exception:
        return None  # the step that follows says what is wrong
    return next((n for n, t in net.state_dict().items() if not torch.equal(t, before[n])), None)
