"""Small benchmark graphs, out of the files that the PyPI package ``pykeen`` (MIT) holds.

The package is not imported: its files are read where it lies, so that it needs none of its dependencies.
"""

import importlib.util
from pathlib import Path

from fedkt.data.columns.choices import Choices
from fedkt.data.graph.triples import read_triples
from fedkt.data.sets.dataset import Split
from fedkt.data.sets.reading import links
from fedkt.errors import InputError

LINKS = Choices(task="links")


def umls() -> Split:
    """UMLS: 135 medical terms, 46 relations, 5216 training and 661 test links; 652 more are known.

    McCray 2003, "An upper-level ontology for the biomedical domain", Comp. Funct. Genomics 4.
    """
    return _of_pykeen("umls")


def kinships() -> Split:
    """Kinships: 104 people, 25 relations, 8544 training and 1074 test links; 1068 more are known.

    Denham 1973; Kemp et al. 2006, "Learning systems of concepts with an infinite relational model", AAAI.
    """
    return _of_pykeen("kinships")


def _of_pykeen(name: str) -> Split:
    found = importlib.util.find_spec("pykeen")
    places = [] if found is None else [Path(place) for place in found.submodule_search_locations or ()]
    folder = next((at for place in places if (at := place / "datasets" / name).is_dir()), None)
    if folder is None:
        raise InputError(
            f"data set '{name}' is read from the files of the package pykeen, which is not installed; 'pip "
            "install --no-deps pykeen' brings them, or data.dataset must be triples:FOLDER."
        )
    return links(name, read_triples(str(folder), None), LINKS)
