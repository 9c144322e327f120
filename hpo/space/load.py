"""Load a search space: YAML → validated `SearchSpace`.

A parameter is searched, in Optuna's words, or fixed by a plain value; ``recipes`` are tried before the sampler has its
say; ``stages`` order the search; ``weights`` say where a backbone's weights lie; ``include`` builds on another file. A
file is checked as a whole: every mistake in it, and in what it includes, is reported at once, before anything is
trained.
"""

from __future__ import annotations

from pathlib import Path

from hpo.errors import SpaceError
from hpo.space.document import SHIPPED_SPACES, Document, Mistake, find_space, read_document
from hpo.space.schema import Scalar
from hpo.space.space import SearchSpace
from hpo.space.stages import read_stages, stage_mistakes
from hpo.space.validation import (
    CheckBackbone,
    attention_mistakes,
    backbone_mistakes,
    condition_mistakes,
    idle_mistakes,
    read_parameters,
    recipe_mistakes,
    weights_mistakes,
)

_MOST_SHOWN = 50  # mistakes

__all__ = ["SHIPPED_SPACES", "Scalar", "SearchSpace", "load_space"]


def load_space(path: Path, check_backbone: CheckBackbone = lambda _: None) -> SearchSpace:
    """Read and check a space file, or one of the spaces that ship by its name (``default``).

    ``check_backbone`` raises BackboneError for a name that is no backbone; it is asked for each single name, and what
    it says becomes a mistake like any other (``hpo.model.backbones.architectures.check_known`` is the one that asks
    timm).

    Raises SpaceError that lists every mistake: file, key, what was expected and what was got.
    """
    document = read_document(find_space(path, Path()))
    space = _build(document)
    mistakes = [
        *document.mistakes,
        *stage_mistakes(space.stages, space.searched, document),
        *condition_mistakes(space, document),
        *recipe_mistakes(space, document),
        *backbone_mistakes(space, document, check_backbone),
        *weights_mistakes(space, document),
    ]
    if not mistakes:  # these look at whole configurations, which a broken space does not have
        mistakes = [*idle_mistakes(space, document), *attention_mistakes(space, document)]
    if mistakes:
        raise _refusal(document.path, mistakes)
    return space


def _build(document: Document) -> SearchSpace:
    searched, fixed = read_parameters(document)
    space = SearchSpace(document.path.stem, searched, fixed, document.sections["recipes"], {})
    weights = document.sections["weights"]
    needed = space.backbones if "backbone" in {**searched, **fixed} else ()
    kept = {key: value for key, value in weights.items() if key in needed or not document.inherits("weights", key)}
    stages, mistakes = read_stages(document)
    document.mistakes += mistakes
    return SearchSpace(space.name, searched, fixed, space.recipes, kept, stages)


def _refusal(path: Path, mistakes: list[Mistake]) -> SpaceError:
    count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
    lines = [f"  {mistake.located(path)}" for mistake in dict.fromkeys(mistakes[:_MOST_SHOWN])]
    more = [f"  and {len(mistakes) - _MOST_SHOWN} more"] if len(mistakes) > _MOST_SHOWN else []
    missing = any(mistake.text.startswith("missing (") for mistake in mistakes)
    fix = " (include: default takes over whatever this file does not name)" if missing else ""
    return SpaceError(f"The search space {path} has {count}; correct and try again{fix}:", *lines, *more)
