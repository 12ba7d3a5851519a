"""Low rank: LoRA's updates (Hu et al. 2021), or layers factorised by truncated SVD and then trained."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from torch import nn
from transformers import PreTrainedModel

from clinical_notes.batches import TrialData
from trainables.base import Hyperparameters, Trial
from trainables.parts.deployed import deploy_torch
from trainables.parts.model import encoder
from trainables.parts.model.factorisation import factorise_layers
from trainables.parts.model.lora import add_lora, merged, target_paths


class Lora:
    """Frozen encoder, trained rank-r updates, the head (pooler and classifier) trained in full, merged at the end."""

    def __init__(self, hyperparameters: Hyperparameters) -> None:
        self._values = hyperparameters

    @property
    def learning_rate(self) -> float:
        return float(self._values["learning_rate"])

    def applied_to(self, model: PreTrainedModel) -> nn.Module:
        """The model to train."""
        return add_lora(
            model,
            self._values["targets"],
            self._values["rank"],
            self._values["rank_pattern"],
            self._values["lora_alpha_ratio"],
            self._values["lora_dropout"],
        )

    def finished(self, model: nn.Module) -> PreTrainedModel:
        """The model to deploy."""
        return merged(model)


class Svd:
    """Linear layers of the pretrained encoder become pairs of thinner ones, and all weights are trained.

    At first the product of a pair is as near as possible to its layer: by its weights, or on training inputs.
    """

    def __init__(self, hyperparameters: Hyperparameters, data: TrialData, device: str) -> None:
        self._values, self._data, self._device = hyperparameters, data, device

    @property
    def learning_rate(self) -> float:
        return float(self._values["svd_learning_rate"])

    def applied_to(self, model: PreTrainedModel) -> nn.Module:
        """The model to train."""
        model.to(self._device)  # type: ignore[arg-type]
        paths = [path for layer in target_paths(model, self._values["svd_targets"]) for path in layer]
        data = self._data if self._values["svd_init"] == "activations" else None
        factorise_layers(model, paths, self._values["kept_parameters"], data)
        return model

    def finished(self, model: nn.Module) -> PreTrainedModel:
        """The model to deploy."""
        assert isinstance(model, PreTrainedModel)
        return model


class LowRankTrial(Trial):
    """``lora`` or ``svd``, as the configuration's ``scheme`` says."""

    scheme_notes: ClassVar[Mapping[str, str]] = {
        "lora": "saves memory in training; merged, the model is as large as the baseline.",
        "svd": "layers of low rank: the deployed model is smaller.",
    }

    def build_model(self) -> nn.Module:
        lora = self.hyperparameters["scheme"] == "lora"
        self._scheme: Lora | Svd = (
            Lora(self.hyperparameters) if lora else Svd(self.hyperparameters, self.data, self.settings.device)
        )
        model = self.encoder.build()
        encoder.set_dropout(model, self.hyperparameters["dropout"])
        return self._scheme.applied_to(model)

    @property
    def learning_rate(self) -> float:
        return self._scheme.learning_rate

    def write_model(self, directory: Path) -> None:
        model = self._scheme.finished(self.model)
        deploy_torch(model, directory, self.data, scheme=self.hyperparameters["scheme"])
