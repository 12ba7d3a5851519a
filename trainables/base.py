"""What all strategies share: the training loop, checkpoints, and the deployed model at a trial's end."""

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedModel, get_scheduler

from clinical_notes.batches import TrialData, collate, shuffled_batches
from run_folder.folder import Folder
from run_folder.records import from_plain, to_plain
from run_folder.results import DeployedResult, EpochResult, Metrics, ModelFacts
from run_folder.settings import DeployedEpoch
from trainables.parts.calibration import logit_scale
from trainables.parts.deployed import TorchRunner, deploy_torch, predict
from trainables.parts.model import encoder
from trainables.parts.model.encoder import EncoderWeights
from trainables.parts.model.stored import load_model
from trainables.parts.open_deployed import load_deployed
from trainables.parts.tasks import TASKS, Task, WholeTexts, probabilities_of_texts, whole_texts
from trainables.parts.training.freed_memory import keep_freed_memory
from trainables.parts.training.seen_words import restore_words, train_seen_words
from trainables.parts.training.teaching import distillation_loss, teacher_logits

Hyperparameters = Mapping[str, Any]
"""One configuration of a strategy: names of its search space to numbers, booleans or strings."""

State = dict[str, torch.Tensor]


class TrialError(Exception):
    """A trial cannot continue; the message is its recorded reason."""


@dataclass(frozen=True)
class TrialConfig:
    """What is one trial's own.

    Attributes:
        hyperparameters: as the strategy's search space names them.
        seed: of the new weights, the order of the batches, and dropout.
        teacher: folder of the baseline's trial that it starts from; None where the strategy needs none.
    """

    hyperparameters: Hyperparameters
    seed: int
    teacher: Folder | None = None


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
        parts: number of parts in which a batch is computed, to take less memory. Their gradients add up to the
            batch's (with class weights nearly: each part is weighted by its size).
        deploy: which epoch's model is deployed.
        patience: training ends after this many epochs in a row that gain nothing (see ``has_learned``); 0: never.
    """

    epochs: int
    threads: int = 1
    device: str = "cpu"
    reduce_range: bool = False
    precision: str = "float32"
    max_grad_norm: float = 1.0
    parts: int = 1
    deploy: DeployedEpoch = "best"
    patience: int = 0


LEAST_F1_GAIN = 0.001
"""An epoch gains where validation macro F1 rises by this much above that of the last such gain …"""
LEAST_LOSS_GAIN = 0.01
"""… or the validation loss falls by this share below that of the last such gain."""


def has_learned(results: Sequence[EpochResult], patience: int, warm_up: float = 0.0) -> bool:
    """Whether the last ``patience`` epochs gained nothing on validation (early stopping, Prechelt 1998).

    Epochs count once the learning rate has risen, and from the first whose model could be deployed: before that, what
    a model loses is its compression. What an epoch gained is measured from the last that counted as a gain, so that
    small gains add up. A loss that is unknown (older results) gains nothing.

    Args:
        results: the epochs in order.
        patience: 0: never.
        warm_up: epochs in which the learning rate rises.
    """
    best_f1, lowest_loss, without_gain = -math.inf, math.inf, 0
    for result in results:
        if not result.selectable or result.epoch <= warm_up:
            continue
        loss = math.inf if result.validation_loss is None else result.validation_loss
        without_gain += 1
        if result.f1 >= best_f1 + LEAST_F1_GAIN:
            best_f1, without_gain = result.f1, 0
        if loss < lowest_loss * (1 - LEAST_LOSS_GAIN):
            lowest_loss, without_gain = loss, 0
    return 0 < patience <= without_gain


class Trial:
    """One configuration of a strategy, being trained: ``epoch`` until ``is_trained``, then ``deploy``.

    A strategy is a subclass that overrides what it does differently.

    Args:
        config: what is this trial's own.
        data: training and validation examples.
        encoder: the pretrained encoder; its arrays are copied, not changed.
        settings: what all trials of the run share.

    Raises:
        TrialError: the configuration cannot be trained.
    """

    needs_teacher: ClassVar[bool] = False
    """Whether its trials start from the run's best baseline."""
    reads_teacher_logits: ClassVar[bool] = False
    """Whether its trials read the teacher's logits of the training examples; the first to start computes them."""
    scheme_notes: ClassVar[Mapping[str, str]] = {}
    """By scheme, as its models' cards name it: a sentence on what a reader must know of it."""

    results: list[EpochResult]
    """The finished epochs."""

    def __init__(self, config: TrialConfig, data: TrialData, encoder: EncoderWeights, settings: TrainSettings) -> None:
        self.data, self.encoder, self.settings = data, encoder, settings
        self.hyperparameters, self.seed, self.teacher_folder = config.hyperparameters, config.seed, config.teacher
        self.results = []
        self._chosen: tuple[float, State] | None = None  # macro F1 and tensors of the epoch to deploy
        torch.set_num_threads(self.settings.threads)
        torch.manual_seed(self.seed)
        self.model: nn.Module = self.build_model().to(self.settings.device)
        self._class_weights = (
            None
            if self.data.class_weights is None
            else torch.tensor(self.data.class_weights, device=self.settings.device)
        )
        if self.epochs:
            keep_freed_memory()
            train_seen_words(self.model, self.data.training_tokens)
            self.optimizer = self._build_optimizer()
            self.schedule = get_scheduler(
                self.hyperparameters.get("lr_schedule", "linear"),
                self.optimizer,
                num_warmup_steps=round(self.warmup_ratio * self.total_steps),
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
        """Number format of forward passes in training, "float32" or "bfloat16"; the rest is float32 in any case."""
        if self.settings.precision != "auto":
            return self.settings.precision
        return "bfloat16" if has_bfloat16(self.settings.device) else "float32"

    @classmethod
    def starts_from_teacher(cls, hyperparameters: Hyperparameters) -> bool:
        """Whether the model starts from the teacher's weights, so that the teacher's training counts as its own."""
        return cls.needs_teacher

    def build_model(self) -> nn.Module:
        """The model to train, in the state that training starts from."""
        model = self.encoder.build()
        encoder.set_dropout(model, self.hyperparameters["dropout"])
        return model

    def forward(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """(batch, classes) logits of the model in training for ``input_ids`` and ``attention_mask`` (batch, length)."""
        logits: torch.Tensor = self.model(**batch).logits
        return logits

    def loss(self, logits: torch.Tensor, labels: torch.Tensor, index: NDArray[np.int64]) -> torch.Tensor:
        """() mean loss of one batch.

        Args:
            logits: (batch, classes), float32.
            labels: (batch,) class indices, or (batch, classes) of a multilabel task.
            index: (batch,) rows of the training examples.
        """
        return self.task.loss(logits, labels, self._class_weights, self.hyperparameters.get("label_smoothing", 0.0))

    def before_step(self, done: float) -> None:
        """Called before each optimisation step with the fraction of training done after it, in (0, 1]."""

    def after_backward(self) -> None:
        """Called before each optimisation step, when the batch's gradients are in the model."""

    def write_model(self, directory: Path) -> None:
        """Write the trained model, in evaluation mode, as it is to be deployed; ``directory`` exists."""
        deploy_torch(self.transformer, directory, self.data)

    # What a strategy may use

    @property
    def task(self) -> Task:
        """What the model is asked."""
        return TASKS[self.data.task]

    @property
    def transformer(self) -> PreTrainedModel:
        """The model in training, where nothing is wrapped around it."""
        assert isinstance(self.model, PreTrainedModel)
        return self.model

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
        """(batch, classes) logits of the teacher, loaded before, for these rows of the training examples."""
        return self._teacher_logits[self._on_device(torch.from_numpy(index))]

    def distilled(self, logits: torch.Tensor, hard_loss: torch.Tensor, index: NDArray[np.int64]) -> torch.Tensor:
        """() loss of one batch from labels (``hard_loss``) and teacher, weighted by the configuration's ``alpha``."""
        alpha, temperature = self.hyperparameters["alpha"], self.hyperparameters["temperature"]
        soft_loss = self.task.divergence(logits, self.teacher_logits_of(index), temperature)
        return distillation_loss(soft_loss, hard_loss, alpha, temperature)

    @property
    def batch_size(self) -> int:
        return int(self.hyperparameters["batch_size"])

    @property
    def learning_rate(self) -> float:
        """The highest rate, reached at the end of the warm-up."""
        return float(self.hyperparameters["learning_rate"])

    @property
    def warmup_ratio(self) -> float:
        """Share of the steps in which the learning rate rises from 0."""
        return float(self.hyperparameters.get("warmup_ratio", 0.0))

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

    # Training

    @property
    def is_trained(self) -> bool:
        """Whether all epochs are finished, or the last ones gained nothing."""
        warm_up = self.warmup_ratio * self.epochs
        return len(self.results) >= self.epochs or has_learned(self.results, self.settings.patience, warm_up)

    def epoch(self) -> EpochResult:
        """Train one epoch, then validate.

        Raises:
            TrialError: the loss, or a logit on validation, is not finite.
        """
        start = time.perf_counter()
        number = len(self.results) + 1
        train_loss = self._train(number)
        metrics, loss = self.validate()
        if self.selectable and self._is_better(metrics.f1):
            self._chosen = (metrics.f1, {name: t.clone() for name, t in self._trained_state().items()})
        result = EpochResult(
            epoch=number,
            f1=metrics.f1,
            accuracy=metrics.accuracy,
            precision=metrics.precision,
            recall=metrics.recall,
            auroc=metrics.auroc,
            train_loss=train_loss,
            selectable=self.selectable,
            seconds=time.perf_counter() - start,
            validation_loss=loss,
            per_symptom=metrics.per_symptom,
        )
        self.results.append(result)
        return result

    def _is_better(self, f1: float) -> bool:
        """Whether the epoch that has just ended is to be deployed rather than one before."""
        return self._chosen is None or self.settings.deploy == "last" or f1 > self._chosen[0]

    def _train(self, epoch: int) -> float:
        """Train on all examples once; returns the mean loss of an example."""
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
        return train_loss

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
        """Pinned memory lets a GPU copy while it still computes the previous step."""
        if self.settings.device == "cpu":
            return tensor
        return tensor.pin_memory().to(self.settings.device, non_blocking=True)

    def validate(self) -> tuple[Metrics, float]:
        """Validation figures and loss of the model in training. Raises: TrialError: a logit is not finite."""
        live = TorchRunner(self.model)  # type: ignore[arg-type]
        with self._autocast():
            logits = predict(live.logits, self.data.validation, self.data.pad_token_id)
        return self._scores(logits)[0], self._validation_loss(logits)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.settings.device, torch.bfloat16, enabled=self.precision == "bfloat16")

    def _texts(self, logits: NDArray[np.float32]) -> WholeTexts:
        """The validation texts. Raises: TrialError: a logit is not finite."""
        if not np.isfinite(logits).all():
            raise TrialError("non-finite logits on validation")
        examples, probabilities = self.data.validation, self.task.probabilities(logits)
        return whole_texts(examples.ids, examples.notes, examples.labels, probabilities, self.data.note_rule)

    def _temperatures(self, logits: NDArray[np.float32]) -> Mapping[str, float] | None:
        """By symptom, what the task divides these logits of the validation examples by. Raises: as ``_texts``."""
        of_texts = probabilities_of_texts(self.data.validation.notes, self.data.note_rule)
        return self._by_symptom(self.task.temperatures(self._texts(logits).labels, logits, of_texts))

    def _by_symptom(self, values: NDArray[np.float64] | None) -> Mapping[str, float] | None:
        return None if values is None else dict(zip(self.data.symptoms, values.tolist(), strict=True))

    def _scores(self, logits: NDArray[np.float32]) -> tuple[Metrics, NDArray[np.float64] | None]:
        """Validation figures, and the thresholds that they are at. Raises: as ``_texts``."""
        found = self._texts(logits)
        thresholds = self.task.thresholds(found.labels, found.probabilities, self.data.sensitivity)
        return self.task.metrics(found.labels, found.probabilities, self.data.symptoms, thresholds), thresholds

    def _validation_loss(self, logits: NDArray[np.float32]) -> float:
        """Mean over the validation examples, without smoothing and weights: comparable between trials."""
        return float(self.task.loss(torch.tensor(logits), torch.tensor(self.data.validation.labels), None, 0.0))

    def deploy(self, directory: Path) -> DeployedResult:
        """Write the chosen epoch's model to ``directory`` and measure what was written; the trial ends with it.

        Raises:
            TrialError: a logit of the written model is not finite.
        """
        if self._chosen is not None:
            self._load_trained_state(self._chosen[1])
        restore_words(self.model)
        self.model.eval()
        directory.mkdir(parents=True, exist_ok=True)
        self.write_model(directory)
        deployed = load_deployed(directory, self.settings.threads, self.settings.device)
        facts = {field.name: getattr(deployed.card, field.name) for field in fields(ModelFacts)}
        logits = predict(deployed.logits, self.data.validation, self.data.pad_token_id)
        temperatures = self._temperatures(logits)
        scale = logit_scale(temperatures, self.data.symptoms)
        metrics, thresholds = self._scores(logits if scale is None else logits * scale)
        return DeployedResult(
            **facts,
            validation=metrics,
            thresholds=self._by_symptom(thresholds),
            temperatures=temperatures,
            precision=self.precision,
            epoch=self._chosen_epoch(),
            seconds=sum(result.seconds for result in self.results),
            sha256=deployed.card.sha256,
            validation_loss=self._validation_loss(logits),
        )

    def _chosen_epoch(self) -> int:
        selectable = [result for result in self.results if result.selectable]
        if not selectable:
            return 0
        last, best = selectable[-1], max(selectable, key=lambda result: result.f1)
        return (last if self.settings.deploy == "last" else best).epoch

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

    def save(self, directory: Path) -> None:
        """Write a checkpoint: model, weights to deploy so far, optimizer, schedule, random state and results.

        Args:
            directory: exists.
        """
        _save(self._trained_state(), directory / "model.safetensors")
        if self._chosen is not None and self._chosen_epoch() != len(self.results):
            _save(self._chosen[1], directory / "best.safetensors")
        optimizer = self.optimizer.state_dict()["state"]
        tensors = {f"{i}.{name}": t for i, values in optimizer.items() for name, t in values.items()}
        _save(tensors | _random_states(self.settings.device), directory / "training.safetensors")
        schedule = {k: v for k, v in self.schedule.state_dict().items() if k != "lr_lambdas"}
        state = {
            "results": to_plain(self.results),
            "schedule": schedule,
            "best_f1": self._chosen[0] if self._chosen else None,
        }
        (directory / "state.json").write_text(json.dumps(state))

    def load(self, directory: Path) -> None:
        """Continue from a checkpoint that ``save`` wrote.

        Raises:
            TrialError: it is a checkpoint of another model.
            InputError: its results are not those of epochs.
        """
        state = json.loads((directory / "state.json").read_text())
        model = load_file(directory / "model.safetensors")
        self._load_trained_state(model)
        self.results = from_plain(state["results"], list[EpochResult], str(directory / "state.json"))
        if state["best_f1"] is not None:
            best = directory / "best.safetensors"
            self._chosen = (state["best_f1"], load_file(best) if best.exists() else model)
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
