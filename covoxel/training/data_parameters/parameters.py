"""One learnable parameter for each pair of case and atlas: the confidence in that propagated label map."""

from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor, nn


class DataParameters(nn.Module):
    """Data parameters of the pairs of a cohort, 0 at first, so that every confidence is 0.5.

    Kept in a sparse embedding: an optimiser for sparse gradients (`torch.optim.SparseAdam`) then leaves the momenta
    of the pairs that a step did not see as they are.

    Parameters
    ----------
    pairs
        Identifiers of case and atlas of each pair.

    Raises
    ------
    ValueError
        If there is no pair, or one is named twice.

    References
    ----------
    Weihsbach et al., DeepSTAPLE: learning to predict multimodal registration quality for unsupervised domain
    adaptation, WBIR 2022, equation 1; Saxena et al., Data parameters, NeurIPS 2019.
    """

    def __init__(self, pairs: Sequence[tuple[str, str]]) -> None:
        super().__init__()
        self.pairs = tuple((case, atlas) for case, atlas in pairs)
        self._place = {pair: place for place, pair in enumerate(self.pairs)}
        if not self.pairs:
            raise ValueError("pairs must hold one pair of case and atlas at least")
        if len(self._place) < len(self.pairs):
            twice = next(pair for place, pair in enumerate(self.pairs) if self._place[pair] != place)
            raise ValueError(f"pairs must be unique, {twice} is named twice")
        self.embedding = nn.Embedding(len(self.pairs), 1, sparse=True)
        nn.init.zeros_(self.embedding.weight)

    def places(self, case_id: str, atlas_ids: Sequence[str]) -> Tensor:
        """Place of each pair in the embedding, `(atlas,)` int64, on its device.

        Raises
        ------
        KeyError
            If a pair is unknown.
        """
        missing = [atlas for atlas in atlas_ids if (case_id, atlas) not in self._place]
        if missing:
            raise KeyError(f"no data parameter for case {case_id} and atlas {missing[0]}")
        found = [self._place[case_id, atlas] for atlas in atlas_ids]
        return torch.tensor(found, dtype=torch.int64, device=self.embedding.weight.device)

    def forward(self, places: Tensor) -> Tensor:
        """Equation 1: the confidences `sigmoid(DP)`, `(pair,)` between 0 and 1, at `places`."""
        raw: Tensor = self.embedding(places)
        return torch.sigmoid(raw[:, 0])

    def raw(self, case_id: str, atlas_ids: Sequence[str]) -> list[float]:
        """The parameters before the sigmoid, in the order of `atlas_ids`: what the consensus of a case is given."""
        values: list[float] = self.embedding.weight.detach()[self.places(case_id, atlas_ids), 0].tolist()
        return values

    def table(self) -> pd.DataFrame:
        """One row a pair: `case`, `atlas`, `parameter` and `confidence`, its sigmoid."""
        parameter = self.embedding.weight.detach()[:, 0].double().cpu()
        return pd.DataFrame(
            {
                "case": [case for case, _ in self.pairs],
                "atlas": [atlas for _, atlas in self.pairs],
                "parameter": parameter.numpy(),
                "confidence": torch.sigmoid(parameter).numpy(),
            }
        )
