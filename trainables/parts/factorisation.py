"""Linear layers replaced by pairs of thinner ones: truncated SVD that minds the layer's inputs."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial

import torch
from torch import nn

from trainables.parts.surgery import factorise

RIDGE = 1e-2
"""Added to the diagonal of the inputs' second moments, as a fraction of its mean."""


def rank_for(in_features: int, out_features: int, kept: float) -> int:
    """Rank at which two factors hold the fraction ``kept`` of a layer's weights.

    At least 1, and always a pair smaller than the layer; 0 where no pair is.
    """
    full, per_rank = in_features * out_features, in_features + out_features
    return min(max(1, round(kept * full / per_rank)), (full - 1) // per_rank)


@torch.no_grad()
def input_moments(
    model: nn.Module, paths: Sequence[str], batches: Iterable[Mapping[str, torch.Tensor]]
) -> dict[str, torch.Tensor]:
    """Second moments ``Σ x xᵀ`` of the inputs of Linear layers, padding left out; the model is put in evaluation mode.

    Args:
        paths: of the layers; their inputs are (batch, length, in).
        batches: arguments of the model, ``attention_mask`` among them, on the model's device.

    Returns: (in, in) float64 by path.
    """
    linears = {path: model.get_submodule(path) for path in paths}
    moments = {}
    for path, linear in linears.items():
        assert isinstance(linear, nn.Linear)
        moments[path] = linear.weight.new_zeros((linear.in_features,) * 2, dtype=torch.float64)
    model.eval()
    for batch in batches:
        attended = batch["attention_mask"].bool()
        with ExitStack() as hooks:
            for path, linear in linears.items():
                hook = partial(_add_moments, moments[path], attended)
                hooks.enter_context(linear.register_forward_pre_hook(hook))
            model(**batch)
    return moments


def _add_moments(
    total: torch.Tensor, attended: torch.Tensor, module: nn.Module, inputs: tuple[torch.Tensor, ...]
) -> None:
    rows = inputs[0][attended]
    total += rows.T @ rows  # summed in float64, each product in float32


def low_rank_factors(weight: torch.Tensor, moments: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The pair of rank r whose outputs on the layer's inputs X are nearest: least ``‖W X − up down X‖_F``.

    Truncation-aware data whitening (SVD-LLM, Wang et al. 2024, section 3.1): with ``S Sᵀ = X Xᵀ`` the answer is
    ``U_r Σ_r V_rᵀ S⁻¹`` of the SVD of ``W S``. That is ``U_r U_rᵀ W``, so that nothing need be inverted.

    Args:
        weight: (out, in).
        moments: (in, in) ``X Xᵀ``; a small ridge lets the weights alone decide where the inputs say nothing.

    Returns: down (r, in) and up (out, r), float64, rows and columns of equal norm.
    """
    weight = weight.double()
    ridge = RIDGE * moments.diagonal().mean() * torch.eye(len(moments), dtype=torch.float64, device=moments.device)
    whitening = torch.linalg.cholesky(moments + ridge)
    left = torch.linalg.svd(weight @ whitening, full_matrices=False).U[:, :rank]
    down = left.T @ weight
    scale = down.norm(dim=1).clamp_min(torch.finfo(torch.float32).tiny).sqrt()  # an even step for either factor
    return down / scale[:, None], left * scale


@torch.no_grad()
def factorise_layers(
    model: nn.Module, paths: Sequence[str], kept: float, batches: Iterable[Mapping[str, torch.Tensor]]
) -> None:
    """Replace Linear layers by factors that hold the fraction ``kept`` of their weights, in place.

    Args:
        paths: of the layers; one too small to gain is left as it is.
        batches: texts that the layers' inputs are taken from, as ``input_moments`` takes them.
    """
    linears = {}
    ranks = {}
    for path in paths:
        linear = model.get_submodule(path)
        assert isinstance(linear, nn.Linear)
        rank = rank_for(linear.in_features, linear.out_features, kept)
        if rank:
            linears[path], ranks[path] = linear, rank
    moments = input_moments(model, list(ranks), batches)
    for path, rank in ranks.items():
        down, up = low_rank_factors(linears[path].weight, moments.pop(path), rank)
        factorised = factorise(model, path, rank)
        factorised.down.weight.copy_(down)
        factorised.up.weight.copy_(up)
        factorised.up.bias.copy_(linears[path].bias)
