"""``fedkt site check``: everything that can be known to be wrong at a site, all at once."""

import ssl
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from fedkt.deploy.site.policy import objections, size_objection, transfer_objection
from fedkt.deploy.site.site_file import Site
from fedkt.deploy.wire.reach import reach, trusting
from fedkt.errors import InputError, tried
from fedkt.scenario import Scenario

if TYPE_CHECKING:
    from fedkt.engine.world.world import World

EARLY_S, LATE_S = 5.0, 305.0
"""How far Flower lets a site's clock be ahead of the coordinator's, and behind it."""


def check_site(site: Site, scenario: Scenario | None, *, connect: bool = True) -> list[str]:
    """Return what is in order, in sentences; raises InputError with every problem.

    ``scenario``: what the site is to take part in (None: only its own file, key and connection are tried).
    """
    problems: list[str] = []
    fine: list[str] = []

    def attempt(step: Callable[[], str]) -> None:
        if (said := tried(problems, step)) is not None:
            fine.append(said)

    attempt(lambda: _key(site))
    attempt(lambda: _disk(site))
    if scenario is not None:
        attempt(lambda: _policy(site, scenario))
        attempt(lambda: _world(site, scenario))
    if connect:
        attempt(lambda: connection(site))
    if problems:
        raise InputError(*problems)
    return fine


def _key(site: Site) -> str:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_ssh_private_key

    path = site.path(site.file.superlink.key)
    try:
        key = load_ssh_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            f"superlink.key: {path} is no private key in OpenSSH form ({_why(error)})."
        ) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise InputError(f"superlink.key: {path} is no ECDSA key; 'ssh-keygen -t ecdsa -b 384' makes one.")
    if path.stat().st_mode & 0o077:
        raise InputError(
            f"superlink.key: others than the owner may read {path}; 'chmod 600' keeps it secret."
        )
    return f"key {path.name}: ECDSA, {key.curve.name}"


def _disk(site: Site) -> str:
    try:
        site.state.mkdir(parents=True, exist_ok=True)
        probe = site.state / ".probe"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise InputError(f"state_dir: {site.state} cannot be written ({_why(error)}).") from None
    return f"state folder {site.state}"


def _policy(site: Site, scenario: Scenario) -> str:
    against = objections(site.file.policy, scenario)
    if against:
        raise InputError(*(f"policy: {refusal.reason}: {refusal.detail}" for refusal in against))
    return f"the policy agrees to {scenario.name} ({scenario.strategy.name})"


def _world(site: Site, scenario: Scenario) -> str:
    from fedkt.engine.checks.method_checks import checked_method
    from fedkt.engine.world.private import privacy_notes, privacy_problems
    from fedkt.engine.world.world import World

    checked_method(scenario)
    world = World(site.adapted(scenario), site.federation(scenario))
    name, policy = site.file.name, site.file.policy
    dims = world.dims(name)
    if problems := unfit(world, name) + privacy_problems(world):
        raise InputError(*problems)
    for refusal in (
        transfer_objection(policy, world.transfer_hash, None),
        size_objection(policy, world.behaviour.contribution(dims.about(0), world.settings)),
    ):
        if refusal is not None:
            raise InputError(f"policy: {refusal.reason}: {refusal.detail}")
    shard, (model, _) = world.shards[name], world.models[name]
    held = f"transfer set {world.transfer_hash}" if world.transfer_hash else "no transfer set"
    notes = [*world.federation.notes, *privacy_notes(world)]
    told = "".join(f"; {note.rstrip('.')}" for note in notes)
    return f"{len(shard.rows)} training rows, {dims.classes} classes, model {model}, {held}{told}"


def unfit(world: "World", name: str) -> list[str]:
    """Return why the model of this site cannot take part, in sentences: for its rows, for the strategy."""
    from fedkt.engine.checks.model_checks import batch_problems
    from fedkt.strategy.at_once import estimator_problems

    net, rows, model = world.net(name), len(world.shards[name].rows), world.models[name][0]
    problems = batch_problems(world.scenario, name, rows, model, net)
    return problems + estimator_problems(world.strategy, world.behaviour, world.config, world.scenario, [net])


def connection(site: Site) -> str:
    """Reach the coordinator with the site's CA, compare the clocks, and say so. Raises InputError."""
    link = site.file.superlink
    ca = None if link.root_certificates is None else site.path(link.root_certificates)
    try:
        context = trusting(ca)
    except (OSError, ssl.SSLError) as error:
        raise InputError(f"superlink.root_certificates: {link.root_certificates} ({_why(error)}).") from None
    try:
        reply = reach(link.address, context)
    except InputError as error:
        raise type(error)(f"superlink.address: {error}") from None
    told = reply.headers.get("date")
    if told is None:
        return f"{link.address} answers over TLS"
    ahead = time.time() - parsedate_to_datetime(told).timestamp()
    if not -LATE_S < ahead < EARLY_S:
        raise InputError(
            f"this clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the coordinator's; "
            f"signatures hold from {LATE_S:.0f} s behind to {EARLY_S:.0f} s ahead, so set it (NTP)."
        )
    return f"{link.address} answers over TLS, clocks {abs(ahead):.0f} s apart"


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or " ".join(str(error).split()).rstrip(".") or "unreadable"
