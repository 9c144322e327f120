"""Attention pooling: a feature map → the average of its positions, weighted by how much each has to say.

A label may show in one corner of a poster, which the plain average dilutes and the maximum takes channel by channel.
Here each position is scored by one learned query and the scores become weights (Ilse, Tomczak & Welling 2018,
"Attention-based Deep Multiple Instance Learning", equations 7 and 8, with a linear score). The price: the map itself
has to be cached or computed, H * W times the numbers of its average, and a head trains about four times slower.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


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
