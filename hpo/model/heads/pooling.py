"""Attention pooling and label queries over a backbone's deepest feature map.

A label may show in one corner of a poster, which the plain average dilutes and the maximum takes channel by channel.
Here each position is scored by one learned query and the scores become weights (Ilse, Tomczak & Welling 2018,
"Attention-based Deep Multiple Instance Learning", equations 7 and 8, with a linear score). The price: the map itself
has to be cached or computed, H * W times the numbers of its average, and a head trains about four times slower.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hpo.model.config import TrialConfig
from hpo.model.heads.layers import Dropout


class MapTokens(nn.Module):
    """A feature map (B, C, H, W), of any precision, → its positions (B, H * W, C), each normalised over channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, feature_map: Tensor) -> Tensor:
        """(B, C, H, W) → (B, H * W, C)."""
        positions = feature_map.flatten(2).transpose(1, 2)
        tokens: Tensor = self.norm(positions.to(self.norm.weight.dtype))
        return tokens


class AttentionPooling(nn.Module):
    """One learned query: the softmax of its product with each position weighs that position."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.tokens = MapTokens(channels)
        self.query = nn.Parameter(torch.zeros(channels))  # begins as the average

    def forward(self, feature_map: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C)."""
        tokens = self.tokens(feature_map)  # (B, H * W, C)
        weights = torch.softmax(tokens @ self.query, dim=1)  # (B, H * W)
        pooled: Tensor = (weights.unsqueeze(1) @ tokens).squeeze(1)
        return pooled


class PooledInputs(nn.Module):
    """What a dense head sees: standardised features (B, D), and beside them the attention-pooled vector of each map."""

    def __init__(self, n_features: int, map_channels: Sequence[int]) -> None:
        super().__init__()
        self.pooling = nn.ModuleList(AttentionPooling(channels) for channels in map_channels)
        self.n_outputs = n_features + sum(map_channels)

    def forward(self, standardised: Tensor, maps: Sequence[Tensor]) -> Tensor:
        """(B, D) and maps (B, C, H, W) → (B, n_outputs)."""
        if not self.pooling:
            return standardised
        return torch.cat([standardised, *(pool(of) for pool, of in zip(self.pooling, maps, strict=True))], dim=1)


# The label-query head: one learned query per label looks at the feature map for what speaks for its own label.
#
# ML-Decoder (Ridnik, Sharir, Ben-Cohen, Ben-Baruch & Noy 2021, "ML-Decoder: Scalable and Versatile Classification
# Head") made small: one cross-attention without self-attention between labels, which that paper found to be redundant,
# and groups of one label, since genres are few. The maps of several backbones, and the vector of pooled features as one
# token more, are tokens of the same attention. On a CPU it trains about thirty times slower than a dense layer of the
# same width on pooled features, and needs the maps.

_LARGEST_START = 0.02  # of a new query: small, so that every label begins with the average of all tokens


class LabelQueries(nn.Module):
    """Standardised features (B, D) and maps (B, C, H, W) → one vector for each label of each poster."""

    def __init__(self, n_features: int, n_labels: int, map_channels: Sequence[int], config: TrialConfig) -> None:
        super().__init__()
        width = config.width
        self.queries = nn.Parameter(torch.empty(n_labels, width).uniform_(-_LARGEST_START, _LARGEST_START))
        self.from_features = nn.Sequential(Dropout(config.input_dropout), nn.Linear(n_features, width))
        self.from_maps = nn.ModuleList(
            nn.Sequential(MapTokens(channels), Dropout(config.input_dropout), nn.Linear(channels, width))
            for channels in map_channels
        )
        self.attention = nn.MultiheadAttention(width, config.attention_heads, batch_first=True)
        self.dropout = Dropout(config.dropout)
        self.norm = nn.LayerNorm(width)

    def forward(self, standardised: Tensor, maps: Sequence[Tensor]) -> Tensor:
        """(B, D) and maps (B, C, H, W) → (B * L, width), the labels of one poster next to each other."""
        tokens = self._tokens(standardised, maps)
        queries = self.queries.expand(len(standardised), -1, -1)  # (B, L, width)
        attended, _ = self.attention(queries, tokens, tokens, need_weights=False)
        vectors: Tensor = self.norm(queries + self.dropout(attended))
        return vectors.flatten(0, 1)

    def _tokens(self, standardised: Tensor, maps: Sequence[Tensor]) -> Tensor:
        """(B, 1 + positions of all maps, width)."""
        positions = [project(of) for project, of in zip(self.from_maps, maps, strict=True)]
        return torch.cat([self.from_features(standardised).unsqueeze(1), *positions], dim=1)


class LabelWise(nn.Linear):
    """An output layer of which each unit sees its own label's vector only: (B * L, width) → logits (B, L)."""

    def forward(self, vectors: Tensor) -> Tensor:
        """(B * L, width) → (B, L)."""
        by_label = vectors.view(-1, self.out_features, self.in_features)  # (B, L, width)
        return (by_label * self.weight).sum(2) + self.bias
