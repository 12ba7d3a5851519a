"""Linear layers replaced by pairs of thinner ones: truncated SVD, of the weights or of the outputs."""

from collections.abc import Sequence

import torch
from torch import nn
from transformers import PreTrainedModel

from clinical_notes.batches import TrialData
from trainables.parts.int8.activation_ranges import observe
from trainables.parts.model.surgery import factorise

EXAMPLES = 512
"""Number of training texts on which the layers' inputs are measured."""
RIDGE = 1e-2
"""Ridge added to the diagonal of the inputs' second moments, as a fraction of its mean."""


def rank_for(in_features: int, out_features: int, kept: float) -> int:
    """Rank at which two factors have the fraction ``kept`` of a layer's weights.

    At least 1, and always such that the pair is smaller than the layer; 0 where no pair is.
    """
    full, per_rank = in_features * out_features, in_features + out_features
    return min(max(1, round(kept * full / per_rank)), (full - 1) // per_rank)


@torch.no_grad()
def input_moments(model: PreTrainedModel, paths: Sequence[str], data: TrialData) -> dict[str, torch.Tensor]:
    """Second moments ``Σ x xᵀ`` of the inputs of Linear layers on a few training texts.

    Returns: (in, in) float64 by path.
    """
    moments: dict[str, torch.Tensor] = {}

    def add(path: str, inputs: torch.Tensor) -> None:
        product = (inputs.T @ inputs).double()  # summed in float64, each product in float32
        moments[path] = moments[path] + product if path in moments else product

    observe(model, paths, data, add, EXAMPLES)
    return moments


def low_rank_factors(
    weight: torch.Tensor, moments: torch.Tensor | None, rank: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The pair of rank r whose outputs on the layer's inputs X are nearest: least ``‖W X − up down X‖_F``.

    Truncation-aware data whitening (SVD-LLM, Wang et al. 2024, section 3.1): with ``S Sᵀ = X Xᵀ`` the answer is
    ``U_r Σ_r V_rᵀ S⁻¹`` of the SVD of ``W S``. That equals ``U_r U_rᵀ W``, so that nothing is inverted.

    Args:
        weight: (out, in).
        moments: (in, in) ``X Xᵀ``; where the inputs say nothing, a small ridge leaves the choice to the weights.
            None: all inputs count alike, which is the truncated SVD of the weight itself.

    Returns: down (r, in) and up (out, r), float64, balanced: ``upᵀ up = down downᵀ``, diagonal.
    """
    weight = weight.double()
    left = torch.linalg.svd(weight if moments is None else weight @ _whitening(moments), full_matrices=False).U[
        :, :rank
    ]
    # Balanced factors train faster: the steps of a direction do not depend on how its size is split between the two.
    inner, singular, right = torch.linalg.svd(left.T @ weight, full_matrices=False)
    root = singular.sqrt()
    return root[:, None] * right, left @ inner * root


def _whitening(moments: torch.Tensor) -> torch.Tensor:
    ridge = RIDGE * moments.diagonal().mean() * torch.eye(len(moments), dtype=torch.float64, device=moments.device)
    root: torch.Tensor = torch.linalg.cholesky(moments + ridge)
    return root


@torch.no_grad()
def factorise_layers(model: PreTrainedModel, paths: Sequence[str], kept: float, data: TrialData | None) -> None:
    """Replace Linear layers by factors that have the fraction ``kept`` of their weights, in place.

    Args:
        paths: of the layers; a layer that factors would not make smaller stays as it is.
        data: with it, the factors' outputs on its training texts are nearest to the layer's; None: their product to
            the layer's weights.
    """
    linears = {}
    ranks = {}
    for path in paths:
        linear = model.get_submodule(path)
        assert isinstance(linear, nn.Linear)
        rank = rank_for(linear.in_features, linear.out_features, kept)
        if rank:
            linears[path], ranks[path] = linear, rank
    moments = input_moments(model, list(ranks), data) if data is not None else {}
    for path, rank in ranks.items():
        down, up = low_rank_factors(linears[path].weight, moments.pop(path, None), rank)
        factorised = factorise(model, path, rank)
        factorised.down.weight.copy_(down)
        factorised.up.weight.copy_(up)
        factorised.up.bias.copy_(linears[path].bias)
