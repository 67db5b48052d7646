"""What every part of the schema is made of: the base of all settings and the kinds of numbers."""

from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from pydantic_core import PydanticCustomError


def must_be(words: str, *choices: str) -> WrapValidator:
    """Replace whatever pydantic says about a value by one requirement in plain words.

    ``choices`` are the words that may be near to a misspelt one.
    """

    def check(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
        try:
            return validate(value)
        except ValidationError:
            context = {"words": words, "choices": choices}
            raise PydanticCustomError("requirement", "{words}", context) from None

    return WrapValidator(check)


class Settings(BaseModel):
    """The base of every part: frozen, no unknown keys, no conversions such as '1' to 1 or yes to 1."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, populate_by_name=True, allow_inf_nan=False
    )


Whole = Annotated[int, Field(ge=1)]
NotNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Text = Annotated[str, StringConstraints(min_length=1)]


class Named(BaseModel):
    """A plug-in's name beside its own settings, flat in YAML: ``{name: knfu, beta: 10}``."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    name: str = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _flatten(cls, data: Any) -> Any:
        """Accept a bare name, and ``settings={...}`` from Python as well."""
        if isinstance(data, str):
            return {"name": data}
        if isinstance(data, dict) and isinstance(data.get("settings"), dict):
            return {**data["settings"], **{key: value for key, value in data.items() if key != "settings"}}
        return data

    @property
    def settings(self) -> dict[str, Any]:
        """All keys but the name; what they may be, the plug-in says."""
        return dict(self.model_extra or {})


def written(value: Any) -> Any:
    """Return a number of YAML as the text that a data file has for it; anything else as it is."""
    return f"{value:.15g}" if isinstance(value, int | float) and not isinstance(value, bool) else value


def differs(part: type[BaseModel], info: ValidationInfo, value: Any) -> bool:
    """Say whether a value is another than the field's default, as every resolved file writes it out."""
    return bool(value != part.model_fields[str(info.field_name)].default)


def say(words: str) -> PydanticCustomError:
    return PydanticCustomError("sentence", "{words}", {"words": words})
