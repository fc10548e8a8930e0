"""Talk2DINO's map: words of CLIP into the space of DINOv2's patches."""

from __future__ import annotations

from torch import Tensor, nn


class TextMap(nn.Module):
    """Two linear layers with a tanh between them (Barsellotti et al., ICCV 2025, section 3.2).

    Args:
        text: numbers of a word.
        hidden: numbers between the layers.
        patch: numbers of a patch.
    """

    def __init__(self, text: int, hidden: int, patch: int) -> None:
        super().__init__()
        self.linear_layer = nn.Linear(text, hidden)
        self.hidden_layers = nn.ModuleList([nn.Linear(hidden, patch)])

    def forward(self, words: Tensor) -> Tensor:
        """``[n, text]`` to ``[n, patch]``."""
        return self.hidden_layers[0](self.linear_layer(words).tanh())
