"""Gated patch aggregation (GPA), equations 2 and 3: a query gathers the patches of its row.

    alpha = softmax(W_alpha q + b_alpha) in R^k         a = sum_i alpha_i x_i           (2)
    g = sigmoid(W_g q + b_g), a scalar                  f = (1 - g) q + g a             (3)

alpha depends on the query only, never on the patches: one small product a row instead of an attention matrix.
"""

import torch
from torch import Tensor, nn


class GatedPatchAggregation(nn.Module):
    """queries (b, g, d), patches (b, g, k, d) -> (b, g, d); any leading dims may stand for b.

    weight_fc is W_alpha (d -> k), gate_fc is W_g (d -> 1): the names of the family's checkpoints. Both start with zero
    bias and weights scaled by `init_scale`, so at first every row is averaged and the gate is half open.
    The gate is squeezed, affinely, into [gate_min, gate_max], so that neither the query nor its patches are ever lost
    altogether; in training, dropout falls on the query as read for alpha and for g, not on the one that is passed on.
    """

    def __init__(
        self,
        width: int,
        patches_per_row: int,
        *,
        gate_min: float = 0.01,
        gate_max: float = 0.99,
        query_dropout: float = 0.1,
        init_scale: float = 1e-3,
    ):
        super().__init__()
        self.gate_min, self.gate_max = gate_min, gate_max
        self.query_dropout = nn.Dropout(query_dropout)
        self.weight_fc = nn.Linear(width, patches_per_row)
        self.gate_fc = nn.Linear(width, 1)
        for linear in (self.weight_fc, self.gate_fc):
            nn.init.zeros_(linear.bias)
            with torch.no_grad():
                linear.weight.mul_(init_scale)

    def forward(self, queries: Tensor, patches: Tensor) -> Tensor:
        alpha = torch.softmax(self.weight_fc(self.query_dropout(queries)), dim=-1)  # (b, g, k)                   (2)
        gathered = (alpha.unsqueeze(-2) @ patches).squeeze(-2)  # (b, g, d)                                       (2)
        gate = torch.sigmoid(self.gate_fc(self.query_dropout(queries)))  # (b, g, 1)                              (3)
        gate = self.gate_min + (self.gate_max - self.gate_min) * gate
        return torch.lerp(queries, gathered.to(queries.dtype), gate.to(queries.dtype))  # (1 - g) q + g a       (3)
