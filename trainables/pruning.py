"""Pruning: gradual magnitude pruning while training (Zhu & Gupta 2017), unstructured or structured."""

import math
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn
from torch.nn.utils import prune
from transformers import PreTrainedModel

from trainables.base import StrategyTrainable
from trainables.parts import encoder, surgery
from trainables.parts.deployed import deploy_torch
from trainables.parts.encoder import Layer

STAGES = 10
"""The pruned ratio rises this many times on its way to the target."""

RATIO = "pruned_ratio"


def cubic_ratio(target: float, done: float) -> float:
    """Ratio pruned when the fraction ``done`` of the schedule has passed (Zhu & Gupta 2017, equation 1, from 0)."""
    return float(target * (1 - (1 - done) ** 3))


def head_importance(layer: Layer, size: int) -> torch.Tensor:
    """(heads,) squared magnitude of the weights that a head's removal takes away."""
    rows = sum(linear.weight.detach().square().sum(dim=1) for linear in (layer.query, layer.key, layer.value))
    columns = _raw_weight(layer.attention_output).detach().square().sum(dim=0)
    return (rows + columns).view(-1, size).sum(dim=1)


def neuron_importance(layer: Layer) -> torch.Tensor:
    """(neurons,) squared magnitude of the weights that a feed-forward neuron's removal takes away."""
    rows = layer.feed_forward_in.weight.detach().square().sum(dim=1)
    return rows + _raw_weight(layer.feed_forward_out).detach().square().sum(dim=0)


def _raw_weight(linear: nn.Linear) -> torch.Tensor:
    """The weight under the mask."""
    return getattr(linear, "weight_orig", linear.weight)


def _keep_most_important(importance: torch.Tensor, ratio: float) -> torch.Tensor:
    """(n,) boolean: all but the ``ratio`` least important, and at least one."""
    removed = min(int(ratio * len(importance) + 0.5), len(importance) - 1)
    kept = torch.ones(len(importance), dtype=torch.bool, device=importance.device)
    kept[torch.argsort(importance, stable=True)[:removed]] = False
    return kept


class PruningTrainable(StrategyTrainable):
    """Weights are masked a little more at a time; the deployed model has them removed.

    A structured mask lies on the columns of each layer's two output projections, so that a masked head or neuron
    contributes exactly nothing and can then be cut out.
    """

    needs_teacher = True

    def build_model(self) -> nn.Module:
        from_baseline = self.hyperparameters["start"] == "baseline"
        model = self.load_teacher() if from_baseline else self.encoder.build()
        encoder.set_dropout(model, self.hyperparameters["dropout"])
        for linear in self._masked_modules(model):
            prune.identity(linear, "weight")
        model.register_buffer(RATIO, torch.zeros((), dtype=torch.float64))  # part of the state that a checkpoint holds
        return model

    def _masked_modules(self, model: nn.Module) -> Iterator[nn.Linear]:
        assert isinstance(model, PreTrainedModel)
        for layer in encoder.layers_of(model):
            if self._structured:
                yield from (layer.attention_output, layer.feed_forward_out)
            else:
                yield from (getattr(layer, part) for part in Layer.__dataclass_fields__)

    @property
    def _structured(self) -> bool:
        return bool(self.hyperparameters["scheme"] == "structured")

    @property
    def _ratio(self) -> torch.Tensor:
        return self.model.get_buffer(RATIO)

    @property
    def selectable(self) -> bool:
        return float(self._ratio) >= float(self.hyperparameters["ratio"])

    def before_step(self, done: float) -> None:
        """Raise the pruned ratio where the schedule says so."""
        stage = math.floor(min(done / self.hyperparameters["schedule_end"], 1.0) * STAGES) / STAGES
        ratio = cubic_ratio(self.hyperparameters["ratio"], stage)
        if ratio > self._ratio:
            self._prune(ratio)

    @torch.no_grad()
    def _prune(self, ratio: float) -> None:
        assert isinstance(self.model, PreTrainedModel)
        if self._structured:
            size = encoder.head_size(self.model.config)
            for layer in encoder.layers_of(self.model):
                heads = _keep_most_important(head_importance(layer, size), ratio).repeat_interleave(size)
                _mask(layer.attention_output).copy_(heads.expand_as(layer.attention_output.weight))
                neurons = _keep_most_important(neuron_importance(layer), ratio)
                _mask(layer.feed_forward_out).copy_(neurons.expand_as(layer.feed_forward_out.weight))
        else:
            modules = list(self._masked_modules(self.model))
            magnitudes = torch.cat([_raw_weight(linear).abs().flatten() for linear in modules])
            threshold = magnitudes.kthvalue(max(1, round(ratio * len(magnitudes)))).values
            for linear in modules:
                _mask(linear).copy_(_raw_weight(linear).abs() > threshold)
        self._ratio.fill_(ratio)

    def deploy(self, directory: Path) -> None:
        assert isinstance(self.model, PreTrainedModel)
        del self.model.pruned_ratio
        size = encoder.head_size(self.model.config)
        for layer in encoder.layers_of(self.model):
            masks = [_mask(layer.attention_output), _mask(layer.feed_forward_out)] if self._structured else []
            for linear in (getattr(layer, part) for part in Layer.__dataclass_fields__):
                if prune.is_pruned(linear):
                    prune.remove(linear, "weight")
            if masks:
                heads = masks[0][0].view(-1, size)[:, 0].nonzero().flatten().tolist()
                surgery.slice_layer(layer, heads, masks[1][0].nonzero().flatten().tolist(), size)
        deploy_torch(self.model, directory, self.data, packed=not self._structured)


def _mask(linear: nn.Linear) -> torch.Tensor:
    mask = linear.weight_mask
    assert isinstance(mask, torch.Tensor)
    return mask
