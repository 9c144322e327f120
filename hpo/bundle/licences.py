"""Whose weights a bundle holds, and under which licences."""

from __future__ import annotations

from hpo.bundle.description import Description


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
        known = _timms_licence(name)
        return (known, f"{known} by timm's word") if known else ("other", "see timm's page of this model on the hub")
    return "other", "whatever came with that file"


def _timms_licence(name: str) -> str | None:
    import timm  # late: takes a second, and few cards need it

    config = timm.get_pretrained_cfg(name, allow_unregistered=True)
    return None if config is None else config.license
