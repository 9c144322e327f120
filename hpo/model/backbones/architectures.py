"""Build the timm network of a backbone name, without weights.

A name is one of timm's own (``resnet50``, ``resnet50.a1_in1k``) or a repository on the hub (``hf-hub:owner/name``),
whose configuration says which of timm's networks it is. What can be asked of a name before anything is downloaded or
trained is asked on torch's meta device, where a network of any size takes a fraction of a second and no memory.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import timm
import torch
from torch import Tensor, nn
from torch.func import functional_call

from hpo.errors import BackboneError, did_you_mean
from hpo.model.backbones.hub import HUB_PREFIX, load_hub_config
from hpo.model.config import FUSE

# Where each part of a pooled feature vector lies, and how a stage's map becomes its part.
#
# The vector holds the backbone's own final vector, then for each of its deepest stages every statistic over the
# positions of that stage's map. One pass gives all of it, so all of it is cached and a trial only chooses columns.
#
# The generalised mean (GeM) lies between the average (p = 1) and the maximum (p → ∞): Radenović, Tolias & Chum 2018,
# "Fine-tuning CNN Image Retrieval with No Human Annotation", equation 3, with the p = 3 that they start from.

STATISTICS = ("avg", "max", "gem")
DEEPEST_STAGES = 4
_STAGES_OF = {"final": 0, "last_stage": 1, "last_two_stages": 2, "all_stages": DEEPEST_STAGES}
_STATISTICS_OF = {"attention": ("avg",), "avg+max": ("avg", "max")}  # the head adds the attention itself
_GEM_SMALLEST = 1e-6  # negative activations count as this: a cube root has no slope at zero


@dataclass(frozen=True)
class FeatureLayout:
    """The parts of a feature vector: final | stage × statistic, from the shallowest stage kept."""

    final: int
    stages: tuple[int, ...]  # channels of each stage kept

    @property
    def width(self) -> int:
        """Length of the whole vector."""
        return self.final + len(STATISTICS) * sum(self.stages)

    @property
    def map_channels(self) -> int:
        """Channels of the deepest stage's map."""
        return self.stages[-1]

    def columns(self, features: str, pooling: str) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Return the columns that ``features`` and ``pooling`` choose (see TrialConfig)."""
        wanted = [] if features not in ("final", "stages_and_final") else [np.arange(self.final)]
        statistics = _STATISTICS_OF.get(pooling, (pooling,))
        first_stage = len(self.stages) - _STAGES_OF.get(features, DEEPEST_STAGES)
        start = self.final
        for stage, channels in enumerate(self.stages):
            for statistic in STATISTICS:
                if stage >= first_stage and statistic in statistics:
                    wanted.append(np.arange(start, start + channels))
                start += channels
        return np.concatenate(wanted)


def pool(final: Tensor, stages: Sequence[Tensor]) -> Tensor:
    """``final`` (B, F) and the stages' maps (B, C, H, W) → the feature vector, float32 (B, layout.width)."""
    return torch.cat([final.float(), *(statistic for stage in stages for statistic in _statistics(stage))], dim=1)


def _statistics(stage: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    stage = stage.float()  # a cube leaves half precision's range
    return stage.mean((2, 3)), stage.amax((2, 3)), _generalised_mean(stage)  # (B, C) each, as in STATISTICS


def _generalised_mean(stage: Tensor) -> Tensor:
    positive = stage.clamp_min(_GEM_SMALLEST)
    return (positive * positive * positive).mean((2, 3)) ** (1 / 3)


_ON_HUB = re.compile(re.escape(HUB_PREFIX) + r"[\w.-]+/[\w.-]+(@[\w.-]+)?")
_NOT_OF_A_NETWORK = (  # what timm.create_model takes for itself: files to read, and where else to look
    {*inspect.signature(timm.create_model).parameters, *inspect.signature(timm.models.build_model_with_cfg).parameters}
)  # fmt: skip
_LARGEST_ARGUMENT = 20_000  # units, heads, layers
_RECORDED = ("mean", "std")  # what a bundle knows better than the timm that reads it


@dataclass(frozen=True)
class Architecture:
    """A network that timm can build."""

    name: str  # as a search space has it
    registered: str  # as timm has it
    config: Mapping[str, Any]  # timm's pretrained_cfg: mean, std, input size, where the weights are
    arguments: Mapping[str, Any] = field(default_factory=dict)  # what it is built with, where the hub says so

    @property
    def image_size(self) -> int:
        """The side, in px, of the squares that its weights were trained on."""
        return int(self.config["input_size"][-1])

    def build(self, image_size: int, n_classes: int = 0, pretrained: bool = False) -> nn.Module:
        """Build the network for posters of ``image_size`` px. Raises BackboneError where they do not suit it."""
        arguments = {**self.arguments, "num_classes": n_classes}  # which timm also records with its uploads
        if self.config.get("fixed_input_size"):
            arguments["img_size"] = image_size
        if pretrained:  # what fails after this is about the weights, which the caller knows more of
            with suppress(NotImplementedError):
                self.skeleton(image_size)
        with nullcontext() if pretrained else self._taking(image_size):
            network: nn.Module = timm.create_model(
                self.registered, pretrained, pretrained_cfg=dict(self.config), **arguments
            )
        if not hasattr(network, "forward_intermediates"):
            raise BackboneError(
                f"Expected a backbone that offers its stages (timm's forward_intermediates), got {self.name!r}: "
                "choose another one in the search space."
            )
        return network

    def skeleton(self, image_size: int, n_classes: int = 0) -> nn.Module:
        """Build the network on the meta device: names and shapes alone."""
        with torch.device("meta"):
            return self.build(image_size, n_classes)

    def check(self) -> None:
        """Raise BackboneError unless timm can build the network as its configuration says."""
        with suppress(NotImplementedError):  # a few networks look at values while they are built
            self.skeleton(self.image_size)

    def check_image_size(self, image_size: int) -> None:
        """Raise BackboneError unless the network can take posters of ``image_size`` px."""
        skeleton = self.skeleton(image_size).eval()
        with self._taking(image_size), suppress(NotImplementedError), torch.device("meta"):  # not all runs there
            run(skeleton, torch.zeros(1, 3, image_size, image_size))

    def widths(self, network: nn.Module, image_size: int) -> tuple[int, tuple[int, ...]]:
        """Return how many values the final vector has, and how many channels each of the deepest stages.

        Asked on the meta device, where nothing is computed, or of the network itself where it cannot run there. Raises
        BackboneError where posters of ``image_size`` px do not suit it.
        """
        try:
            final, stages = _run_on_meta(network, image_size)
        except Exception:  # networks with tensors that are no buffers, or operations that look at values
            with self._taking(image_size), torch.inference_mode():
                final, stages = run(network, torch.zeros(1, 3, image_size, image_size))
        return final.shape[1], tuple(stage.shape[1] for stage in stages)

    @contextmanager
    def _taking(self, image_size: int) -> Iterator[None]:
        try:
            yield
        except NotImplementedError:
            raise
        except Exception as error:  # networks raise anything for what they were not made for
            if isinstance(error, TypeError) or image_size == self.image_size:  # their own size is never at fault
                raise BackboneError(
                    f"Expected a configuration of {self.name} that timm {timm.__version__} can build, got "
                    f"{self.registered} with {textwrap.shorten(str(dict(self.arguments)), 120)} "
                    f"({textwrap.shorten(str(error), 120)}): choose another backbone in the search space."
                ) from error
            raise BackboneError(
                f"Expected an image_size that {self.name} can take, got {image_size} px "
                f"({textwrap.shorten(str(error), 120)}): write image_size: native, which is {self.image_size} px, or "
                "another size in the search space."
            ) from error


def run(network: nn.Module, pixels: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Normalised pixels (B, 3, H, W) → the final vector (B, F) and the maps (B, C, H', W') of the deepest stages."""
    offering: Any = network  # timm's own methods, which torch's types do not know
    last, stages = offering.forward_intermediates(pixels, output_fmt="NCHW")
    return offering.forward_head(last, pre_logits=True), stages[-DEEPEST_STAGES:]


def _run_on_meta(network: nn.Module, image_size: int) -> tuple[Tensor, list[Tensor]]:
    running = _Running(network)
    tensors = {key: tensor.to("meta") for key, tensor in (*running.named_parameters(), *running.named_buffers())}
    with torch.inference_mode(), torch.device("meta"):
        found: tuple[Tensor, list[Tensor]] = functional_call(
            running, tensors, (torch.zeros(1, 3, image_size, image_size),)
        )
    return found


class _Running(nn.Module):
    """``run`` as a module, which is what can be called with other tensors than its own."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> tuple[Tensor, list[Tensor]]:
        return run(self.network, pixels)


def find_architecture(name: str, recorded: Mapping[str, Any] | None = None) -> Architecture:
    """Return what ``name`` stands for; a repository's configuration is downloaded. Raises BackboneError.

    ``recorded`` is what a bundle says of its backbone (``Backbone.preprocessing``): with it nothing is downloaded, and
    pixels are normalised as they were when the bundle was made.
    """
    check_name(name)
    recorded = recorded or {}
    overlay = {key: tuple(recorded[key]) for key in _RECORDED if key in recorded}
    if not name.startswith(HUB_PREFIX):
        return Architecture(name, name, {**timm.get_pretrained_cfg(name).to_dict(), **overlay})
    if recorded:
        registered, arguments = str(recorded.get("architecture")), recorded.get("arguments", {})
        check_recorded(name, registered, arguments)
        config = timm.get_pretrained_cfg(registered).to_dict()
        return Architecture(name, registered, {**config, **overlay}, arguments)
    config, registered, arguments = load_hub_config(name)
    check_recorded(name, registered, arguments)
    return Architecture(name, registered, config, arguments)


def check_recorded(name: str, registered: str, arguments: Mapping[str, Any]) -> None:
    """Raise BackboneError unless the word of a bundle or repository on a network builds one of timm's and no more.

    timm would read a file that its arguments name, and look elsewhere for an architecture that has a scheme.
    """
    if not timm.is_model(registered):
        raise BackboneError(f"Expected one of timm's own networks for {name}, got {registered!r}.")
    refused = [key for key, value in arguments.items() if key in _NOT_OF_A_NETWORK or not _is_modest(value)]
    if refused:
        raise BackboneError(f"Expected arguments of a network for {name}, got {refused[0]!r}.")


def _is_modest(value: Any) -> bool:
    """Return whether no number in ``value`` asks for a network larger than any in use."""
    if isinstance(value, Mapping):
        return all(map(_is_modest, value.values()))
    if isinstance(value, list | tuple):
        return len(value) <= _LARGEST_ARGUMENT and all(map(_is_modest, value))
    return not isinstance(value, int | float) or abs(value) <= _LARGEST_ARGUMENT


def fused_names(name: str) -> tuple[str, ...]:
    """Split the name of fused backbones, ``a+b``, into theirs. Raises BackboneError for ``a+a``."""
    names = tuple(name.split(FUSE))
    if len(set(names)) < len(names):
        raise BackboneError(
            f"Expected different backbones to fuse, got {name!r}, which names one twice: its features would be the "
            "same; correct it in the search space."
        )
    return names


def check_known(name: str) -> None:
    """Raise BackboneError unless ``name``, or each part of ``a+b``, is a timm model or looks like a repository."""
    for part in fused_names(name):
        check_name(part)


def check_name(name: str) -> None:
    """Raise BackboneError unless ``name`` is one timm model, or looks like a repository on the hub."""
    if _ON_HUB.fullmatch(name):
        return
    with suppress(RuntimeError):  # an unknown tag behind a known name
        if FUSE not in name and ":" not in name and timm.get_pretrained_cfg(name) is not None:
            return
    known = timm.list_pretrained() if "." in name else timm.list_models()
    raise BackboneError(
        f"Expected the name of a timm model as backbone, got {name!r}{did_you_mean(name, known)}: correct it in the "
        f"search space (timm.list_models() names them all; {HUB_PREFIX}owner/name is one of the hub)."
    )


def licence_of_weights(name: str) -> str | None:
    """Return timm's identifier of the licence of pretrained weights, such as ``apache-2.0``; None where it has none."""
    config = timm.get_pretrained_cfg(name, allow_unregistered=True)
    return None if config is None else config.license


def default_image_size(name: str) -> int:
    """Return the input size, in px, that timm or the hub records for ``name``."""
    return find_architecture(name).image_size


def check_image_size(name: str, image_size: int) -> None:
    """Raise BackboneError unless the backbone ``name`` can take posters of ``image_size`` px; builds no weights."""
    find_architecture(name).check_image_size(image_size)
