"""What every part of the schema is made of: the base of all settings and the kinds of numbers."""

from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
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
