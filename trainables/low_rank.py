"""Low rank: LoRA's updates (Hu et al. 2021), or layers factorised by truncated SVD and then trained."""

from pathlib import Path

from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from torch import nn
from transformers import PreTrainedModel

from trainables.base import StrategyTrainable
from trainables.parts.deployed import deploy_torch
from trainables.parts.model import encoder
from trainables.parts.model.factorisation import factorise_layers

TARGETS = {
    "query_value": ("query", "value"),
    "query_key_value": ("query", "key", "value"),
    "attention": ("query", "key", "value", "attention_output"),
    "feed_forward": ("feed_forward_in", "feed_forward_out"),
    "all": ("query", "key", "value", "attention_output", "feed_forward_in", "feed_forward_out"),
}
"""Searched choices of projections, as fields of ``encoder.LayerNames``."""


def layer_ranks(rank: int, pattern: str, depth: int) -> list[int]:
    """Rank of each layer: ``upper`` doubles it in the upper half and halves it in the lower, ``lower`` the reverse.

    The middle of an odd number of layers keeps it.
    """
    if pattern == "uniform":
        return [rank] * depth
    half = depth // 2
    ranks = [max(1, rank // 2)] * half + [rank] * (depth % 2) + [2 * rank] * half
    return ranks if pattern == "upper" else ranks[::-1]


def target_paths(model: PreTrainedModel, targets: str) -> list[list[str]]:
    """Paths of the targeted Linear modules, by layer."""
    # Not leaf names: "dense" alone would match feed-forward and pooler modules too.
    names = encoder.layer_names(model.config)
    prefix = f"{model.base_model_prefix}.{names.layers}"
    depth = len(encoder.layer_list(model))
    return [[f"{prefix}.{i}.{getattr(names, part)}" for part in TARGETS[targets]] for i in range(depth)]


class LowRankTrainable(StrategyTrainable):
    """``lora``: frozen encoder, trained rank-r updates, the head (pooler and classifier) trained in full, merged.

    ``svd``: Linear layers of the pretrained encoder become pairs of thinner ones, whose product is at
    first nearest to them on training inputs or by their weights, and all weights are trained.
    """

    @property
    def learning_rate(self) -> float:
        name = "learning_rate" if self.hyperparameters["scheme"] == "lora" else "svd_learning_rate"
        return float(self.hyperparameters[name])

    def build_model(self) -> nn.Module:
        model = self.encoder.build()
        encoder.set_dropout(model, self.hyperparameters["dropout"])
        return self._with_lora(model) if self.hyperparameters["scheme"] == "lora" else self._factorised(model)

    def _with_lora(self, model: PreTrainedModel) -> nn.Module:
        paths = target_paths(model, self.hyperparameters["targets"])
        ranks = layer_ranks(self.hyperparameters["rank"], self.hyperparameters["rank_pattern"], len(paths))
        pattern = {path: rank for layer, rank in zip(paths, ranks, strict=True) for path in layer}
        alpha_ratio = self.hyperparameters["lora_alpha_ratio"]
        return get_peft_model(
            model,
            LoraConfig(
                task_type=TaskType.SEQ_CLS,
                rank_pattern=pattern,
                alpha_pattern={path: alpha_ratio * rank for path, rank in pattern.items()},
                lora_dropout=self.hyperparameters["lora_dropout"],
                target_modules=list(pattern),
                modules_to_save=encoder.head_names(model),
            ),
        )

    def _factorised(self, model: PreTrainedModel) -> PreTrainedModel:
        model.to(self.settings.device)  # type: ignore[arg-type]
        paths = [path for layer in target_paths(model, self.hyperparameters["svd_targets"]) for path in layer]
        data = self.data if self.hyperparameters["svd_init"] == "activations" else None
        factorise_layers(model, paths, self.hyperparameters["kept_parameters"], data)
        return model

    def deploy(self, directory: Path) -> None:
        model = self.model.merge_and_unload() if isinstance(self.model, PeftModel) else self.model
        assert isinstance(model, PreTrainedModel)
        deploy_torch(model, directory, self.data, scheme=self.hyperparameters["scheme"])
