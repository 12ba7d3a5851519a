"""The encoder that every strategy starts from, and the names of its layers' modules by architecture."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import CONFIG_MAPPING, MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING, PreTrainedConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

transformers_logging.disable_progress_bar()


@dataclass(frozen=True)
class LayerNames:
    """An architecture's names of its list of layers, its options for depth and width, and a layer's Linear modules."""

    layers: str
    depth_option: str
    neurons_option: str
    query: str
    key: str
    value: str
    attention_output: str
    feed_forward_in: str
    feed_forward_out: str


_BERT = LayerNames(
    layers="encoder.layer",
    depth_option="num_hidden_layers",
    neurons_option="intermediate_size",
    query="attention.self.query",
    key="attention.self.key",
    value="attention.self.value",
    attention_output="attention.output.dense",
    feed_forward_in="intermediate.dense",
    feed_forward_out="output.dense",
)
_DISTILBERT = LayerNames(
    layers="transformer.layer",
    depth_option="n_layers",
    neurons_option="hidden_dim",
    query="attention.q_lin",
    key="attention.k_lin",
    value="attention.v_lin",
    attention_output="attention.out_lin",
    feed_forward_in="ffn.lin1",
    feed_forward_out="ffn.lin2",
)
ARCHITECTURES: Mapping[str, LayerNames] = {
    "bert": _BERT,
    "roberta": _BERT,
    "xlm-roberta": _BERT,
    "camembert": _BERT,
    "electra": _BERT,
    "distilbert": _DISTILBERT,
}
"""Names by the Hugging Face configuration's ``model_type``."""


@dataclass(frozen=True)
class Layer:
    """The Linear modules of one Transformer layer."""

    query: nn.Linear
    key: nn.Linear
    value: nn.Linear
    attention_output: nn.Linear
    feed_forward_in: nn.Linear
    feed_forward_out: nn.Linear


def layer_names(config: PreTrainedConfig) -> LayerNames:
    """The names in this model's architecture."""
    return ARCHITECTURES[config.model_type]


def layer_list(model: PreTrainedModel) -> nn.ModuleList:
    """The module that holds the model's layers."""
    layers = model.base_model.get_submodule(layer_names(model.config).layers)
    assert isinstance(layers, nn.ModuleList)
    return layers


def layers_of(model: PreTrainedModel) -> Iterator[Layer]:
    """The Linear modules of each layer, from the first to the last."""
    names = layer_names(model.config)
    for module in layer_list(model):
        yield Layer(
            **{
                part: module.get_submodule(getattr(names, part))  # type: ignore[arg-type]
                for part in Layer.__dataclass_fields__
            }
        )


def head_names(model: PreTrainedModel) -> list[str]:
    """Names of the modules between the last layer and the logits: classifier, and pooler where there is one."""
    return [name for name in ("pooler", "pre_classifier", "classifier") if _has_module(model, name)]


def _has_module(model: nn.Module, name: str) -> bool:
    return any(path.rpartition(".")[2] == name for path, _ in model.named_modules())


def head_size(config: PreTrainedConfig) -> int:
    """Features of one attention head."""
    return int(config.hidden_size // config.num_attention_heads)


def keep_layers(model: PreTrainedModel, kept: list[int]) -> None:
    """Keep the layers with these indices, in this order."""
    names = layer_names(model.config)
    layers = layer_list(model)
    parent, _, attribute = names.layers.rpartition(".")
    setattr(model.base_model.get_submodule(parent), attribute, nn.ModuleList(layers[i] for i in kept))
    setattr(model.config, names.depth_option, len(kept))


def set_dropout(model: nn.Module, probability: float) -> None:
    """Give all dropout modules this probability, in place."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = probability


@torch.no_grad()
def start_at_shares(model: PreTrainedModel, shares: NDArray[np.floating]) -> None:
    """Have a new head of sigmoid outputs say each symptom as often as it is reported, in place.

    Rare symptoms learn little while all outputs first fall from one half (Lin et al. 2017, Focal Loss, section 3.3).

    Args:
        shares: (symptoms,) of the training examples, between 0 and 1.
    """
    last_linear(model).bias.copy_(torch.logit(torch.from_numpy(shares)))


def last_linear(model: PreTrainedModel) -> nn.Linear:
    """The module whose outputs are the logits."""
    return [m for m in model.get_submodule("classifier").modules() if isinstance(m, nn.Linear)][-1]


def build_model(config: PreTrainedConfig, state: Mapping[str, torch.Tensor]) -> PreTrainedModel:
    """A sequence classifier that holds these very tensors, not copies of them.

    Args:
        state: tensors by name, as ``state_dict`` gives them.
    """
    return classifier_class(config).from_pretrained(None, config=config, state_dict=dict(state), dtype=torch.float32)


def classifier_class(config: PreTrainedConfig) -> type[PreTrainedModel]:
    """The architecture's class of sequence classifiers."""
    cls = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING[type(config)]
    assert isinstance(cls, type)
    assert issubclass(cls, PreTrainedModel)
    return cls


def config_from(values: Mapping[str, Any]) -> PreTrainedConfig:
    """A configuration of the values in a ``config.json``."""
    config = CONFIG_MAPPING[values["model_type"]].from_dict(dict(values))
    assert isinstance(config, PreTrainedConfig)
    return config


@dataclass(frozen=True)
class EncoderWeights:
    """A classifier as plain arrays, which Ray's object store shares between the trials of a node."""

    config: dict[str, Any]
    arrays: dict[str, NDArray[Any]]

    @classmethod
    def of(cls, model: PreTrainedModel) -> "EncoderWeights":
        """The weights of a model on the CPU, which share its memory."""
        return cls(model.config.to_dict(), {name: t.numpy() for name, t in model.state_dict().items()})

    def build(self) -> PreTrainedModel:
        """A model with copies of the shared arrays."""
        state = {name: torch.tensor(array) for name, array in self.arrays.items()}
        return build_model(config_from(self.config), state)
