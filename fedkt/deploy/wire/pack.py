"""The Flower app that carries an invitation: a few fixed files around it, under an import name of its own.

Its code is what is written here and nothing else; a site's guard
(:mod:`fedkt.deploy.site.client_process`) reads the invitation and runs none of it. The
same invitation gives the same bytes.
"""

import hashlib
import io
import zipfile

from fedkt.deploy.wire.invitation import MAX_BYTES, Invitation
from fedkt.deploy.wire.refusal import Refused
from fedkt.errors import InputError

PACKAGE = "fedkt_invitation"
"""Flower puts the app's folder first on the path: the name must not shadow fedkt."""
INVITATION = f"{PACKAGE}/invitation.json"

_HALF = """\
from pathlib import Path

from fedkt.deploy.{where}_app import {half}_app

app = {half}_app(Path(__file__).with_name("invitation.json").read_text(encoding="utf-8"))
"""

_FILES = {
    "pyproject.toml": """\
[project]
name = "fedkt-invitation"
version = "1.0.0"
description = "A scenario for sites that run their own fedkt."
license = { text = "Apache-2.0" }
dependencies = []

[tool.flwr.app]
publisher = "fedkt"

[tool.flwr.app.components]
serverapp = "fedkt_invitation.server:app"
clientapp = "fedkt_invitation.client:app"

[tool.flwr.app.config]
""",
    f"{PACKAGE}/__init__.py": "",
    f"{PACKAGE}/client.py": _HALF.format(half="client", where="site.site"),
    f"{PACKAGE}/server.py": _HALF.format(half="server", where="coordinator.server"),
}


def pack(invitation: Invitation) -> tuple[bytes, str]:
    """Return Flower's app bundle and its SHA-256. Raises InputError for a scenario that is too long."""
    from flwr.cli.build import build_fab_from_files

    text = invitation.text().encode()
    if len(text) > MAX_BYTES:
        raise InputError(
            f"the scenario has {len(text)} bytes as JSON; at most {MAX_BYTES} can be sent, so shorten it."
        )
    files = {name: content.encode() for name, content in _FILES.items()}
    bundle, _ = build_fab_from_files({**files, INVITATION: text})
    return bundle, hashlib.sha256(bundle).hexdigest()


def invitation_in(bundle: bytes) -> str:
    """Return the invitation's text in an app bundle; nothing of the bundle is run.

    Raises Refused for one that is damaged, or holds anything else than :func:`pack` puts in.
    """
    allowed = {*_FILES, INVITATION, ".info/CONTENT"}
    try:
        with zipfile.ZipFile(io.BytesIO(bundle)) as archive:
            names = archive.namelist()
            if set(names) != allowed or len(names) != len(allowed):
                raise Refused("scenario", "the app holds other files than an invitation's.")
            for name, content in _FILES.items():
                # Flower writes pyproject.toml anew; of it, only what names the app is read by Flower itself.
                if name.endswith(".py") and archive.read(name) != content.encode():
                    raise Refused("scenario", f"the app's {name} is not fedkt's.")
            if archive.getinfo(INVITATION).file_size > MAX_BYTES:
                raise Refused("scenario", "the invitation is longer than any scenario.")
            return archive.read(INVITATION).decode()
    except (zipfile.BadZipFile, KeyError, UnicodeDecodeError, OSError) as error:
        raise Refused("scenario", "the app cannot be read.") from error
