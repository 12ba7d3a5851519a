"""What all strategies share: the training loop, checkpoints, and the end of a trial in a deployed model."""

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from ray import tune
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel, get_scheduler

from clinical_notes.batches import TrialData, collate, shuffled_batches
from run_folder.folder import Folder
from trainables.parts.deployed import TorchDeployed, deploy_torch, figures_of, predict
from trainables.parts.metrics import Metrics, classification_metrics, softmax
from trainables.parts.model import encoder
from trainables.parts.model.encoder import EncoderWeights
from trainables.parts.model.stored import load_model
from trainables.parts.open_deployed import load_deployed
from trainables.parts.training.freed_memory import keep_freed_memory
from trainables.parts.training.seen_words import restore_words, train_seen_words
from trainables.parts.training.teaching import distillation_loss, teacher_logits

State = dict[str, torch.Tensor]


class TrialError(Exception):
    """A trial cannot go on; the message is its recorded reason."""


@dataclass(frozen=True)
class TrainSettings:
    """What all trials of a run share.

    Attributes:
        epochs: training epochs of a trial.
        threads: intra-op threads.
        device: where PyTorch trains, "cpu" or "cuda".
        reduce_range: quantize weights to 7 bits, for CPUs whose INT8 kernels would overflow (no VNNI).
        precision: of forward passes in training, "float32", "bfloat16" or "auto": bfloat16 where ``has_bfloat16``.
        max_grad_norm: gradients are clipped to this norm.
        parts: a batch is computed in so many parts whose gradients add up to its own (with class weights nearly, as
            each part is weighed by its size), to take less memory.
    """

    epochs: int
    threads: int = 1
    device: str = "cpu"
    reduce_range: bool = False
    precision: str = "float32"
    max_grad_norm: float = 1.0
    parts: int = 1


class StrategyTrainable(tune.Trainable):
    """One trial: ``step`` is one epoch, and after the last epoch one more ``step`` deploys the model.

    A configuration holds ``hyperparameters``, ``seed`` and, for strategies that start from the best baseline,
    ``teacher``: the URI of that trial's folder. A result holds ``epoch``, the validation figures (``f1`` is the
    one to maximise) and, after deployment, ``final``: the figures of the deployed model.
    """

    needs_teacher: ClassVar[bool] = False
    """Whether its trials start from the run's best baseline."""
    reads_teacher_logits: ClassVar[bool] = False
    """Whether its trials read the teacher's logits of the training examples; the first to start computes them."""

    data: TrialData
    encoder: EncoderWeights
    settings: TrainSettings
    model: nn.Module

    def setup(  # type: ignore[override]
        self,
        config: dict[str, Any],
        data: TrialData,
        encoder: EncoderWeights,
        settings: TrainSettings,
        workdir: Path | None = None,
    ) -> None:
        """Prepare a trial; ``workdir`` takes its deployed model (default: Ray's folder of the trial)."""
        self.data, self.encoder, self.settings = data, encoder, settings
        self._workdir = workdir
        self._start(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Become another trial of the same strategy, as if newly set up."""
        self._start(new_config)
        return True

    def _start(self, config: Mapping[str, Any]) -> None:
        self.hyperparameters: Mapping[str, Any] = config["hyperparameters"]
        self.seed: int = config["seed"]
        self.teacher_folder = Folder(config["teacher"]) if config.get("teacher") else None
        self.results: list[dict[str, Any]] = []
        self._best: tuple[float, State] | None = None
        keep_freed_memory()
        torch.set_num_threads(self.settings.threads)
        torch.manual_seed(self.seed)
        self.model = self.build_model().to(self.settings.device)
        self._class_weights = (
            None
            if self.data.class_weights is None
            else torch.tensor(self.data.class_weights, device=self.settings.device)
        )
        if self.epochs:
            train_seen_words(self.model, self.data.training_tokens)
            self.optimizer = self._build_optimizer()
            self.schedule = get_scheduler(
                self.hyperparameters.get("lr_schedule", "linear"),
                self.optimizer,
                num_warmup_steps=round(self.hyperparameters.get("warmup_ratio", 0.0) * self.total_steps),
                num_training_steps=self.total_steps,
            )

    # What a strategy may change

    @property
    def epochs(self) -> int:
        """Training epochs; 0 where nothing is trained."""
        return self.settings.epochs

    @property
    def selectable(self) -> bool:
        """Whether the model as it stands could be deployed."""
        return True

    @property
    def precision(self) -> str:
        """Of the forward passes in training; weights, losses and what is deployed are float32 whatever it is."""
        if self.settings.precision != "auto":
            return self.settings.precision
        return "bfloat16" if has_bfloat16(self.settings.device) else "float32"

    def build_model(self) -> nn.Module:
        """The model to train, in the state that training starts from."""
        model = self.encoder.build()
        encoder.set_dropout(model, self.hyperparameters["dropout"])
        return model

    def forward(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """(batch, classes) logits that the model in training gives for a batch of its inputs."""
        logits: torch.Tensor = self.model(**batch).logits
        return logits

    def loss(self, logits: torch.Tensor, labels: torch.Tensor, index: NDArray[np.int64]) -> torch.Tensor:
        """Loss of one batch; ``index`` are the rows of the training examples in it."""
        return functional.cross_entropy(
            logits,
            labels,
            weight=self._class_weights,
            label_smoothing=self.hyperparameters.get("label_smoothing", 0.0),
        )

    def before_step(self, done: float) -> None:
        """Called before each optimisation step with the fraction of training done after it, in (0, 1]."""

    def after_backward(self) -> None:
        """Called before each optimisation step, when the gradients are there."""

    def deploy(self, directory: Path) -> None:
        """Write the trained model as it is to be deployed."""
        assert isinstance(self.model, PreTrainedModel)
        deploy_torch(self.model, directory, self.data)

    # Training

    def load_teacher(self) -> PreTrainedModel:
        """The deployed model of the run's best baseline."""
        assert self.teacher_folder is not None, "this strategy needs a teacher"
        with self.teacher_folder.local("deployed") as directory:
            teacher = load_model(directory)
        if self.reads_teacher_logits:
            teacher = teacher.to(self.settings.device)  # type: ignore[arg-type]
            self._teacher_logits = teacher_logits(self.teacher_folder, teacher, self.data).to(self.settings.device)
        return teacher

    def teacher_logits_of(self, index: NDArray[np.int64]) -> torch.Tensor:
        """(batch, classes) logits of the teacher for these training examples, once it has been loaded."""
        return self._teacher_logits[self._on_device(torch.from_numpy(index))]

    def distilled(self, logits: torch.Tensor, hard_loss: torch.Tensor, index: NDArray[np.int64]) -> torch.Tensor:
        """Loss of one batch against labels (``hard_loss``) and teacher, as the configuration weighs them."""
        alpha, temperature = self.hyperparameters["alpha"], self.hyperparameters["temperature"]
        return distillation_loss(logits, self.teacher_logits_of(index), hard_loss, alpha, temperature)

    @property
    def batch_size(self) -> int:
        return int(self.hyperparameters["batch_size"])

    @property
    def learning_rate(self) -> float:
        """The highest rate, which the schedule starts from after its warm-up."""
        return float(self.hyperparameters["learning_rate"])

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(len(self.data.train) / self.batch_size)

    @property
    def total_steps(self) -> int:
        return self.epochs * self.steps_per_epoch

    def _build_optimizer(self) -> torch.optim.Optimizer:
        trained = [p for p in self.model.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in trained if p.ndim >= 2], "weight_decay": self.hyperparameters["weight_decay"]},
            {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},  # biases and layer norms
        ]
        return torch.optim.AdamW(groups, lr=self.learning_rate, fused=True)

    def step(self) -> dict[str, Any]:
        """One epoch with its validation figures, or the deployment; a failure ends the trial with its reason."""
        start = time.perf_counter()
        try:
            result = self._train_epoch() if len(self.results) < self.epochs else self._finish()
        except TrialError as failure:
            return {"failed": str(failure), "done": True, "f1": math.nan, "epoch": len(self.results)}
        result["seconds"] = time.perf_counter() - start
        if "final" not in result:
            self.results.append(result)
        return result

    def _train_epoch(self) -> dict[str, Any]:
        epoch = len(self.results) + 1
        self.model.train()
        batches = shuffled_batches(self.data.train, self.batch_size, np.random.default_rng((self.seed, epoch)))
        total = torch.zeros((), device=self.settings.device)
        for number, index in enumerate(batches):
            self.before_step(((epoch - 1) * self.steps_per_epoch + number + 1) / self.total_steps)
            for part in np.array_split(index, min(self.settings.parts, len(index))):
                total += self._backward(part, len(part) / len(index)) * len(index)
            self.after_backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.max_grad_norm)
            self.optimizer.step()
            self.schedule.step()
            self.optimizer.zero_grad()
        train_loss = float(total) / len(self.data.train)
        if not math.isfinite(train_loss):
            raise TrialError(f"non-finite loss in epoch {epoch}")
        metrics = self._validate()
        overall = {name: value for name, value in metrics.items() if name != "per_symptom"}
        if self.selectable and (self._best is None or metrics["f1"] > self._best[0]):
            self._best = (metrics["f1"], {name: t.clone() for name, t in self._trained_state().items()})
        return {"epoch": epoch, **overall, "train_loss": train_loss, "selectable": self.selectable}

    def _backward(self, index: NDArray[np.int64], share: float) -> torch.Tensor:
        """Add the gradients of a part of a batch; returns its share of the batch's loss."""
        batch = collate(self.data.train, index, self.data.pad_token_id)
        batch = {name: self._on_device(tensor) for name, tensor in batch.items()}
        labels = batch.pop("labels")
        with self._autocast():
            logits = self.forward(batch)
        loss = self.loss(logits.float(), labels, index) * share
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def _on_device(self, tensor: torch.Tensor) -> torch.Tensor:
        """A GPU copies it from pinned memory while it still works on the step before."""
        if self.settings.device == "cpu":
            return tensor
        return tensor.pin_memory().to(self.settings.device, non_blocking=True)

    def _validate(self) -> Metrics:
        """Validation figures of the model in training."""
        live = TorchDeployed(self.model, {})  # type: ignore[arg-type]
        with self._autocast():
            logits = predict(live.logits, self.data.validation, self.data.pad_token_id)
        return self._scores(logits)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.settings.device, torch.bfloat16, enabled=self.precision == "bfloat16")

    def _scores(self, logits: NDArray[np.float32]) -> Metrics:
        if not np.isfinite(logits).all():
            raise TrialError("non-finite logits on validation")
        return classification_metrics(self.data.validation.labels, softmax(logits), self.data.symptoms)

    def _finish(self) -> dict[str, Any]:
        """Deploy the best epoch's model and report the figures of what was written."""
        if self._best is not None:
            self._load_trained_state(self._best[1])
        restore_words(self.model)
        self.model.eval()
        directory = (self._workdir or Path(self.logdir)) / "deployed"
        directory.mkdir(parents=True, exist_ok=True)
        self.deploy(directory)
        deployed = load_deployed(directory, self.settings.threads, self.settings.device)
        metrics = self._scores(predict(deployed.logits, self.data.validation, self.data.pad_token_id))
        final = {
            "validation": metrics,
            **figures_of(deployed.card),
            "precision": self.precision,
            "epoch": self._best_epoch(),
            "seconds": sum(result["seconds"] for result in self.results),
        }
        return {"epoch": len(self.results), "f1": metrics["f1"], "final": final, "done": True}

    def _best_epoch(self) -> int:
        chosen = [result for result in self.results if result["selectable"]]
        return int(max(chosen, key=lambda result: result["f1"])["epoch"]) if chosen else 0

    # Checkpoints: safetensors and JSON, nothing that unpickling could run

    def _trained_state(self) -> State:
        """The tensors that training changes: trained parameters and buffers."""
        trained = {name for name, p in self.model.named_parameters() if p.requires_grad}
        frozen = {name for name, p in self.model.named_parameters() if not p.requires_grad}
        state = self.model.state_dict()
        return {name: t.detach() for name, t in state.items() if name in trained or name not in frozen}

    def _load_trained_state(self, state: State) -> None:
        unexpected = self.model.load_state_dict(state, strict=False).unexpected_keys
        if unexpected:
            raise TrialError(f"the checkpoint has tensors that the model lacks ({unexpected[0]}, …)")

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write model, best weights so far, optimizer, schedule, random state and results."""
        directory = Path(checkpoint_dir)
        _save(self._trained_state(), directory / "model.safetensors")
        if self._best is not None and self._best_epoch() != len(self.results):
            _save(self._best[1], directory / "best.safetensors")
        optimizer = self.optimizer.state_dict()["state"]
        tensors = {f"{i}.{name}": t for i, values in optimizer.items() for name, t in values.items()}
        _save(tensors | _random_states(self.settings.device), directory / "training.safetensors")
        schedule = {k: v for k, v in self.schedule.state_dict().items() if k != "lr_lambdas"}
        state = {"results": self.results, "schedule": schedule, "best_f1": self._best[0] if self._best else None}
        (directory / "state.json").write_text(json.dumps(state))

    def load_checkpoint(self, checkpoint: str) -> None:  # type: ignore[override]
        """Continue where ``save_checkpoint`` left off."""
        directory = Path(checkpoint)
        state = json.loads((directory / "state.json").read_text())
        model = load_file(directory / "model.safetensors")
        self._load_trained_state(model)
        self.results = state["results"]
        if state["best_f1"] is not None:
            best = directory / "best.safetensors"
            self._best = (state["best_f1"], load_file(best) if best.exists() else model)
        tensors = load_file(directory / "training.safetensors")
        torch.set_rng_state(tensors.pop("random.torch"))
        on_gpu = tensors.pop("random.cuda", None)
        if on_gpu is not None and self.settings.device == "cuda":
            torch.cuda.set_rng_state(on_gpu)
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for key, tensor in tensors.items():
            position, _, name = key.partition(".")
            moments.setdefault(int(position), {})[name] = tensor
        self.schedule.load_state_dict(state["schedule"] | {"lr_lambdas": [None] * len(self.optimizer.param_groups)})
        groups = self.optimizer.state_dict()["param_groups"]
        for group, rate in zip(groups, state["schedule"]["_last_lr"], strict=True):
            group["lr"] = rate
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})


def has_bfloat16(device: str) -> bool:
    """Whether the device, "cpu" or "cuda", multiplies in bfloat16 faster than in float32."""
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def _random_states(device: str) -> State:
    states = {"random.torch": torch.get_rng_state()}
    return states | ({"random.cuda": torch.cuda.get_rng_state()} if device == "cuda" else {})


def _save(tensors: State, path: Path) -> None:
    save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, path)
