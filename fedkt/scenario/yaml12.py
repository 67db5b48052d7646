"""YAML as scenarios use it: the core schema of YAML 1.2 (https://yaml.org/spec/1.2.2/#103-core-schema).

PyYAML alone follows YAML 1.1, where ``1e-5`` is text, ``off`` is false and a repeated key wins silently.
Reading also tells where every key stands, so that errors can name the line.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import yaml

Path = tuple[str | int, ...]
"""Keys and list positions from the top to a value."""


def dotted(path: Path) -> str:
    """Return a path as one writes it: ``data.partition.alpha``."""
    return ".".join(str(part) for part in path) or "the scenario"


def _int(text: str) -> int:
    return int(text, 0) if text.startswith(("0o", "0x")) else int(text)


def _float(text: str) -> float:
    return float(re.sub(r"\.(?=inf|nan)", "", text.lower()))  # YAML writes .inf and .nan


_NUMBER = r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
_PLAIN: tuple[tuple[str, str, list[str], Callable[[str], Any]], ...] = (
    # type, what it looks like, how it can begin, its value
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""], lambda text: None),
    ("bool", r"true|True|TRUE|false|False|FALSE", [*"tTfF"], lambda text: text.lower() == "true"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", [*"-+0123456789"], _int),
    ("float", _NUMBER + r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", [*"-+.0123456789"], _float),
)
_PREFIX = "tag:yaml.org,2002:"
_VALUE_OF: dict[str, Callable[[str], Any]] = {_PREFIX + kind: value for kind, _, _, value in _PLAIN}
_VALUE_OF[_PREFIX + "str"] = str


class _Loader(yaml.BaseLoader):
    """Parses into nodes; only plain scalars of the core schema are anything but text."""


class _Dumper(yaml.SafeDumper):
    """Quotes text that either YAML 1.1 or 1.2 would take for something else; writes no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


for _kind, _pattern, _first, _ in _PLAIN:
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(_PREFIX + _kind, re.compile(rf"^(?:{_pattern})$"), _first)


@dataclass
class Document:
    """What a text says, the line (from 1) of every key and list item, and what is wrong with the text."""

    value: Any = None
    lines: dict[Path, int] = field(default_factory=dict)
    problems: list[tuple[int, str]] = field(default_factory=list)
    """(line, one sentence): bad syntax, repeated keys and the like."""
    unreadable: set[Path] = field(default_factory=set)
    """Where None stands for something that a problem is about."""


def parse(text: str) -> Document:
    """Read one YAML document; what is wrong with it is in its ``problems``, nothing is raised."""
    document = Document()
    try:
        root = yaml.compose(text, _Loader)
    except yaml.YAMLError as error:
        mark, reason = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        reason = reason or getattr(error, "reason", None) or "it cannot be read"
        document.problems.append((mark.line + 1 if mark else 1, f"this is not valid YAML: {reason}."))
        return document
    except ValueError as error:  # PyYAML on an escape beyond Unicode, such as "\UFFFFFFFF"
        document.problems.append((1, f"this is not valid YAML: {error}."))
        return document
    if root is not None:
        document.value = _read(root, (), document, frozenset())
    return document


def write(value: Any) -> str:
    """Return plain values (mappings, lists, text, numbers) as YAML, keys in their order."""
    text: str = yaml.dump(
        value, Dumper=_Dumper, sort_keys=False, default_flow_style=None, allow_unicode=True, width=110
    )
    return text


def _read(node: yaml.Node, path: Path, document: Document, above: frozenset[int]) -> Any:
    """Return a node's value, noting its lines and problems. ``above``: the nodes that it lies in."""
    line = node.start_mark.line + 1
    document.lines.setdefault(path, line)
    if id(node) in above:
        document.unreadable.add(path)
        document.problems.append((line, f"{dotted(path)} contains itself; it must be written out."))
        return None
    above |= {id(node)}
    if isinstance(node, yaml.MappingNode) and node.tag == _PREFIX + "map":
        return _read_mapping(node, path, document, above)
    if isinstance(node, yaml.SequenceNode) and node.tag == _PREFIX + "seq":
        return [_read(item, (*path, at), document, above) for at, item in enumerate(node.value)]
    if isinstance(node, yaml.ScalarNode) and node.tag in _VALUE_OF:
        try:
            return _VALUE_OF[node.tag](node.value)
        except ValueError:  # an explicit tag that is wrong, such as !!int abc, or a number of absurd length
            problem = f"is no valid {node.tag.removeprefix(_PREFIX)}; it must be written as one."
    else:
        problem = f"has the tag {node.tag!r}; it must be a plain value."
    document.unreadable.add(path)
    document.problems.append((line, f"{dotted(path)} {problem}"))
    return None


def _read_mapping(
    node: yaml.MappingNode, path: Path, document: Document, above: frozenset[int]
) -> dict[Any, Any]:
    mapping: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            document.problems.append((line, f"a key of {dotted(path)} is a collection; it must be text."))
            continue
        key = _read(key_node, (*path, key_node.value), document, above)
        here = (*path, key)
        if key in mapping:
            problem = f"{dotted(here)} is already set in line {document.lines[here]}; remove one of them."
            document.problems.append((line, problem))
            continue
        document.lines[here] = line
        mapping[key] = _read(value_node, here, document, above)
    return mapping
