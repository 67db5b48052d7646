"""Write and read what scikit-learn fitted, by ``skops``: no pickle, and only types that are named here.

What skops writes holds addresses of memory and the time; both are replaced, so that the same fit gives the
same bytes.
"""

import io
import json
import warnings
from collections.abc import Iterator, Sequence
from typing import Any
from zipfile import BadZipFile, ZipFile, ZipInfo

import numpy as np
from numpy.typing import NDArray

from fedkt.models.estimators.refit import Bytes
from fedkt.models.estimators.trees import apart, check_nodes, together

TRUSTED = (
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace",
    "sklearn.gaussian_process.kernels.ConstantKernel",
    "sklearn.gaussian_process.kernels.Product",
    "sklearn.gaussian_process.kernels.RBF",
    "sklearn.metrics._dist_metrics.EuclideanDistance64",
    "sklearn.neighbors._ball_tree.BallTree",
    "sklearn.neighbors._kd_tree.KDTree",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    "sklearn.tree._tree.Tree",
)
"""Parts of scikit-learn's estimators that skops asks about; what it asks about beside them is refused."""

_SCHEMA = "schema.json"
_LONG_AGO = (1980, 1, 1, 0, 0, 0)


class Unsavable(ValueError):
    """What was fitted holds something that cannot be written without pickle."""


def written(fitted: Any, own: Sequence[str] = ()) -> Bytes:
    """Return a fitted estimator as bytes: ``model`` by skops, and ``trees`` where it is a forest.

    ``own``: packages whose types are trusted too. Raises Unsavable.
    """
    from safetensors.numpy import save
    from skops.io import dumps, get_untrusted_types
    from skops.io.exceptions import UnsupportedTypeException

    skeleton, forest = apart(fitted)
    try:
        packed = dumps(skeleton)
    except (UnsupportedTypeException, TypeError, AttributeError, ValueError) as error:
        raise Unsavable(" ".join(str(error).split())) from error
    if strange := _strange(get_untrusted_types(data=packed), own):
        raise Unsavable(f"it holds {', '.join(strange)}")
    trees = save(forest) if forest else b""
    return {"model": _array(_settled(packed)), "trees": _array(trees)}


def read(held: Bytes, own: Sequence[str] = ()) -> Any:
    """Return what :func:`written` wrote. Raises ValueError where it is damaged or holds other types."""
    from safetensors import SafetensorError
    from safetensors.numpy import load
    from skops.io import get_untrusted_types, loads
    from skops.io.exceptions import UntrustedTypesFoundException

    packed = held["model"].tobytes()
    try:
        asked = get_untrusted_types(data=packed)
        if strange := _strange(asked, own):
            raise ValueError(f"it holds {', '.join(strange)}, which nobody said to trust")
        with warnings.catch_warnings(action="ignore"):  # another release of scikit-learn wrote it
            fitted = loads(packed, trusted=asked)
        if len(held["trees"]):
            fitted = together(fitted, load(held["trees"].tobytes()))
        for part in _parts(fitted):
            _check(part)
    except (BadZipFile, KeyError, AttributeError, TypeError, SafetensorError) as error:
        raise ValueError(f"it cannot be read: {' '.join(str(error).split())}") from error
    except UntrustedTypesFoundException as error:
        raise ValueError(str(error)) from error
    return fitted


def _strange(asked: Sequence[str], own: Sequence[str]) -> list[str]:
    return [name for name in asked if name not in TRUSTED and name.partition(".")[0] not in own]


def _settled(packed: bytes) -> bytes:
    """Return an archive of skops' with ids in order in place of addresses, and without the time."""
    with ZipFile(io.BytesIO(packed)) as source:
        schema = json.loads(source.read(_SCHEMA))
        ids: dict[Any, int] = {}
        files: dict[str, str] = {}
        _renumber(schema, ids, files)
        out = io.BytesIO()
        with ZipFile(out, "w") as target:
            for old, new in files.items():
                target.writestr(ZipInfo(new, _LONG_AGO), source.read(old))
            target.writestr(ZipInfo(_SCHEMA, _LONG_AGO), json.dumps(schema))
    return out.getvalue()


def _renumber(node: Any, ids: dict[Any, int], files: dict[str, str]) -> None:
    if isinstance(node, list):
        for part in node:
            _renumber(part, ids, files)
    elif isinstance(node, dict):
        if "__id__" in node:
            node["__id__"] = ids.setdefault(node["__id__"], len(ids))
        if "__loader__" in node and isinstance(node.get("file"), str):
            ending = node["file"].rpartition(".")[2]
            node["file"] = files.setdefault(node["file"], f"{len(files)}.{ending}")
        for part in node.values():
            if isinstance(part, dict | list):
                _renumber(part, ids, files)


def _parts(fitted: Any) -> Iterator[Any]:
    """Yield an object and all that its attributes, lists and object arrays hold."""
    seen: set[int] = set()
    left = [fitted]
    while left:
        one = left.pop()
        if id(one) in seen or isinstance(one, str | bytes | int | float):
            continue
        seen.add(id(one))
        yield one
        if isinstance(one, list | tuple):
            left += one
        elif isinstance(one, dict):
            left += one.values()
        elif isinstance(one, np.ndarray):
            left += one.ravel().tolist() if one.dtype == object else []
        else:
            left += getattr(one, "__dict__", {}).values()


def _check(part: Any) -> None:
    """Raise ValueError where nodes of a tree that skops read lead out of it."""
    name = type(part).__name__
    if name == "Tree" and type(part).__module__ == "sklearn.tree._tree":
        nodes = part.__getstate__()["nodes"]
        many = np.full(len(nodes), len(nodes))
        check_nodes(nodes, np.zeros(len(nodes), np.int64), many, int(part.n_features))
    elif name == "TreePredictor":
        nodes = part.nodes
        inner, place = nodes["is_leaf"] == 0, np.arange(len(nodes))
        for side in ("left", "right"):
            if not ((nodes[side] > place) & (nodes[side] < len(nodes)))[inner].all():
                raise ValueError("a node of its trees leads nowhere")


def _array(content: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(content, np.uint8)
