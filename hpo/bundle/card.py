"""The model card: what a bundle's reader must know before using it, in Markdown that the Hugging Face hub renders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpo.bundle.description import Description
from hpo.decision.metrics import METRICS
from hpo.model.hyperparameters import FUSE

# From the most flattering to the most honest.
_PARTS = {
    "val": "validation posters (thresholds and trial were chosen on these: flattering)",
    "out_of_fold": "training and validation posters, out of fold (thresholds were chosen on these: flattering)",
    "cross_fitted": "the posters that the search judged on, each by thresholds chosen without it (the claim)",
    "cross_validation": "training posters, out of fold, at this model's thresholds (the claim)",
    "test": "test posters (never looked at before)",
}


_FITTED = {
    "squash": "is squashed to",
    "crop": "is cut to its central square and scaled to",
    "pad": "is scaled and padded with grey to",
    "native": "is scaled until its central square, less a margin, is",
}


def model_card(described: Description) -> str:
    """Return the text of a bundle's ``README.md``."""
    return "\n\n".join(
        section
        for section in (
            _front_matter(),
            f"# Poster genres: {_title(described)}",
            _summary(described),
            _synthetic_warning(described),
            "## How good it is\n\n" + _results(described),
            "## By label\n\n" + _label_table(described),
            "## How it was made\n\n" + _making(described),
            _usage(described),
        )
        if section
    )


def _front_matter() -> str:
    tags = "tags: [image-classification, multi-label, timm]"
    return f"---\n{tags}\nlibrary_name: timm\npipeline_tag: image-classification\n---"


def _title(described: Description) -> str:
    if described.members:
        return f"an ensemble of {len(described.members)} on {FUSE.join(dict.fromkeys(described.backbones))}"
    return described.backbone


def _summary(described: Description) -> str:
    at_least = f" Every poster is given at least {described.min_labels}." if described.min_labels else ""
    return (
        f"Predicts which of {len(described.label_names)} labels a poster carries: {', '.join(described.label_names)}. "
        f"Thresholds: one per label, strategy `{described.threshold_strategy}`; a label is predicted when its "
        f"probability is at least its threshold.{at_least}"
    )


def _synthetic_warning(described: Description) -> str:
    if not described.metrics["synthetic"]:
        return ""
    return "**Trained on the built-in sample of synthetic, drawn posters: a demonstration, of no use on real ones.**"


def _results(described: Description) -> str:
    rows = []
    for part, meaning in _PARTS.items():
        if part in described.metrics:
            rows.append(_result_row(meaning, described.metrics[part]))
            rows += [
                {"posters": f"constant: {name}, {part}", **_rounded(values)}
                for name, values in described.metrics["baselines"].get(part, {}).items()
            ]
    return markdown_table(rows) + "\n\n95 % intervals by bootstrap over titles, in brackets."


def _result_row(name: str, scores: Mapping[str, Any]) -> dict[str, Any]:
    cells = {m: f"{scores[m]:.3f} [{scores['ci95'][m][0]:.3f}, {scores['ci95'][m][1]:.3f}]" for m in METRICS}
    return {"posters": f"{name}, n = {scores['n_posters']}", **cells}


def _label_table(described: Description) -> str:
    part = next(part for part in reversed(_PARTS) if part in described.metrics)
    rows = [
        {"label": name, **{key: _short(value) for key, value in row.items()}}
        for name, row in described.metrics[part]["per_label"].items()
    ]
    return markdown_table(rows) + f"\n\nOn the {part} posters."


def _making(described: Description) -> str:
    if described.members:
        return _averaging(described)
    settings = [{"hyperparameter": key, "value": _short(value)} for key, value in described.params]
    return (
        f"{_backbones(described)} under a head that was found by a search for the best "
        f"{described.metrics['metric']}.{_framings(described)}\n\n{markdown_table(settings)}"
    )


def _averaging(described: Description) -> str:
    names = described.backbones
    trials = described.metrics.get("trials", [""] * len(described.members))
    if len(trials) != len(described.members):  # each trial is itself the mean of its folds
        trials = [""] * len(described.members)
    rows = [
        {
            "trial": trial,
            "weight": f"{member.weight:.3f}",
            "backbone": " + ".join(names[at] for at in member.inputs),
            "head": f"{member.params.hidden_layers} × {member.params.width}"
            if member.params.hidden_layers
            else "linear",
            "looks at": "poster and mirror image" if member.averages_flips else "poster",
        }
        for member, trial in zip(described.members, trials, strict=True)
    ]
    return (
        f"The weighted mean of {len(rows)} classifiers' probabilities, over {_origins(described)}, found by a search "
        f"for the best {described.metrics['metric']}.{_framings(described)}\n\n{markdown_table(rows)}"
    )


def _origins(described: Description) -> str:
    origins = dict.fromkeys(zip(described.backbones, described.backbone_weights, strict=True))
    return " and a ".join(f"`{name}` ({origin})" for name, origin in origins)


def _backbones(described: Description) -> str:
    named = _origins(described)
    if described.metrics.get("phase", "frozen") == "frozen":  # bundles of format 1 do not say
        return f"A frozen {named}"
    return f"A {named}, fine-tuned ({described.params.unfreeze.replace('_', ' ')}),"


def _framings(described: Description) -> str:
    framings = dict.fromkeys(preprocessing.framing for preprocessing in described.preprocessing)
    return "".join(
        f" A poster {_FITTED[framing.fit]} {framing.size_px} × {framing.size_px} px." for framing in framings
    )


def _usage(described: Description) -> str:
    return (
        "## Use\n\n```\nhpo predict THIS_FOLDER poster.jpg\n"
        "hpo evaluate THIS_FOLDER --data CSV --images DIR\n```\n\n"
        "## Limits\n\nA genre is a matter of opinion: catalogues disagree about the same title, and a poster shows "
        "only part of it. Use the predictions as suggestions to a person, and only for posters like those that it "
        "was trained on."
    )


def markdown_table(rows: list[dict[str, Any]]) -> str:
    """Return ``rows`` as a Markdown table with the keys of the first as header."""
    header = list(rows[0])
    lines = [header, ["---"] * len(header), *[[str(row[key]) for key in header] for row in rows]]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def baseline_table(baselines: Mapping[str, Mapping[str, float]]) -> str:
    """Return the constant baselines (name → headline metrics) as a Markdown table."""
    return markdown_table([{"prediction": name, **_rounded(values)} for name, values in baselines.items()])


def _rounded(values: Mapping[str, float]) -> dict[str, str]:
    return {metric: f"{values[metric]:.3f}" for metric in METRICS}


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
