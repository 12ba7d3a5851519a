"""Low rank: LoRA on attention projections (Hu et al. 2021), merged into the weights for deployment."""

from pathlib import Path

from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from torch import nn

from trainables.base import StrategyTrainable
from trainables.parts import encoder
from trainables.parts.deployed import deploy_torch

TARGETS = {
    "query_value": ("query", "value"),
    "query_key_value": ("query", "key", "value"),
    "attention": ("query", "key", "value", "attention_output"),
    "all": ("query", "key", "value", "attention_output", "feed_forward_in", "feed_forward_out"),
}
"""Searched choices of projections, as fields of ``encoder.LayerNames``."""


class LowRankTrainable(StrategyTrainable):
    """Frozen encoder, trained rank-r updates, the head (pooler and classifier) trained in full."""

    def build_model(self) -> nn.Module:
        model = self.encoder.build()
        encoder.set_dropout(model, self.hyperparameters["dropout"])
        names = encoder.layer_names(model.config)
        # Paths, not leaf names: "dense" alone would match feed-forward and pooler modules too.
        targets = [getattr(names, part) for part in TARGETS[self.hyperparameters["targets"]]]
        layers = len(encoder.layer_list(model))
        prefix = f"{model.base_model_prefix}.{names.layers}"
        return get_peft_model(
            model,
            LoraConfig(
                task_type=TaskType.SEQ_CLS,
                r=self.hyperparameters["rank"],
                lora_alpha=self.hyperparameters["lora_alpha_ratio"] * self.hyperparameters["rank"],
                lora_dropout=self.hyperparameters["lora_dropout"],
                target_modules=[f"{prefix}.{i}.{target}" for i in range(layers) for target in targets],
                modules_to_save=encoder.head_names(model),
            ),
        )

    def deploy(self, directory: Path) -> None:
        assert isinstance(self.model, PeftModel)
        deploy_torch(self.model.merge_and_unload(), directory, self.data)
