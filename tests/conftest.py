"""Settings of every test: property tests draw the same examples each time, no clock fails one, and runs have
their picture only where a test is about it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from fedkt.deploy.rehearsal import Rehearsal

settings.register_profile("fedkt", deadline=None, derandomize=True)
settings.load_profile("fedkt")


@pytest.fixture(scope="session", autouse=True)
def picture() -> Iterator[Callable[..., None]]:
    """What draws the picture of a run. Runs of this process go without: it takes as long as a small one."""
    from fedkt.results import curve

    drawing = curve.draw_accuracy
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(curve, "draw_accuracy", lambda *_: None)
        yield drawing


@pytest.fixture
def drawn(picture: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let runs of this test have their picture."""
    monkeypatch.setattr("fedkt.results.curve.draw_accuracy", picture)


@pytest.fixture(scope="session")
def it(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Rehearsal]":
    """A federation of real processes: SuperLink with TLS and node keys, the three sites of deploy.yaml."""
    from fedkt import scenario as scenarios
    from fedkt.deploy.rehearsal import Rehearsal

    scenario = scenarios.load(Path(__file__).parent / "deploy" / "deploy.yaml")
    with Rehearsal(scenario, tmp_path_factory.mktemp("rehearsal") / "it") as rehearsal:
        yield rehearsal
