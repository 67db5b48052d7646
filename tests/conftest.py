"""Settings of every test: property tests draw the same examples each time, and no clock fails one."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from fedkt.deploy.rehearsal import Rehearsal

settings.register_profile("fedkt", deadline=None, derandomize=True)
settings.load_profile("fedkt")


@pytest.fixture(scope="session")
def it(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Rehearsal]":
    """A federation of real processes: SuperLink with TLS and node keys, the three sites of deploy.yaml."""
    from fedkt import scenario as scenarios
    from fedkt.deploy.rehearsal import Rehearsal

    scenario = scenarios.load(Path(__file__).parent / "deploy" / "deploy.yaml")
    with Rehearsal(scenario, tmp_path_factory.mktemp("rehearsal") / "it") as rehearsal:
        yield rehearsal
