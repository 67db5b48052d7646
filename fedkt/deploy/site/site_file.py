"""A site's own file, ``site.yaml``: who it is, where its data are, and what it agrees to.

Paths in it are relative to its folder. Nothing of it ever leaves the site but its name, the shape of what a
model gets, the number of classes, the names of labels and columns where they have any, and the hash of the
transfer set.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from fedkt.data.building import NAME
from fedkt.data.federation import Federation
from fedkt.data.own import Sources, build_own
from fedkt.errors import InputError
from fedkt.scenario import Scenario
from fedkt.scenario.about_clients import Model
from fedkt.scenario.explain import explain
from fedkt.scenario.yaml12 import parse

FILE = "site.yaml"
Text = Annotated[str, StringConstraints(min_length=1)]
Whole = Annotated[int, Field(ge=1)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class SuperLink(_Part):
    """How the coordinator is reached."""

    address: Annotated[str, StringConstraints(pattern=r"^[^\s/:]+:\d{1,5}$")] = Field(
        examples=["fedkt.example.org:443"]
    )
    """Host and port."""
    root_certificates: Text | None = None
    """PEM file of the CA that signed the coordinator's certificate; null: those that the system trusts."""
    key: Text = "node.key"
    """The site's private key, ECDSA in OpenSSH form; its public half is registered at the coordinator."""


class SiteData(_Part):
    """The site's rows, and what all sites have in common; each a data set as in a scenario."""

    rows: Text = Field(examples=["npz:rows.npz"])
    transfer: Text | None = None
    public: Text | None = None
    test: Text | None = None
    """A common test set; null: own test rows in ``rows``, else 20 % of them."""
    classes: Annotated[int, Field(ge=1)] | None = None
    """Of the whole federation; null: those that the site's own labels show."""
    vocabulary: Whole | None = None
    """Number of token ids of the whole federation, where rows are token ids."""
    overlap: Literal["refuse", "report"] = "refuse"
    """What is done where rows of one of these sets are rows of another, by their values."""


class Policy(_Part):
    """What the site agrees to, whatever it is asked."""

    kinds: Annotated[list[Text], Field(min_length=1)] = Field(
        default_factory=lambda: ["logits", "top_logits", "class_logits", "prototypes", "votes", "nothing"]
    )
    """Kinds of knowledge that may leave or come in. Only who lists ``weights`` ever sends weights."""
    strategies: list[Text] | None = None
    """Null: any whose knowledge is allowed."""
    privacy: Annotated[list[Text], Field(min_length=1)] = Field(default_factory=lambda: ["none", "dpsgd"])
    """Privacy modes; leave ``none`` out to ask for differential privacy."""
    max_epsilon: Annotated[float, Field(gt=0)] | None = None
    """The largest ε that this data may ever spend, over all runs."""
    rounds_per_day: Whole | None = None
    """Rounds of all runs that are trained in one day (UTC)."""
    transfer_sets: list[Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]] | None = None
    """SHA-256 of the transfer sets that may be answered about; null: the one in ``data.transfer``, and those
    that the site makes itself."""
    transfer: Literal["any", "held", "made"] = "any"
    """``made``: only rows that the site makes itself of the scenario's recipe are answered about, so that
    nobody can aim a question at a record; ``held``: only those in ``data.transfer``."""
    min_participants: Whole = 2
    """Knowledge is only given where at least this many are fused: the scenario's quorum."""
    max_reply_bytes: Whole = 64 << 20
    """The largest reply."""
    never_learn: list[Annotated[int, Field(ge=0)] | Text] = Field(default_factory=list, examples=[[9]])
    """Classes, numbers or names, that this site's model never learns: its rows of them are left out, and they
    are taken out of every teacher, whatever the scenario says."""


class SiteFile(_Part):
    """Everything that a site decides."""

    name: Annotated[str, StringConstraints(pattern=rf"^({NAME.pattern}|\d{{1,9}})$")] = Field(
        examples=["cleveland"]
    )
    superlink: SuperLink
    data: SiteData
    model: Model | None = None
    """The site's own architecture, as in ``clients.models``; null: the scenario's, where it names one."""
    state_dir: Text = "state"
    """Models, optimisers, replies, ledger and log; keep it on a disk that survives."""
    policy: Policy = Policy()
    health_port: Annotated[int, Field(ge=0, le=65535)] = 8088
    """Of the health page on 127.0.0.1; 0: any free one."""


@dataclass(frozen=True)
class Site:
    """A site's file, and the folder that its paths start from."""

    folder: Path
    file: SiteFile

    @classmethod
    def load(cls, path: Path) -> "Site":
        """Read ``site.yaml``, or the one in a folder. Raises InputError with every problem."""
        path = path / FILE if path.is_dir() else path
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "it is not UTF-8 text"
            raise InputError(
                f"{path} cannot be read ({why}); 'fedkt site init' writes a site's file."
            ) from error
        document = parse(text)
        problems = [(line, problem) for line, problem in document.problems]
        if not isinstance(document.value, dict):
            raise InputError(*(f"{path}:{line}: {problem}" for line, problem in problems or [(1, _EMPTY)]))
        try:
            file = SiteFile.model_validate(document.value)
        except ValidationError as error:
            for place, problem in explain(error, SiteFile):
                if place not in document.unreadable:
                    around = (place[:n] for n in range(len(place), -1, -1))
                    line = next((document.lines[part] for part in around if part in document.lines), 1)
                    problems.append((line, problem))
        if problems:
            raise InputError(*(f"{path}:{line}: {problem}" for line, problem in sorted(problems)))
        return cls(path.parent.absolute(), file)

    def path(self, name: str) -> Path:
        """Return where a file of the site lies."""
        return self.folder / Path(name).expanduser()

    @property
    def state(self) -> Path:
        """The folder of everything that the site keeps."""
        return self.path(self.file.state_dir)

    def federation(self, scenario: Scenario) -> Federation:
        """Load the site's data by the rules of a scenario. Raises InputError."""
        data = self.file.data
        sources = Sources(
            self.folder,
            data.rows,
            data.transfer,
            data.public,
            data.test,
            data.classes,
            data.vocabulary,
            data.overlap,
        )
        return build_own(self.file.name, sources, self.kept(scenario))

    def adapted(self, scenario: Scenario) -> Scenario:
        """Return the scenario with the site's own model, ledger and budget. Raises InputError.

        The ledger counts all runs over the site's data; of two budgets the lower one holds.
        """
        model: Any = self.file.model
        if model is None:
            named = list(scenario.clients.models)
            if len(named) != 1:
                raise InputError(
                    f"the scenario names {len(named)} models and site '{self.file.name}' none; "
                    "write the site's own as 'model' in its file."
                )
            (model,) = named
        clients = scenario.clients.model_copy(update={"models": [model]})
        # One ledger for the site's data, whatever the coordinator writes.
        budgets = (scenario.privacy.max_epsilon, self.file.policy.max_epsilon)
        most = min((limit for limit in budgets if limit is not None), default=None)
        own = {"ledger": str(self.state / "ledger"), "max_epsilon": most}
        privacy = scenario.privacy.model_copy(update=own)
        part = self.kept(scenario).participation
        return scenario.model_copy(update={"clients": clients, "privacy": privacy, "participation": part})

    def kept(self, scenario: Scenario) -> Scenario:
        """Return the scenario in which this site never learns what it does not want to, either."""
        name, never, part = self.file.name, self.file.policy.never_learn, scenario.participation
        if not never:
            return scenario
        blocked = {**part.blocked, name: tuple(dict.fromkeys((*part.blocked.get(name, ()), *never)))}
        return scenario.model_copy(update={"participation": part.model_copy(update={"blocked": blocked})})


_EMPTY = "the file is empty or no mapping; it must hold a site's settings, such as 'name: cleveland'."
