"""Set a site up: its key, its file, and the commands that follow from them.

From a scenario, for trying on real processes what was simulated: each client's rows and the transfer set as
files, under the names and with the models that the simulation gives them, so that the same seed gives the
same numbers.
"""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fedkt.data.content.own_rows import OwnRows
from fedkt.deploy.site.site_file import FILE, Policy, Site
from fedkt.errors import InputError
from fedkt.files import write_atomic, write_secret
from fedkt.scenario import Scenario, check_importable
from fedkt.scenario.yaml12 import write

KEY, PUBLIC_KEY = "node.key", "node.pub"


def init_site(folder: Path, name: str, address: str, ca: Path | None, settings: Mapping[str, Any]) -> Site:
    """Write a new site's key and file, ``settings`` beside the usual ones; return it.

    Raises InputError where the folder has a site already.
    """
    if (folder / FILE).exists():
        raise InputError(f"{folder / FILE} exists already; name another folder with --out, or edit it.")
    certificates = None if ca is None else str(ca.absolute())
    plain = {
        "name": name,
        "superlink": {"address": address, "root_certificates": certificates, "key": KEY},
        "data": {"rows": "npz:rows.npz", "transfer": "npz:transfer.npz"},
        "model": None,
        "state_dir": "state",
        "policy": Policy().model_dump(),
        "health_port": 8088,
        **settings,
    }
    write_key(folder)
    write_atomic(folder / FILE, (_HEAD + write(plain)).encode())
    return Site.load(folder)


def write_key(folder: Path) -> None:
    """Write a fresh ECDSA P-384 key pair in OpenSSH form."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP384R1())
    form = serialization.PrivateFormat.OpenSSH
    secret = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    write_secret(folder / KEY, secret)
    write_atomic(folder / PUBLIC_KEY, public + b"\n")


def supernode_command(site: Site, port: int | None = None) -> list[str]:
    """Return the exact ``flower-supernode`` command of a site; ``port``: of Flower's own local API."""
    link = site.file.superlink
    command = ["flower-supernode", "--superlink", link.address]
    if link.root_certificates is not None:
        command += ["--root-certificates", str(site.path(link.root_certificates))]
    command += ["--auth-supernode-private-key", str(site.path(link.key))]
    command += ["--node-config", f'site="{site.folder / FILE}"']
    return command if port is None else [*command, "--port", str(port)]


def register_command(site: Site) -> str:
    """Return what the coordinator runs once to let the site in."""
    public = site.path(site.file.superlink.key).with_suffix(".pub")
    return shlex.join(["flwr", "supernode", "register", str(public), "SUPERLINK"])


def init_from_scenario(
    scenario: Scenario, out: Path, data_dir: Path | None, address: str, ca: Path | None
) -> list[Site]:
    """Write one site per client of a scenario below ``out``, each with its rows and the common sets."""
    from fedkt.engine.checks.checked import checked_world

    check_importable(scenario)
    world = checked_world(scenario, data_dir)
    federation = world.federation
    rows_of = OwnRows(scenario.data, federation.categories)
    sizes: dict[str, Any] = {"classes": federation.classes}
    if federation.input.vocabulary:
        sizes["vocabulary"] = federation.input.vocabulary
    if federation.notes or scenario.data.overlap == "report":
        sizes["overlap"] = "report"  # what one file held twice lies in two files now
    kinds = [*Policy().kinds, *scenario.allow]
    made = federation.stock is not None
    policy = Policy(
        kinds=kinds, min_participants=scenario.participation.quorum, transfer="made" if made else "any"
    )
    common = {"transfer": None if made else federation.transfer, "public": federation.public}
    if federation.own_test is None:
        common["test"] = federation.test
    sites = []
    for name, shard in world.shards.items():
        folder = out / name
        rows = np.sort(np.concatenate([shard.rows, shard.validation]))
        own = None
        if shard.test is not None and federation.own_test is not None:
            own = federation.own_test.take(shard.test)
        data: dict[str, Any] = {"rows": rows_of.save(folder / "rows", federation.pool.take(rows), own, name)}
        for key, part in common.items():
            if part is not None:
                data[key] = rows_of.save(folder / key, part)
        kind, settings = world.models[name]
        extra = {
            "data": data | sizes,
            "model": {"name": kind, **settings} if settings else kind,
            "policy": policy.model_dump(),
            "health_port": 0,
        }
        sites.append(init_site(folder, name, address, ca, extra))
    return sites


_HEAD = """\
# A site's own file; docs/deployment.md explains every line. Paths are relative to this folder. Nothing of it
# leaves the site but its name, the shape of the inputs, the number of classes, the names of labels and
# columns where they have any, and the transfer set's hash.
"""
