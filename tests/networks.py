"""Small networks whose parts hang together in the ways that structured pruning has to follow."""

from __future__ import annotations

import torch
from torch import nn


class Attention(nn.Module):
    """Heads are counted from the width of the projections, so that whole heads can go."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.size = width // heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, _ = x.shape
        parts = (layer(x) for layer in (self.query, self.key, self.value))
        query, key, value = (part.view(batch, length, -1, self.size).transpose(1, 2) for part in parts)
        mixed = (query @ key.transpose(2, 3) / self.size**0.5).softmax(-1) @ value
        found: torch.Tensor = self.out(mixed.transpose(1, 2).reshape(batch, length, -1))
        return found


class Encoder(nn.Module):
    """Tokens with positions, one transformer block, the mean, five classes."""

    def __init__(self, width: int = 32, heads: int = 4) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words = nn.Embedding(50, width)
        self.places = nn.Parameter(torch.randn(1, 6, width))
        self.attention = Attention(width, heads)
        self.first_norm, self.second_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.head = nn.Linear(width, 5)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.words(ids) + self.places
        x = self.first_norm(x + self.attention(x))
        x = self.second_norm(x + self.down(torch.relu(self.up(x))))
        found: torch.Tensor = self.head(x.mean(1))
        return found

    def heads(self) -> dict[nn.Module, int]:
        return dict.fromkeys((self.attention.query, self.attention.key, self.attention.value), 4)
