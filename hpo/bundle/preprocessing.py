"""How a poster becomes the input of one of a bundle's backbones, complete enough for a reader without timm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from hpo.data.decoding import Fit, Framing, Interpolation

if TYPE_CHECKING:
    from hpo.model.backbones import Backbone

Finite = Annotated[float, Field(ge=-1000, le=1000)]
Divisor = Annotated[float, Field(ge=1e-6, le=1000)]
_LARGEST_PX = 1024  # no network of timm's sees more
_DEEPEST_ARGUMENT, _MOST_ARGUMENT_VALUES = 8, 1000


class Preprocessing(BaseModel):
    """What ``bundle.json`` says of each backbone. Where a default is given, older bundles do not say it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    image_size: int = Field(gt=0, le=_LARGEST_PX)  # px, of the square
    fit: Fit = "squash"
    interpolation: Interpolation = "bicubic"
    crop_share: float = Field(1.0, ge=0.1, le=1)
    mean: tuple[Finite, Finite, Finite]  # subtracted from pixels in 0..1, which are then divided by std
    std: tuple[Divisor, Divisor, Divisor]
    channel_order: Literal["RGB", "BGR"] = "RGB"
    architecture: str | None = None  # timm's name of the network
    arguments: dict[str, Any] = {}  # what timm builds it with, where the hub says so

    @field_validator("arguments")
    @classmethod
    def _of_a_usual_size(cls, arguments: dict[str, Any]) -> dict[str, Any]:
        """Refuse what takes long to look at, and squares or windows (``img_size``) that no poster is scaled to."""
        waiting: list[tuple[str, Any, int]] = [("", arguments, 0)]
        n_seen = 0
        while waiting:
            name, value, depth = waiting.pop()
            n_seen += 1
            if depth > _DEEPEST_ARGUMENT or n_seen > _MOST_ARGUMENT_VALUES:
                raise ValueError("expected a few arguments, got too many")
            if isinstance(value, dict):
                waiting += [(str(key), each, depth + 1) for key, each in value.items()]
            elif isinstance(value, list | tuple):
                waiting += [(name, each, depth + 1) for each in value]
            elif isinstance(value, int | float) and "size" in name and not abs(value) <= _LARGEST_PX:
                raise ValueError(f"expected {name} of at most {_LARGEST_PX}")
        return arguments

    @classmethod
    def of(cls, backbone: Backbone, fit: Fit) -> Preprocessing:
        """Return how posters of that ``fit`` become the input of ``backbone``."""
        return cls.model_validate(backbone.preprocessing(fit))

    @property
    def framing(self) -> Framing:
        """How a poster becomes a square."""
        return Framing(self.image_size, self.fit, self.interpolation, self.crop_share)
