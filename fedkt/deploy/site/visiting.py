"""``fedkt site visit``: take part in a board, whenever the site can.

What a site is in the middle of lies in its state folder, and what it answered is kept there as in rounds,
so a visit that was interrupted anywhere goes on where it was, and nothing is trained or paid twice.
"""

import json
import time
from collections.abc import Callable
from itertools import count

import httpx
from flwr.app import Context, Message, RecordDict, UserConfig

from fedkt.deploy.site.desk import at_desk
from fedkt.deploy.site.site_app import client_app
from fedkt.deploy.site.site_file import Site
from fedkt.deploy.wire.flwr_control import packed, unpacked
from fedkt.deploy.wire.hello import heard
from fedkt.deploy.wire.invitation import Invitation
from fedkt.deploy.wire.reach import trusting
from fedkt.deploy.wire.refusal import Refused
from fedkt.deploy.wire.signing import own_key, signed
from fedkt.engine.runtimes.flwr_internals import SERVER_NODE, become_server
from fedkt.errors import RunError
from fedkt.files import write_atomic
from fedkt.knowledge.protocol import status_of

CALL_S = 60.0
AGAIN_S = 5.0
REFUSED = 409
Say = Callable[[str], None]


class NotTaken(RunError):
    """A board does not take what a site brings; ``reason``: of its refusal, in a word."""

    def __init__(self, words: str, reason: str = "") -> None:
        super().__init__(words)
        self.reason = reason


class Visitor:
    """One site at one board.

    ``again_s``: after so long a board that cannot be reached is called again; ``say`` is told of it once.
    """

    def __init__(self, site: Site, *, again_s: float = AGAIN_S, say: Say = print) -> None:
        self._site, self._again_s, self._say = site, again_s, say
        link = site.file.superlink
        ca = None if link.root_certificates is None else site.path(link.root_certificates)
        bare = ca is None and link.address.partition(":")[0] in ("127.0.0.1", "localhost")
        self._url = f"{'http' if bare else 'https'}://{link.address}"
        self._key = own_key(site.path(link.key))
        self._client = httpx.Client(verify=trusting(ca), timeout=CALL_S, trust_env=False)
        become_server()  # so that messages can be made here
        self._text = self._call("/invitation").decode()
        self._run = Invitation.read(self._text).run
        self._app = client_app(self._text)
        self._begun = site.state / "runs" / self._run / "visit"
        self._introduce()

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def visit(self) -> bool:
        """Train, deposit, collect, digest; return False where the board is over.

        Raises RunError where this site declines, or the board does not take what it brings.
        """
        stage, request = self._middle()
        if stage is None:
            if not (asked := self._call("/train")):
                return False
            stage, request = "train", asked
            self._note(stage, request)
        try:
            if stage == "train":
                taught = self._call("/deposit", self._answer("train", request))
                if not taught:
                    raise NotTaken(f"{self._site.file.name} could not contribute; its log.jsonl says why.")
                request = taught
                self._note("evaluate", request)
            self._call("/done", self._answer("evaluate", request))
        except NotTaken as error:
            self._begun.unlink()  # the next visit begins anew
            if error.reason == "over":
                return False
            raise
        self._begun.unlink()
        return True

    # Steps ----------------------------------------------------------------------------------------

    def _introduce(self) -> None:
        content = self._asked("query", RecordDict())
        try:
            heard(content)
        except Refused as refusal:
            raise RunError(f"this site takes no part: {refusal.reason}: {refusal.detail}") from None
        self._call("/hello", packed(content))

    def _answer(self, stage: str, request: bytes) -> bytes:
        content = self._asked(stage, unpacked(request))
        status, reason = status_of(content)
        if status == "declined" and stage == "evaluate":
            raise RunError(f"this site does not go on: {reason}; its log.jsonl says why.")
        return packed(content)

    def _asked(self, stage: str, content: RecordDict) -> RecordDict:
        message = Message(content, SERVER_NODE, stage)
        config = UserConfig({"site": str(self._site.folder / "site.yaml")})
        return self._app(message, Context(1, SERVER_NODE, config, RecordDict(), UserConfig())).content

    def _middle(self) -> tuple[str | None, bytes]:
        """Return the stage of a visit that was interrupted, and its request; (None, b"") where none was."""
        if not self._begun.is_file():
            return None, b""
        stage, _, request = self._begun.read_bytes().partition(b"\n")
        return stage.decode(), request

    def _note(self, stage: str, request: bytes) -> None:
        write_atomic(self._begun, stage.encode() + b"\n" + request)

    def _call(self, call: str, body: bytes = b"") -> bytes:
        """Call the board until it answers; return what it says."""
        for attempt in count():
            headers = signed(self._key, self._site.file.name, call, body)
            try:
                reply = self._client.post(self._url + call, content=body, headers=headers)
                break
            except httpx.TransportError as error:  # it is restarted, or the line is: nothing is lost
                if not attempt:
                    why = " ".join(str(error).split()) or type(error).__name__
                    self._say(f"{self._url} cannot be reached ({why}); it is called again")
                time.sleep(self._again_s)
        if reply.status_code == REFUSED:
            told = json.loads(reply.content)
            reason: str = told["reason"]
            raise NotTaken(f"the board refuses: {reason}: {told['detail']}", reason)
        if reply.status_code not in (200, 204):
            raise RunError(
                f"the board answers {call} with status {reply.status_code}; it is none of fedkt's."
            )
        return reply.content


def visit_board(site: Site, *, times: int | None, pause_s: float, say: Say, again_s: float = AGAIN_S) -> None:
    """Visit a board until it is over, or ``times`` times, with pauses between.

    Raises InputError where the site's file is wrong, RunError where a board or the site itself refuses.
    """
    state = site.state / "board"
    with at_desk(state):  # one visitor at a time
        visitor = Visitor(site, again_s=again_s, say=say)
        try:
            made = 0
            while times is None or made < times:
                if not visitor.visit():
                    say("the board is over")
                    return
                made += 1
                say(f"visit {made}: deposited, collected and digested")
                if times is None or made < times:
                    time.sleep(pause_s)
        finally:
            visitor.close()
