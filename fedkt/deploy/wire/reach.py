"""Reach a SuperLink over TLS, and say in words why it cannot be reached: Flower itself tells little of it."""

import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx

from fedkt.errors import InputError

PATIENCE_S = 10.0
_NOBODY = "cannot be reached"


class Distrusted(InputError):
    """There is somebody, but not one to be trusted: Flower's SuperNode gives up and does not try again."""


def trusting(ca: Path | None) -> ssl.SSLContext:
    """Return what trusts this CA (None: those that the system trusts)."""
    return ssl.create_default_context(cafile=None if ca is None else str(ca))


def reach(address: str, context: ssl.SSLContext) -> httpx.Response:
    """Return what a SuperLink (host and port) answers on its fleet path.

    Raises InputError, and :class:`Distrusted` where TLS is what is wrong.
    """
    try:
        return httpx.get(f"https://{address}/v1/fleet/", verify=context, timeout=PATIENCE_S)
    except httpx.HTTPError as error:
        words = _unreached(error)
        kind = InputError if words.startswith(_NOBODY) else Distrusted
        raise kind(f"{address} {words}.") from None


def _unreached(error: httpx.HTTPError) -> str:
    text = " ".join(_causes(error))
    if "expired" in text:
        return "shows an expired certificate; the coordinator has to renew it"
    if "not yet valid" in text:
        return "shows a certificate that is not valid yet; one of the two clocks is wrong"
    if "CERTIFICATE_VERIFY_FAILED" in text and "match" in text:
        return "shows a certificate for another host; use the address that it was made for"
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return "shows a certificate that superlink.root_certificates did not sign; ask for the right CA"
    if "WRONG_VERSION_NUMBER" in text or "RECORD_LAYER" in text:
        return "answers without TLS; a coordinator of sites must use it"
    return f"{_NOBODY} ({' '.join(str(error).split()).rstrip('.')})"


def _causes(error: BaseException) -> Iterator[str]:
    at: BaseException | None = error
    while at is not None:
        yield str(at)
        at = at.__cause__ or at.__context__
