"""The head: backbone features, and the deepest map where attention is used → logits.

Features are standardised first (mean and deviation of the training posters, stored with the weights), so that one
range of learning rates and weight decays fits every backbone, depth and pooling. Then both kinds of head are inputs →
hidden blocks → output: a dense head has one vector for each poster, a label-query head one for each of its labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import psutil
import torch
from torch import Tensor, nn

from hpo.errors import SpaceError
from hpo.model.config import TrialConfig
from hpo.model.heads.layers import Dropout, hidden_blocks, hidden_widths
from hpo.model.heads.pooling import LabelQueries, LabelWise, PooledInputs

# Whether a head can be trained in this machine's memory, asked before anything of it is allocated.
#
# The head is built without memory (torch's meta device) and its parameters are counted, so the figure is exact for
# every kind of head and never has to be kept in step with the code. Activations are not part of it: they shrink with
# the batch, weights do not. It is the host's memory that is asked, where every head is built first.

_COPIES = 4  # of each parameter in training: itself, its gradient and AdamW's two moments


def check_fits_memory(build: Callable[[], Iterable[nn.Module]], config: TrialConfig) -> None:
    """Raise SpaceError if training the modules that ``build`` returns needs more memory than is available."""
    needed, available = training_bytes(build), psutil.virtual_memory().available
    if needed > available:
        raise SpaceError(
            f"Expected a head that can be trained in the {_gigabytes(available)} of memory available, got one that "
            f"needs {_gigabytes(needed)} (width {config.width}, hidden_layers {config.hidden_layers}): lower width or "
            "hidden_layers in the search space."
        )


def training_bytes(build: Callable[[], Iterable[nn.Module]]) -> int:
    """Return the bytes that the parameters of ``build``'s modules take while AdamW trains them."""
    with torch.device("meta"):
        parameters = [parameter for module in build() for parameter in module.parameters()]
    return _COPIES * sum(parameter.numel() * parameter.element_size() for parameter in parameters)


def _gigabytes(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.1f} GB"


_SMALLEST_DEVIATION = 1e-3  # a feature that hardly moves is not blown up into noise


def needs_map(config: TrialConfig) -> bool:
    """Return whether the head looks at feature maps, not at pooled features alone."""
    return config.pooling == "attention" or config.head == "label_query"


class Standardise(nn.Module):
    """Shift and scale each feature by the statistics of the training posters."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("deviation", torch.ones(n_features))

    def fit(self, features: Tensor) -> None:
        """Take the statistics of ``features`` (N, D)."""
        self.mean.copy_(features.mean(0))
        self.deviation.copy_(features.std(0, correction=0).clamp_min(_SMALLEST_DEVIATION))

    def forward(self, features: Tensor) -> Tensor:
        """(B, D) → (B, D)."""
        return (features - self.mean) / self.deviation


class Head(nn.Module):
    """Standardise → inputs → ``hidden_layers`` blocks → output layer.

    ``map_channels`` are those of the deepest feature map of each backbone, several when backbones are fused; a head
    that needs no map (``needs_map``) ignores them, and the maps too. Raises SpaceError, before anything is allocated,
    for a head that ``config`` makes impossible or too large for memory.
    """

    def __init__(self, n_features: int, n_labels: int, config: TrialConfig, map_channels: Sequence[int] = ()) -> None:
        super().__init__()
        check_head(n_features, n_labels, config, map_channels)
        self.standardise = Standardise(n_features)
        self.inputs, self.hidden, self.output = _layers(n_features, n_labels, config, map_channels)

    def fit_statistics(self, features: Tensor, targets: Tensor) -> None:
        """Standardise by the training ``features`` (N, D), and start the output at the labels' frequencies.

        Starting there (Lin et al. 2017, section 4.1) spares the first epochs from unlearning 0.5 for rare labels.
        """
        self.standardise.fit(features)
        self._set_bias(targets)

    def start_at_frequencies(self, targets: Tensor) -> None:
        """Let the output say the labels' frequencies in ``targets`` (N, L) and nothing else, whatever the features."""
        with torch.no_grad():
            self.output.weight.zero_()
        self._set_bias(targets)

    def _set_bias(self, targets: Tensor) -> None:
        with torch.no_grad():
            frequencies = (targets.sum(0) + 0.5) / (len(targets) + 1)
            self.output.bias.copy_(torch.logit(frequencies))

    def forward(self, features: Tensor, maps: Sequence[Tensor] = ()) -> Tensor:
        """(B, D) features and, where the head needs them, maps (B, C, H, W) of each backbone → (B, L) logits."""
        return self.classify(self.standardise(features), maps)

    def classify(self, standardised: Tensor, maps: Sequence[Tensor] = ()) -> Tensor:
        """Like ``forward`` of standardised features: training standardises once, not once an epoch."""
        logits: Tensor = self.output(self.hidden(self.inputs(standardised, maps)))
        return logits


def check_head(n_features: int, n_labels: int, config: TrialConfig, map_channels: Sequence[int] = ()) -> None:
    """Raise SpaceError unless the head that ``config`` describes can be built and trained here."""
    if config.head == "label_query" and config.width % config.attention_heads:
        raise SpaceError(
            f"Expected attention_heads to divide width in a label_query head, got attention_heads "
            f"{config.attention_heads} and width {config.width}: change one of them in the search space."
        )
    check_fits_memory(lambda: _layers(n_features, n_labels, config, map_channels), config)


def _layers(
    n_features: int, n_labels: int, config: TrialConfig, map_channels: Sequence[int]
) -> tuple[nn.Module, nn.Sequential, nn.Linear]:
    """Return inputs, hidden blocks and output."""
    if needs_map(config) and not map_channels:
        raise ValueError(f"a head with head={config.head}, pooling={config.pooling} needs map_channels")
    if config.head == "label_query":
        queries = LabelQueries(n_features, n_labels, map_channels, config)
        hidden = nn.Sequential(*hidden_blocks(config.width, config))
        return queries, hidden, LabelWise(_last_width(config.width, config), n_labels)
    inputs = PooledInputs(n_features, map_channels if needs_map(config) else ())
    hidden = nn.Sequential(Dropout(config.input_dropout), *hidden_blocks(inputs.n_outputs, config))
    return inputs, hidden, nn.Linear(_last_width(inputs.n_outputs, config), n_labels)


def _last_width(n_inputs: int, config: TrialConfig) -> int:
    return [n_inputs, *hidden_widths(config)][-1]
