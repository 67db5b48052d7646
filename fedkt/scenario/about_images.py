"""The parts of a scenario about images: their one shape, and the constants that they are scaled by."""

from typing import Annotated, Literal

from pydantic import Field

from fedkt.scenario.settings import Positive, Settings, Whole


class Image(Settings):
    """One shape for the images of all domains.

    >>> Image(size=28, channels=3).channels
    3
    """

    size: Whole = Field(examples=[28])
    """Height and width in pixels."""
    channels: Literal[1, 3] = Field(examples=[3])
    """1: grey; 3: colours."""


class Normalise(Settings):
    """Published constants of an image data set: (pixel - mean) / std, with pixels in [0, 1].

    They are fixed in the file, so no private row goes into them.

    >>> Normalise(mean=[0.1307], std=[0.3081]).std
    [0.3081]
    """

    mean: Annotated[list[float], Field(min_length=1)] = Field(examples=[[0.1307]])
    """One number per channel, or one for all."""
    std: Annotated[list[Positive], Field(min_length=1)] = Field(examples=[[0.3081]])
    """One number per channel, or one for all."""


NORMALISE_TAGS = ("normalise-by-name", "normalise-by-constants")
"""Pydantic puts these into the place of an error; they are no keys."""
