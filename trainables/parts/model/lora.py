"""LoRA: trained low-rank updates of a frozen encoder's projections (Hu et al. 2021), merged when training ends."""

from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from torch import nn
from transformers import PreTrainedModel

from trainables.parts.model import encoder

TARGETS = {
    "query_value": ("query", "value"),
    "query_key_value": ("query", "key", "value"),
    "attention": ("query", "key", "value", "attention_output"),
    "feed_forward": ("feed_forward_in", "feed_forward_out"),
    "all": ("query", "key", "value", "attention_output", "feed_forward_in", "feed_forward_out"),
}
"""Projections of each choice of the search, as fields of ``encoder.LayerNames``."""


def target_paths(model: PreTrainedModel, targets: str) -> list[list[str]]:
    """Paths of the Linear modules that a key of ``TARGETS`` names, by layer."""
    # Not leaf names: "dense" alone would match feed-forward and pooler modules too.
    names = encoder.layer_names(model.config)
    prefix = f"{model.base_model_prefix}.{names.layers}"
    depth = len(encoder.layer_list(model))
    return [[f"{prefix}.{i}.{getattr(names, part)}" for part in TARGETS[targets]] for i in range(depth)]


def layer_ranks(rank: int, pattern: str, depth: int) -> list[int]:
    """Rank of each layer: ``upper`` doubles it in the upper half and halves it in the lower, ``lower`` the reverse.

    With an odd number of layers the middle one has the rank itself.
    """
    if pattern == "uniform":
        return [rank] * depth
    half = depth // 2
    ranks = [max(1, rank // 2)] * half + [rank] * (depth % 2) + [2 * rank] * half
    return ranks if pattern == "upper" else ranks[::-1]


def add_lora(
    model: PreTrainedModel, targets: str, rank: int, rank_pattern: str, alpha_ratio: float, dropout: float
) -> PeftModel:
    """Freeze the encoder and add updates to its projections; the head (pooler and classifier) trains in full.

    Args:
        targets: a key of ``TARGETS``.
        rank, rank_pattern: see ``layer_ranks``.
        alpha_ratio: alpha divided by the rank, which scales an update.
        dropout: probability, of the updates' inputs.
    """
    paths = target_paths(model, targets)
    ranks = layer_ranks(rank, rank_pattern, len(paths))
    pattern = {path: rank for layer, rank in zip(paths, ranks, strict=True) for path in layer}
    adapted = get_peft_model(
        model,
        LoraConfig(
            task_type=TaskType.SEQ_CLS,
            rank_pattern=pattern,
            alpha_pattern={path: alpha_ratio * rank for path, rank in pattern.items()},
            lora_dropout=dropout,
            target_modules=list(pattern),
            modules_to_save=encoder.head_names(model),
        ),
    )
    assert isinstance(adapted, PeftModel)
    return adapted


def merged(model: nn.Module) -> PreTrainedModel:
    """The model with its updates added to its weights, in the encoder's own shape."""
    assert isinstance(model, PeftModel)
    whole = model.merge_and_unload()
    assert isinstance(whole, PreTrainedModel)
    return whole
