"""Many decision trees of scikit-learn as a few arrays: object by object a forest takes seconds to write.

A forest of scikit-learn is a list of trees that differ in their nodes and random states alone. They are
written as one tree without nodes, which says what they have in common, and arrays of all nodes behind each
other. What is read is checked, since the library trusts its nodes: a child or a column that is not there
would be read from memory of something else.
"""

from copy import copy
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.lib.recfunctions import repack_fields
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]
_OWN = {"tree_", "random_state"}
"""What trees of one forest differ in."""
_LEAF = -1


def apart(fitted: Any) -> tuple[Any, Arrays]:
    """Return an estimator without its trees, and these; as it is, and nothing, where it is no such forest."""
    from sklearn.tree import BaseDecisionTree

    trees = list(np.ravel(getattr(fitted, "estimators_", [])))
    if not trees or not all(isinstance(tree, BaseDecisionTree) for tree in trees):
        return fitted, {}
    first = _common(trees[0])
    if not all(isinstance(tree.random_state, int) and _same(first, _common(tree)) for tree in trees):
        return fitted, {}
    states = [tree.tree_.__getstate__() for tree in trees]
    arrays = {
        # Without the bytes between fields, in which there is whatever was there before.
        "nodes": _bytes(repack_fields(np.concatenate([state["nodes"] for state in states]))),
        "values": np.concatenate([state["values"] for state in states]),
        "counts": np.array([state["node_count"] for state in states], np.int64),
        "depths": np.array([state["max_depth"] for state in states], np.int64),
        "seeds": np.array([tree.random_state for tree in trees], np.int64),
        "shape": np.array(np.shape(fitted.estimators_), np.int64),
        "classes": np.asarray(trees[0].tree_.n_classes, np.int64),
    }
    bare = copy(trees[0])
    bare.__dict__ = {**first, "random_state": None}
    skeleton = copy(fitted)
    skeleton.estimators_ = [bare]
    return skeleton, arrays


def together(skeleton: Any, arrays: Arrays) -> Any:
    """Return the estimator that :func:`apart` took apart. Raises ValueError where the trees are none."""
    from sklearn.tree._tree import NODE_DTYPE, Tree

    (bare,) = skeleton.estimators_
    columns, counts = int(bare.n_features_in_), arrays["counts"]
    nodes = arrays["nodes"].view(repack_fields(NODE_DTYPE)).astype(NODE_DTYPE)
    values = arrays["values"]
    edges = np.concatenate([[0], np.cumsum(counts)])
    if (counts < 1).any() or edges[-1] != len(nodes) or len(values) != len(nodes):
        raise ValueError("its trees have not as many nodes as they should")
    if values.shape[1:] != (len(arrays["classes"]), int(arrays["classes"].max())):
        raise ValueError("its trees speak of other classes")
    if len(counts) != arrays["shape"].prod():
        raise ValueError("there are not as many trees as there should be")
    check_nodes(nodes, np.repeat(edges[:-1], counts), np.repeat(counts, counts), columns)
    trees = np.empty(len(counts), dtype=object)
    for i, (start, stop) in enumerate(pairwise(edges.tolist())):
        tree = Tree(columns, arrays["classes"].astype(np.intp), len(arrays["classes"]))
        tree.__setstate__(
            {
                "max_depth": int(arrays["depths"][i]),
                "node_count": int(counts[i]),
                "nodes": nodes[start:stop].copy(),
                "values": values[start:stop].copy(),
            }
        )
        one = copy(bare)
        one.__dict__ = {**vars(bare), "random_state": int(arrays["seeds"][i]), "tree_": tree}
        trees[i] = one
    shape = tuple(arrays["shape"].tolist())
    skeleton.estimators_ = trees.tolist() if len(shape) == 1 else trees.reshape(shape)
    return skeleton


def check_nodes(
    nodes: NDArray[Any], start: NDArray[np.int64], count: NDArray[np.int64], columns: int
) -> None:
    """Raise ValueError unless nodes lead down only, to nodes of their tree, and ask for columns there are.

    ``start`` [nodes]: where the tree of a node begins; ``count`` [nodes]: how many nodes that has.
    """
    place = np.arange(len(nodes)) - start
    inner = nodes["left_child"] != _LEAF
    for side in ("left_child", "right_child"):
        child = nodes[side]
        if not ((child > place) & (child < count))[inner].all():
            raise ValueError("a node of its trees leads nowhere")
    if not ((nodes["feature"] >= 0) & (nodes["feature"] < columns))[inner].all():
        raise ValueError("a node of its trees asks for a column that is not there")


def _common(tree: Any) -> dict[str, Any]:
    return {name: value for name, value in vars(tree).items() if name not in _OWN}


def _same(one: dict[str, Any], two: dict[str, Any]) -> bool:
    return one.keys() == two.keys() and all(
        one[k] is two[k] or np.array_equal(np.asarray(one[k]), np.asarray(two[k])) for k in one
    )


def _bytes(array: NDArray[Any]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(array).view(np.uint8).reshape(-1)
