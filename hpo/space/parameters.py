"""One searched parameter: its distribution and the conditions under which it is active.

The words are Optuna's (``type, low, high, log, step, choices``). ``when`` makes a parameter depend on others, and
``default`` is what a recipe takes that leaves it out. Both are ours: Optuna's spaces are code, where an ``if`` does it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from typing import Annotated, Any, Literal, Protocol, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from hpo.space.schema import Scalar, listed, spelled

_MOST_STEPS = 100_000  # of a range: those that conditions look at are listed
_TOLERANCE = 1e-9  # of a float's distance to the nearest step, in steps


class SuggestsValues(Protocol):
    """The part of an Optuna trial that a space needs."""

    def suggest_categorical(self, name: str, choices: list[Scalar]) -> Any: ...  # noqa: D102
    def suggest_int(self, name: str, low: int, high: int, *, step: int, log: bool) -> int: ...  # noqa: D102
    def suggest_float(  # noqa: D102
        self, name: str, low: float, high: float, *, step: float | None, log: bool
    ) -> float: ...


class _Searched(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    when: dict[str, Annotated[list[Scalar], Field(min_length=1)]] = {}
    default: Scalar = None

    @property
    def has_default(self) -> bool:
        """Return whether a default is written (null may be one)."""
        return "default" in self.model_fields_set

    def applies(self, chosen: Mapping[str, Scalar], undecided: Collection[str] = ()) -> bool:
        """Return whether this parameter has an effect, or may have one once the ``undecided`` are chosen."""
        return all(
            other in undecided or (other in chosen and chosen[other] in values) for other, values in self.when.items()
        )


class Categorical(_Searched):
    """One of a list of values."""

    type: Literal["categorical"]
    choices: list[Scalar] = Field(min_length=1)

    def suggest(self, trial: SuggestsValues, name: str) -> Scalar:
        """Let ``trial`` choose."""
        choice: Scalar = trial.suggest_categorical(name, self.choices)
        return choice

    def holds(self, value: Scalar) -> bool:
        """Return whether ``value`` is one of the choices."""
        return value in self.choices

    def extremes(self) -> list[Scalar]:
        """Return the values to check against what a hyperparameter allows."""
        return self.choices

    def values(self) -> list[Scalar]:
        """Return the choices."""
        return self.choices

    def in_words(self) -> str:
        """Return ``64, 128 or 256``."""
        return listed(self.choices)

    def mistakes(self) -> Iterator[str]:
        """Yield what is wrong in itself."""
        twice = [value for at, value in enumerate(self.choices) if value in self.choices[:at]]
        if twice:
            yield f"choices: {listed(twice, 'and')} stands there twice"


class _Range(_Searched):
    low: float = Field(allow_inf_nan=False)
    high: float = Field(allow_inf_nan=False)
    log: bool = False
    step: float | None = None

    def holds(self, value: Scalar) -> bool:
        """Return whether ``value`` lies between low and high, on a step where there are steps."""
        if value is None or isinstance(value, str) or not self.low <= value <= self.high:
            return False
        return self.step is None or _is_whole((value - self.low) / self.step)

    def extremes(self) -> list[Scalar]:
        """Return the values to check against what a hyperparameter allows."""
        return [self.low, self.high]

    @property
    def has_too_many_values(self) -> bool:
        """Return whether there are so many steps that they cannot be listed."""
        return self.step is not None and self.high - self.low > _MOST_STEPS * self.step

    def in_words(self) -> str:
        """Return ``0.0001 to 1, log``."""
        steps = "" if self.step in (None, 1) else f", step {spelled(self.step)}"
        return f"{spelled(self.low)} to {spelled(self.high)}{steps}{', log' if self.log else ''}"

    def mistakes(self) -> Iterator[str]:
        """Yield what is wrong in itself."""
        if self.has_too_many_values:
            yield f"expected at most {_MOST_STEPS:,} steps from {self.low} to {self.high}, got step {self.step}"
            return
        if self.low > self.high:
            yield f"low must not exceed high, got low {self.low} and high {self.high}"
        if self.log and self.low <= 0:
            yield f"low must be > 0 when log is true, got {self.low}"
        if self.log and self.step not in (None, 1):
            yield f"step cannot be combined with log, got step {self.step}"
        elif self.step is not None and self.low <= self.high and not self.holds(self.high):
            yield f"steps of {self.step} from low {self.low} never reach high {self.high}"


class Integer(_Range):
    """A whole number between low and high, both included."""

    type: Literal["int"]
    low: int
    high: int
    step: int = Field(1, ge=1)

    def suggest(self, trial: SuggestsValues, name: str) -> Scalar:
        """Let ``trial`` choose."""
        return trial.suggest_int(name, self.low, self.high, step=self.step, log=self.log)

    def values(self) -> list[Scalar]:
        """Return every value, in order."""
        return list(range(self.low, self.high + 1, self.step))


class Float(_Range):
    """A number between low and high, both included."""

    type: Literal["float"]
    step: float | None = Field(None, gt=0, allow_inf_nan=False)

    def suggest(self, trial: SuggestsValues, name: str) -> Scalar:
        """Let ``trial`` choose."""
        return trial.suggest_float(name, self.low, self.high, step=self.step, log=self.log)

    def values(self) -> list[Scalar] | None:
        """Return every value in order where there are steps, None where the parameter is continuous."""
        if self.step is None:
            return None
        return [self.low + at * self.step for at in range(round((self.high - self.low) / self.step) + 1)]


def _is_whole(number: float) -> bool:
    return math.isclose(number, round(number), abs_tol=_TOLERANCE)


Parameter: TypeAlias = Categorical | Integer | Float
TYPES: dict[str, type[Parameter]] = {"categorical": Categorical, "int": Integer, "float": Float}
PARAMETER: TypeAdapter[Parameter] = TypeAdapter(Annotated[Parameter, Field(discriminator="type")])
