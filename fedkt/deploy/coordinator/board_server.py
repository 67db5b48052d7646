"""A board behind HTTP: signed calls in, the same messages as in rounds out; nothing is unpickled.

Standard library alone. A call's length is bounded before it is read, its signature is checked before it is
parsed.
"""

import json
import ssl
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from flwr.app import RecordDict

from fedkt.deploy.coordinator.board_desk import BoardDesk
from fedkt.deploy.wire.flwr_control import packed, readable
from fedkt.deploy.wire.hello import heard
from fedkt.deploy.wire.refusal import Refused
from fedkt.deploy.wire.signing import Keys, verified
from fedkt.errors import InputError

PATIENCE_S = 30.0
"""Seconds that a caller may be silent."""
CALLS = ("/invitation", "/hello", "/train", "/deposit", "/done")
EMPTY, FULL, REFUSED, UNKNOWN, TOO_LARGE = 204, 200, 409, 404, 413


class BoardServer(ThreadingHTTPServer):
    """Serves one board at a host and port; ``keys``: public keys by site."""

    daemon_threads = True

    def __init__(
        self, address: tuple[str, int], desk: BoardDesk, keys: Keys, tls: tuple[Path, Path] | None = None
    ) -> None:
        self.desk, self.keys = desk, keys
        self.failed: Exception | None = None
        """What went wrong with a call, after which only what is on the disk can be trusted."""
        if tls is None and not _loopback(address[0]):
            raise InputError(
                f"--listen is {address[0]}, which others can reach, so it needs TLS; name --certificate and "
                "--certificate-key."
            )
        try:
            super().__init__(address, _Call)
            if tls is not None:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(*tls)
                self.socket = context.wrap_socket(
                    self.socket, server_side=True, do_handshake_on_connect=False
                )
        except OSError as error:
            raise InputError(
                f"--listen {address[0]}:{address[1]} cannot be opened ({error.strerror or error}); name "
                "another port, or look at the certificate's files."
            ) from error


class _Call(BaseHTTPRequestHandler):
    server: BoardServer
    timeout = PATIENCE_S
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if self.path not in CALLS:
            self._say(UNKNOWN, b"")
        elif not length.isdecimal() or int(length) > self.server.desk.largest:
            self.close_connection = True  # what it sends is not read
            self._say(TOO_LARGE, b"")
        else:
            body = self.rfile.read(int(length))
            try:
                site = verified(self.server.keys, dict(self.headers), self.path, body, time.time())
                answer = self._answer(site, body)
            except Refused as refusal:
                told = {"reason": refusal.reason, "detail": refusal.detail}
                answer = REFUSED, json.dumps(told).encode()
            except Exception as error:  # a strategy's, or a full disk's
                self.server.failed = error
                self.close_connection = True
                return
            self._say(*answer)

    def _answer(self, site: str, body: bytes) -> tuple[int, bytes]:
        desk = self.server.desk
        if self.path == "/invitation":
            return FULL, desk.invitation.text().encode()
        if self.path == "/train":
            return _packed(desk.train(site))
        content = readable(body)
        if content is None:
            raise Refused("message", "the call's body cannot be read.")
        if self.path == "/hello":
            name, facts = heard(content)
            if name != site:
                raise Refused("key", f"the call is signed by {site}, which says that it is '{name[:40]}'.")
            desk.hello(site, facts)
            return EMPTY, b""
        if self.path == "/deposit":
            return _packed(desk.deposit(site, content))
        desk.done(site, content)
        return EMPTY, b""

    def _say(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the run's folder tells what happened."""


def _packed(content: RecordDict | None) -> tuple[int, bytes]:
    return (EMPTY, b"") if content is None else (FULL, packed(content))


def _loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
