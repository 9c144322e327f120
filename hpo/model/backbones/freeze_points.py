"""Freeze points: a backbone cut into a frozen stem, run once, and a trained tail.

    posters → [ stem: frozen, its activations cached ] → freeze point → [ tail: trained ] → features, deepest map

timm has hundreds of architectures and no common way to enter one in the middle. So the tail is the network itself, in
which every module before the freeze point is *skipped*: it answers with zeros of its usual shape, which cost nothing,
and the module at the freeze point answers with the cached activations. What the skipped modules pass to the
rest is wrong unless the freeze point is the only way through, so every cut is tried on noise against the whole
network before it is used, and moved towards the input until it agrees.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
from timm.layers import DropPath
from torch import Tensor, nn

from hpo.errors import BackboneError
from hpo.model.backbones.backbone import Backbone
from hpo.model.config import Unfreeze

UNFROZEN_STAGES: dict[Unfreeze, int] = {"last_stage": 1, "last_two_stages": 2, "last_three_stages": 3}
_LARGEST_DIFFERENCE = 1e-4  # between stem and tail and the whole network, relative to the largest feature
_DROP_PATHS = ("drop_path", "drop_path1", "drop_path2")  # what timm's blocks call theirs

NamedParameters = list[tuple[str, nn.Parameter]]


@dataclass(frozen=True)
class FreezePoint:
    """Where a backbone is cut: behind ``module``."""

    module: str
    skipped: dict[str, tuple[int, ...]]  # every module before it, and the shape (1, ...) of its output
    trained: tuple[tuple[str, ...], ...]  # the modules behind it by stage, from shallow to deep
    activation_shape: tuple[int, ...]  # of one poster


class Stem(nn.Module):
    """The frozen part: posters uint8 (B, H, W, 3) → activations at the freeze point, (B, *activation_shape)."""

    def __init__(self, backbone: Backbone, point: FreezePoint) -> None:
        super().__init__()
        self.backbone, self.point = backbone, point

    def forward(self, images: Tensor) -> Tensor:
        """Run as far as the freeze point; an exporter drops what follows by itself, since nothing depends on it."""
        with _watching(self.backbone.network, [self.point.module]) as outputs, suppress(_Reached):
            self._run(images)
        return outputs[self.point.module]

    def _run(self, images: Tensor) -> None:
        cut = self.backbone.network.get_submodule(self.point.module)
        stop = None if torch.onnx.is_in_onnx_export() else cut.register_forward_hook(_stop)
        try:
            self.backbone(images)
        finally:
            if stop is not None:
                stop.remove()


class _Reached(Exception):
    """The freeze point was reached: the rest of the network need not run."""


def _stop(*_: object) -> None:
    raise _Reached


class Tail(nn.Module):
    """The trained part of a backbone: activations → the features that they decide, and the deepest map.

    ``decides`` (layout.width,) says which columns of the feature vector come from unfrozen stages; the others are
    those of the frozen backbone, which the caller has in the cache.
    """

    decides: Tensor

    def __init__(self, backbone: Backbone, point: FreezePoint | None, *, stochastic_depth: float = 0.0) -> None:
        super().__init__()
        self.backbone, self.point = copy.deepcopy(backbone), point
        self.backbone.frozen = False
        self._cut = _Cut()
        if point is not None:
            self._skip(point)
        self.stages = self._trainable_stages()
        if stochastic_depth:
            self._drop_branches(stochastic_depth)
        self.register_buffer("decides", self._decided_columns(), persistent=False)

    def _skip(self, point: FreezePoint) -> None:
        """Answer for modules instead of replacing them: others may ask a module for more than its output.

        These are objects and not closures, so that a copy of a tail (a moving average) has its own.
        """
        for name, shape in point.skipped.items():
            _answer_for(self.backbone.network, name, _Skipped(shape))
        _answer_for(self.backbone.network, point.module, self._cut)

    def _trainable_stages(self) -> list[NamedParameters]:
        """Let the stages be trained, and return their parameters from the shallowest to the deepest."""
        if self.point is None:
            groups = _stages_of_everything(self.backbone)
        else:
            groups = [[pair for module in stage for pair in self._named(module)] for stage in self.point.trained]
        for _, parameter in (pair for group in groups for pair in group):
            parameter.requires_grad_(True)
        return groups

    def _named(self, module: str) -> NamedParameters:
        return [(f"{module}.{name}", p) for name, p in self.backbone.network.get_submodule(module).named_parameters()]

    def _drop_branches(self, rate: float) -> None:
        """Stochastic depth (Huang et al. 2016): the share of dropped branches grows linearly with depth."""
        blocks = [m for m in self.backbone.network.modules() if any(hasattr(m, name) for name in _DROP_PATHS)]
        for depth, block in enumerate(blocks, start=1):
            for name in _DROP_PATHS:
                if hasattr(block, name):
                    setattr(block, name, DropPath(rate * depth / len(blocks)))

    def _decided_columns(self) -> Tensor:
        """Mark the final vector and every stage that is not skipped."""
        skipped = set() if self.point is None else {*self.point.skipped, self.point.module}
        names = stage_modules(self.backbone)
        frozen = [any(name == other or name.startswith(f"{other}.") for other in skipped) for name in names]
        self._frozen_stages = frozen
        layout = self.backbone.layout
        parts = [torch.full((1, c, 1, 1), float(not f)) for c, f in zip(layout.stages, frozen, strict=True)]
        return self.backbone.pool(torch.ones(1, layout.final), parts)[0] > 0.5

    def freeze_batch_norm(self) -> None:
        """Keep the statistics of ImageNet in every BatchNorm: those of 32 posters are worse."""
        for module in self.backbone.network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()

    def forward(self, activations: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (B, layout.width), true where ``decides``, and the deepest map (B, C, H, W).

        ``activations`` is (B, *activation_shape); without a freeze point the posters themselves, uint8 (B, H, W, 3).
        """
        backbone = self.backbone
        if self.point is None:
            final, stages = backbone.run(backbone.normalise(activations))
        else:
            self._cut.activations = activations
            size = backbone.image_size
            final, stages = backbone.run(activations.new_zeros(()).expand(len(activations), 3, size, size))
            self._cut.activations = None
        # One position is enough of a stage that is not read.
        read = [stage[:, :, :1, :1] if f else stage for stage, f in zip(stages, self._frozen_stages, strict=True)]
        return backbone.pool(final, read), stages[-1]

    def tuned(self, backbone: Backbone) -> Backbone:
        """Return a copy of ``backbone`` with the weights that were trained here."""
        whole = copy.deepcopy(backbone)
        whole.network.load_state_dict(self.backbone.network.state_dict())
        return whole


def _answer_for(network: nn.Module, name: str, answer: Any) -> None:
    network.get_submodule(name).forward = answer


class _Skipped:
    """Answers for a module whose answer is not read: zeros of its shape."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._shape = shape

    def __call__(self, first: Tensor, *_: object, **__: object) -> Tensor:
        """(B, ...) → zeros (B, *shape), one number in memory."""
        return first.new_zeros(()).expand(len(first), *self._shape[1:])


class _Cut:
    """Answers at the freeze point: whatever comes in, the cached activations go out."""

    def __init__(self) -> None:
        self.activations: Tensor | None = None

    def __call__(self, *_: object, **__: object) -> Tensor:
        """Return the activations (B, ...)."""
        if self.activations is None:
            raise RuntimeError("a tail runs on activations only")
        return self.activations


def stage_modules(backbone: Backbone) -> list[str]:
    """Return the module at the end of each stage that the features show, from shallow to deep."""
    information: Any = backbone.network.feature_info
    return [str(stage["module"]) for stage in information][-len(backbone.layout.stages) :]


def find_freeze_point(backbone: Backbone, unfreeze: Unfreeze) -> FreezePoint | None:
    """Return the freeze point in front of the stages that ``unfreeze`` names; None where everything is trained.

    Raises BackboneError when the network has no such stage or no clean cut.
    """
    if unfreeze == "everything":
        return None
    n_stages = UNFROZEN_STAGES[unfreeze]
    boundaries = stage_modules(backbone)
    if n_stages >= len(boundaries):
        raise BackboneError(
            f"Expected a backbone of more than {n_stages} stages to unfreeze {unfreeze}, got {backbone.name} with "
            f"{len(boundaries)}: write unfreeze: everything, or choose another backbone in the search space."
        )
    calls = _calls(backbone)
    for cut in _candidates([name for name, _ in calls], boundaries[-n_stages - 1]):
        point = _freeze_point(calls, cut, boundaries)
        if _is_clean(backbone, point):
            return point
    raise BackboneError(
        f"Expected a backbone that can be cut in front of its {unfreeze.replace('_', ' ')}, got {backbone.name}: "
        "write unfreeze: everything, or choose another backbone in the search space."
    )


def _calls(backbone: Backbone) -> list[tuple[str, tuple[int, ...]]]:
    """Return the outermost modules that the network calls, in order, with the shape of each one's output."""
    network = backbone.network
    noise = _noise(backbone, 1)
    names = [name for name, _ in network.named_modules() if name]
    with torch.inference_mode(), _watching(network, names) as outputs:
        backbone(noise)
    shapes = {name: tuple(out.shape) for name, out in outputs.items() if isinstance(out, Tensor)}
    return [(name, shape) for name, shape in shapes.items() if not _inside(name, outputs)]


def _noise(backbone: Backbone, n_posters: int) -> Tensor:
    """Posters of noise, the same at every call, and without a draw from the generator that training uses."""
    shape = (n_posters, backbone.image_size, backbone.image_size, 3)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def _inside(name: str, others: dict[str, Tensor]) -> bool:
    parents = name.split(".")[:-1]
    return any(".".join(parents[: n + 1]) in others for n in range(len(parents)))


@contextmanager
def _watching(network: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Collect the output of each named module, in the order in which they finish."""
    outputs: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        return lambda _module, _inputs, output: outputs.__setitem__(name, output)

    hooks = [network.get_submodule(name).register_forward_hook(keep(name)) for name in names]
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()


def _candidates(names: list[str], boundary: str) -> list[str]:
    """The cuts to try: the stage's own end, then module by module towards the input."""
    reached = next((n for n, name in enumerate(names) if boundary == name or boundary.startswith(f"{name}.")), -1)
    return names[reached::-1] if reached >= 0 else []


def _freeze_point(calls: list[tuple[str, tuple[int, ...]]], cut: str, boundaries: list[str]) -> FreezePoint:
    names = [name for name, _ in calls]
    at = names.index(cut)
    return FreezePoint(cut, dict(calls[:at]), _by_stage(names[at + 1 :], boundaries), calls[at][1][1:])


def _by_stage(names: list[str], boundaries: list[str]) -> tuple[tuple[str, ...], ...]:
    """Group modules by the stage that they end in; what follows the last stage belongs to it."""
    stages: list[list[str]] = [[]]
    for name in names:
        stages[-1].append(name)
        if any(boundary == name or boundary.startswith(f"{name}.") for boundary in boundaries):
            stages.append([])
    *whole, rest = stages
    if whole:
        whole[-1] += rest
    return tuple(tuple(stage) for stage in (whole or [rest]))


def _is_clean(backbone: Backbone, point: FreezePoint) -> bool:
    """Try the cut on noise: does stem and tail say what the whole network says?"""
    noise = _noise(backbone, 2)
    try:
        tail = Tail(backbone, point)
        with torch.inference_mode():
            expected = backbone(noise)[:, tail.decides]
            got = tail(Stem(backbone, point)(noise))[0][:, tail.decides]
    except (RuntimeError, TypeError, AttributeError, ValueError, IndexError):  # a skipped module was asked for more
        return False
    return bool((got - expected).abs().max() <= _LARGEST_DIFFERENCE * expected.abs().max())


def _stages_of_everything(backbone: Backbone) -> list[NamedParameters]:
    """All parameters by stage: each belongs to the first stage that ends behind its module."""
    calls = [name for name, _ in _calls(backbone)]
    stages = _by_stage(calls, stage_modules(backbone))
    of_module = {module: n for n, modules in enumerate(stages) for module in modules}
    groups: list[NamedParameters] = [[] for _ in stages]
    for name, parameter in backbone.network.named_parameters():
        module = next((m for m in of_module if name.startswith(f"{m}.")), calls[0])  # position embeddings: the first
        groups[of_module[module]].append((name, parameter))
    return groups
