"""Who wrote to a board: each call is signed with the site's key, the one that a SuperLink knows it by.

A signature covers the version of the messages, the site's name, the time, the call and the hash of its
body, so none of them can be exchanged. A call that is repeated within :data:`PAST_S` is harmless: what it
brings counts once.
"""

import base64
import hashlib
import time
from collections.abc import Mapping
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fedkt.deploy.wire.refusal import Refused
from fedkt.errors import InputError
from fedkt.knowledge.protocol import PROTOCOL

SITE, TIME, VERSION, SIGNATURE = "Fedkt-Site", "Fedkt-Time", "Fedkt-Protocol", "Fedkt-Signature"
FUTURE_S, PAST_S = 60.0, 300.0
"""How far a site's clock may be ahead of the coordinator's, and how old a call may be."""

Keys = Mapping[str, ec.EllipticCurvePublicKey]


def signed(key: ec.EllipticCurvePrivateKey, site: str, call: str, body: bytes) -> dict[str, str]:
    """Return the headers of a site's call."""
    at = f"{time.time():.3f}"
    text = _text(str(PROTOCOL), site, at, call, body)
    signature = key.sign(text, ec.ECDSA(hashes.SHA384()))
    told = base64.b64encode(signature).decode()
    return {SITE: site, TIME: at, VERSION: str(PROTOCOL), SIGNATURE: told}


def verified(keys: Keys, headers: Mapping[str, str], call: str, body: bytes, now: float) -> str:
    """Return the site that made a call. Raises Refused: ``protocol``, ``key`` or ``time``."""
    site, at, spoken = headers.get(SITE, ""), headers.get(TIME, ""), headers.get(VERSION, "")
    if spoken != str(PROTOCOL):
        raise Refused(
            "protocol", f"the site speaks version {spoken[:9]!r} of the messages, this board {PROTOCOL}."
        )
    try:
        signature = base64.b64decode(headers.get(SIGNATURE, ""), validate=True)
        keys[site].verify(signature, _text(spoken, site, at, call, body), ec.ECDSA(hashes.SHA384()))
        ahead = float(at) - now
    except (KeyError, ValueError, InvalidSignature):
        raise Refused("key", "the call is not signed with the key of a site that this board knows.") from None
    if not -PAST_S <= ahead <= FUTURE_S:
        where = f"{ahead:.0f} s in the future" if ahead > 0 else f"{-ahead:.0f} s old"
        raise Refused("time", f"the call's time is {where} by the clock of the board; one of them is wrong.")
    return site


def known_keys(folder: Path) -> dict[str, ec.EllipticCurvePublicKey]:
    """Return the public keys ``<site>.pub`` of a folder by site. Raises InputError with every bad file."""
    found, problems = {}, []
    for file in sorted(folder.glob("*.pub")):
        try:
            key = serialization.load_ssh_public_key(file.read_bytes())
            if not isinstance(key, ec.EllipticCurvePublicKey):
                raise ValueError
            found[file.stem] = key
        except (OSError, ValueError):
            problems.append(f"{file} holds no ECDSA key in OpenSSH form; put a site's node.pub there.")
    if not found and not problems:
        problems.append(f"{folder} holds no keys; put each site's node.pub there as SITE.pub.")
    if problems:
        raise InputError(*problems)
    return found


def own_key(file: Path) -> ec.EllipticCurvePrivateKey:
    """Return a site's own key. Raises InputError."""
    try:
        key = serialization.load_ssh_private_key(file.read_bytes(), None)
        if isinstance(key, ec.EllipticCurvePrivateKey):
            return key
    except (OSError, ValueError):
        pass
    raise InputError(f"{file} holds no ECDSA key in OpenSSH form; 'fedkt site init' writes one.")


def _text(*parts: str | bytes) -> bytes:
    body = parts[-1] if isinstance(parts[-1], bytes) else b""
    return "\n".join(["fedkt board", *map(str, parts[:-1]), hashlib.sha256(body).hexdigest()]).encode()
