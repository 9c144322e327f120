"""The stages of a search: which part of a space each one searches, and what its first trial is expected to gain."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hpo.errors import did_you_mean
from hpo.model.config import TrialConfig
from hpo.space.document import Document, Mistake
from hpo.space.parameters import Parameter
from hpo.space.schema import Scalar, value_mistake


class Stage(BaseModel):
    """One stage. The part of the space that it searches is what ``hold`` leaves open.

    ``hold`` gives a parameter one value, or a list to choose from. With ``vary`` the stage first proposes the best
    trials of the stages before it, each once with every entry of ``vary`` in place of its own values.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    gain: Annotated[float, Field(gt=0, le=1)]  # of the study's metric, expected of its next trial while none has run
    hold: dict[str, Scalar | list[Scalar]] = {}
    vary: list[dict[str, Scalar]] = []
    leaders: Annotated[int, Field(ge=1, le=10)] = 1  # trials that ``vary`` is applied to

    def contains(self, configuration: Mapping[str, Scalar]) -> bool:
        """Say whether a trial of this configuration belongs to the stage, which its held parameters decide."""
        return all(configuration.get(name) in allowed for name, allowed in self.allowed().items())

    def allowed(self) -> dict[str, list[Scalar]]:
        """Return the values that each held parameter may have."""
        return {name: value if isinstance(value, list) else [value] for name, value in self.hold.items()}

    def without_backbones(self, lost: Collection[Scalar]) -> Stage | None:
        """Return the stage without the backbones ``lost``, or None where it holds no other."""
        hold = dict(self.hold)
        backbones = hold.get("backbone")
        if isinstance(backbones, list):
            hold["backbone"] = [backbone for backbone in backbones if backbone not in lost]
            if not hold["backbone"]:
                return None
        vary = [entry for entry in self.vary if entry.get("backbone") not in lost]
        return self.model_copy(update={"hold": hold, "vary": vary})


def read_stages(document: Document) -> tuple[dict[str, Stage], list[Mistake]]:
    """Return the stages of a document, in their order, and what is wrong with those that are left out."""
    stages: dict[str, Stage] = {}
    mistakes: list[Mistake] = []
    for name, written in document.sections["stages"].items():
        try:
            stages[name] = Stage.model_validate(written)
        except ValidationError as error:
            for problem in error.errors(include_url=False, include_context=False):
                where = ".".join(str(part) for part in problem["loc"])
                text = f"{where + ': ' if where else ''}{problem['msg'][0].lower()}{problem['msg'][1:]}"
                mistakes.append(document.mistake(text, "stages", name))
    return stages, mistakes


def stage_mistakes(
    stages: Mapping[str, Stage], searched: Mapping[str, Parameter], document: Document
) -> Iterator[Mistake]:
    """Yield held and varied values that the space does not have."""
    for name, stage in stages.items():
        held = [(parameter, value) for parameter, values in stage.allowed().items() for value in values]
        varied = [(parameter, value) for entry in stage.vary for parameter, value in entry.items()]
        for parameter, value in (*held, *varied):
            text = _value_mistake(parameter, value, searched)
            if text is not None:
                yield document.mistake(text, "stages", name, parameter)


def _value_mistake(parameter: str, value: Any, searched: Mapping[str, Parameter]) -> str | None:
    if parameter not in TrialConfig.model_fields or parameter not in searched:
        return f"expected a searched parameter of this space{did_you_mean(parameter, searched)}"
    wrong = value_mistake(parameter, value)
    if wrong is None and not searched[parameter].holds(value):
        return f"expected {searched[parameter].in_words()}, got {value!r}"
    return wrong
