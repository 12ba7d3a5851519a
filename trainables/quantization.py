"""Quantization: a real INT8 model, after training (PTQ) or after training for its grid (QAT)."""

import importlib.util
from pathlib import Path

from torch import nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from trainables.base import Trial
from trainables.parts.agreement import validation_logits
from trainables.parts.deployed import TorchRunner
from trainables.parts.int8.grid import Int8Options, insert_fake_quantization, remove_fake_quantization
from trainables.parts.int8.sensitivity import most_sensitive
from trainables.parts.int8.teacher_graph import teacher_graph
from trainables.parts.int8.write_int8 import write_int8
from trainables.parts.model import encoder


class QuantizationTrial(Trial):
    """``ptq_dynamic`` and ``ptq_static`` quantize the best baseline and train nothing; ``qat`` trains it on the grid.

    ONNX Runtime's kernels run the INT8 model on a CPU; where trials have a GPU and the extra ``gpu`` is installed,
    torchao's run it there, with one scale per token for activations.
    """

    needs_teacher = True

    @property
    def epochs(self) -> int:
        return self.settings.epochs if self.hyperparameters["scheme"] == "qat" else 0

    @property
    def precision(self) -> str:
        """Always float32: bfloat16 is coarser than the INT8 grid that is trained for."""
        return "float32"

    def build_model(self) -> nn.Module:
        model: PreTrainedModel = self.load_teacher().to(self.settings.device)  # type: ignore[arg-type]
        self._options = Int8Options.of(
            self.hyperparameters,
            reduce_range=self.settings.reduce_range and not self._on_gpu,
            per_token=self._on_gpu,
        )
        self._fp32_layers = most_sensitive(model, self.data, self._options)
        if self._on_gpu:
            from trainables.parts.int8.torchao_model import unsupported  # an optional extra

            self._fp32_layers = list(dict.fromkeys([*self._fp32_layers, *unsupported(model)]))
        self._hooks: list[RemovableHandle] = []
        if self.epochs:
            encoder.set_dropout(model, self.hyperparameters["dropout"])
            self._hooks = insert_fake_quantization(model, self._options, self._fp32_layers)
        return model

    @property
    def _on_gpu(self) -> bool:
        return self.settings.device == "cuda" and importlib.util.find_spec("torchao") is not None

    def write_model(self, directory: Path) -> None:
        model = self.transformer
        reference = validation_logits(TorchRunner(model), self.data)
        remove_fake_quantization(model, self._hooks)
        if self._on_gpu:
            from trainables.parts.int8.torchao_model import write_int8_gpu

            write_int8_gpu(model, directory, self.data, self._options, self._fp32_layers, reference)
            return
        assert self.teacher_folder is not None
        graph = None if self.epochs else teacher_graph(self.teacher_folder, model)
        write_int8(model, directory, self.data, self._options, self._fp32_layers, reference, graph)
