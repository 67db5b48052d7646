"""What pydantic found wrong with a scenario, in plain words: one sentence for each problem."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from fedkt.registry import did_you_mean, nearest
from fedkt.scenario.about_clients import MODEL_TAGS
from fedkt.scenario.about_images import NORMALISE_TAGS
from fedkt.scenario.about_rows import CATEGORY_TAGS, COLUMN_TAGS, LABEL_TAGS, POLICY_TAGS, TARGET_TAGS
from fedkt.scenario.schema import Scenario
from fedkt.scenario.yaml12 import Path, dotted

_NEEDS = {
    "greater_than": "greater than {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "less_than": "less than {lt:g}",
    "less_than_equal": "at most {le:g}",
    "finite_number": "a finite number",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "string_too_short": "text that is not empty",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "too_short": "given at least one entry",
    "requirement": "{words}",
}
"""What a value must be, by pydantic's type of error."""


Root = type[BaseModel]
TAGS = (*MODEL_TAGS, *NORMALISE_TAGS, *POLICY_TAGS, *CATEGORY_TAGS, *COLUMN_TAGS, *LABEL_TAGS, *TARGET_TAGS)


def explain(error: ValidationError, root: Root = Scenario) -> Iterator[tuple[Path, str]]:
    """Yield the place and the sentence of every problem with a file whose schema is ``root``."""
    for detail in error.errors(include_url=False):
        path: Path = tuple(part for part in detail["loc"] if part not in TAGS)
        yield path, _sentence(root, path, detail)


def setting_keys() -> list[str]:
    """Return the dotted keys of all settings of a scenario but those of parts, in the schema's order.

    >>> [key for key in setting_keys() if key.startswith("evaluate")]
    ['evaluate.every']
    """
    found = list(_all_keys(Scenario, ()))
    parts = {path[:-1] for path in found}
    return [dotted(path) for path in found if path not in parts]


def _sentence(root: Root, path: Path, detail: ErrorDetails) -> str:
    kind, context, key = detail["type"], detail.get("ctx", {}), dotted(path)
    if kind == "missing":
        field = _keys(_model_at(root, path[:-1])).get(str(path[-1]))
        example = field.examples[0] if field is not None and field.examples else "…"
        return f"{key} is missing; it must be given, such as '{path[-1]}: {example}'."
    if kind in ("extra_forbidden", "invalid_key"):
        return f"unknown key '{key}'; {_nearest_key(root, path)}"
    if kind == "sentence":
        return f"{key} {context['words']}."
    sentence = f"{key} is {_show(detail['input'])}; it must be {_need(root, path, detail)}"
    near = nearest(detail["input"], _choices(detail)) if isinstance(detail["input"], str) else []
    return f"{sentence}; did you mean {near[0]!r}?" if near else f"{sentence}."


def _choices(detail: ErrorDetails) -> list[str]:
    """Return the words that a value may be, where it is one of a few."""
    context = detail.get("ctx", {})
    if detail["type"] == "literal_error":
        return re.findall(r"'([^']*)'", context["expected"])
    return list(context.get("choices", ()))


def _need(root: Root, path: Path, detail: ErrorDetails) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "literal_error":
        return str(context["expected"])
    if kind in ("model_type", "model_attributes_type"):
        model = _model_at(root, path)
        its_own = ["settings of its own"] if model and model.model_config.get("extra") == "allow" else []
        return f"a mapping of settings ({', '.join([*_keys(model), *its_own])})"
    if kind in _NEEDS:
        return _NEEDS[kind].format(**context)
    return f"valid ({detail['msg']})"


def _nearest_key(root: Root, path: Path) -> str:
    """Return the end of the sentence about an unknown key: the nearest one here, or its place elsewhere."""
    valid, word = list(_keys(_model_at(root, path[:-1]))), str(path[-1])
    elsewhere = [dotted(place) for place in _all_keys(root, ()) if place[-1] == word]
    ending = did_you_mean(word, valid)
    if elsewhere and not ending.startswith("did you mean"):
        return f"did you mean {' or '.join(repr(place) for place in elsewhere)}?"
    return ending


def _keys(model: type[BaseModel] | None) -> Mapping[str, Any]:
    """Return the fields of a part by the keys that a file has for them."""
    return {field.alias or name: field for name, field in model.model_fields.items()} if model else {}


def _all_keys(model: type[BaseModel], above: Path) -> Iterator[Path]:
    for key, field in _keys(model).items():
        yield (*above, key)
        part = _part(field.annotation)
        if part is not None:
            yield from _all_keys(part, (*above, key))


def _model_at(root: Root, path: Path) -> type[BaseModel] | None:
    """Return the model of the part at a path, None where that is no part."""
    model: type[BaseModel] | None = root
    for key in path:
        if not isinstance(key, int):  # a place in a list: the part is the same for all of them
            field = _keys(model).get(str(key))
            model = _part(field.annotation) if field is not None else None
    return model


def _part(annotation: Any) -> type[BaseModel] | None:
    """Return the model in an annotation such as ``Transfer | None`` or ``tuple[Attack, ...]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((part for option in get_args(annotation) if (part := _part(option))), None)


def _show(value: Any) -> str:
    """Return a value as YAML has it, shortened."""
    words: dict[Any, str] = {None: "null", True: "true", False: "false"}
    text = words[value] if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
