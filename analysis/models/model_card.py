"""The model card of an exported model: what it is, what it was trained on, how good it is, what it is not for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from analysis.evaluation.costs import ModelCosts
from analysis.evaluation.predictions import TEST, VALIDATION
from analysis.statistics.resampling import METRICS
from run_folder.results import Agreement, Int8Facts, Metrics, ModelFacts, Scores
from trainables import scheme_note

PyTorchForm = Literal["stock", "own", "none"]
"""How PyTorch loads a model: as any Hugging Face model, by symptune's loader, or not at all (INT8 graphs)."""

_LICENCES = {"all-MiniLM-L6-v2": "Apache-2.0", "emilyalsentzer/Bio_ClinicalBERT": "MIT"}

_PYTORCH: Mapping[PyTorchForm, str] = {
    "stock": """As any Hugging Face model (give it texts in lower case without punctuation, as `input.json` says; `symptune
predict` does that by itself):

```python
from transformers import pipeline
classify = pipeline("text-classification", model="DIR", top_k=None, truncation=True)
```
""",
    "own": """In PyTorch, by symptune's loader, since no stock configuration describes this model's layers or storage:

```python
from analysis.models.export import load_pytorch
model = load_pytorch("DIR")
```
""",
    "none": """An INT8 model has no PyTorch form: `model.onnx` is the model.
""",
}


@dataclass(frozen=True, kw_only=True)
class DeployedFacts(ModelFacts):
    """What the exported model is, and how it was trained; see ``DeployedResult``."""

    precision: str
    epoch: int
    seconds: float
    thresholds: Mapping[str, float] | None = None
    temperatures: Mapping[str, float] | None = None


@dataclass(frozen=True, kw_only=True)
class ExportRecord:
    """What the ``metrics.json`` of an exported folder holds.

    Attributes:
        settings: of the run.
        counts: by split and symptom, examples that report it; patients, examples: by split.
        notes: by split, where the examples are windows of notes.
        agreement: see ``onnx_graphs.agreement``.
        cost: on the CPU; gpu_cost: on the GPU; None where it was not measured.
        kept_word_embeddings: rows of a cut vocabulary; None where it is whole.
        sha256: by file of the folder.
    """

    format: int
    run: str
    trial: str
    strategy: str
    hyperparameters: Mapping[str, Any]
    seed: int
    base_model: str
    data_fingerprint: str
    settings: Mapping[str, Any]
    versions: Mapping[str, str]
    counts: Mapping[str, Mapping[str, int]]
    patients: Mapping[str, int]
    examples: Mapping[str, int]
    notes: Mapping[str, int] | None = None
    model: DeployedFacts
    agreement: Agreement | None
    cost: ModelCosts | None
    cost_measured_on: str | None
    gpu_cost: ModelCosts | None
    gpu_cost_measured_on: str | None
    validation: Metrics
    test: Metrics
    kept_word_embeddings: int | None
    sha256: Mapping[str, str]


def model_card(record: ExportRecord, form: PyTorchForm) -> str:
    """The card of an exported model, in Markdown."""
    licence = _LICENCES.get(record.base_model)
    symptoms = list(record.test.per_symptom)
    sections = [
        _front_matter(licence, form),
        f"# {record.strategy} model for symptoms in clinical notes: {', '.join(symptoms)}\n",
        f"Trial `{record.trial}` of run `{record.run}`, made with symptune {record.versions['symptune']} "
        f"from `{record.base_model}`. It tells which of these symptoms a text reports.\n",
        _use(form),
        _data(record),
        "## Figures\n\nEvery figure is that of the files in this folder, not of a model before compression.\n",
        _table(
            ("set", *METRICS),
            [(VALIDATION, *_scores(record.validation, METRICS)), (TEST, *_scores(record.test, METRICS))],
        ),
        "Test set, one symptom against the rest:\n",
        _table(
            ("symptom", *METRICS[1:]),
            [(name, *_scores(record.test.per_symptom[name], METRICS[1:])) for name in symptoms],
        ),
        _size(record),
        _limits(record),
        f"## Licence\n\nBase model: {licence or 'see the licence of ' + record.base_model}. If the notes came from "
        "MIMIC-III, its data use agreement covers this model too: share it with credentialed users alone.\n",
    ]
    return "\n".join(sections)


def _front_matter(licence: str | None, form: PyTorchForm) -> str:
    library = "transformers" if form == "stock" else "onnx"
    lines = [
        "language: en",
        f"library_name: {library}",
        "pipeline_tag: text-classification",
        "tags: [clinical, symptune]",
    ]
    if licence:
        lines.append(f"license: {licence.lower()}")
    return "---\n" + "\n".join(lines) + "\n---\n"


def _use(form: PyTorchForm) -> str:
    return f"""## Use

```bash
symptune predict DIR NOTES.csv --out LABELS.csv
```

or `model.onnx` with ONNX Runtime alone: inputs `input_ids` and `attention_mask` (batch, length) from the tokenizer in
this folder, output `logits` (batch, symptoms) in the order of `config.json`'s labels. Latencies below are those of
`InferenceSession(..., disabled_optimizers=["SkipLayerNormFusion"])`, which is faster.

{_PYTORCH[form]}"""


def _data(record: ExportRecord) -> str:
    settings = record.settings
    sizes = (
        {"examples": record.examples} if record.notes is None else {"notes": record.notes, "windows": record.examples}
    )
    sizes["patients"] = record.patients
    rows = [
        (split, *(of[split] for of in sizes.values()), ", ".join(f"{s} {n:,}" for s, n in counts.items()))
        for split, counts in record.counts.items()
    ]
    made = "from a lexicon and rules, not from clinicians"
    if settings["unit"] == "row":
        made = f"from the table ({', '.join(settings['labels'])})"
        what = "one row of a table, with the labels that the table has"
    elif record.model.thresholds and settings["unit"] == "note":
        what = "one window of a note, with all symptoms that it affirms, or none; test figures are of whole notes"
    elif record.model.thresholds:
        what = "one sentence, with all symptoms that it affirms, or none; validation and test are whole notes"
    elif settings["unit"] == "sentence":
        what = "one sentence, with the one symptom that it affirms"
    else:
        what = f"the first {settings['window_chars']:,} characters of a note, with the symptom that it affirms first"
    return (
        f"## Data and protocol\n\nNotes: {_names_of(settings['notes'])}; fingerprint of the examples "
        f"`{record.data_fingerprint[:16]}…`. An example is {what}. Negated mentions: {settings['negated']}; names of "
        f"the symptoms: {settings['mentions']}. Labels come {made}. Patients are "
        "split into train, validation and test; the configuration was chosen on validation, and test was opened after.\n\n"
        + _table(("split", *sizes, "by symptom"), rows)
    )


def _names_of(notes: str | Sequence[str]) -> str:
    """Names of the tables, without their folders."""
    paths = [notes] if isinstance(notes, str) else notes
    return ", ".join(f"`{Path(path).name}`" for path in paths)


def _size(record: ExportRecord) -> str:
    model, cost, near = record.model, record.cost, record.agreement
    lines = [
        f"- {model.parameters:,} parameters, {model.nonzero_parameters:,} of them not zero",
        f"- {model.bytes / 1e6:,.1f} MB of weights on disk",
        f"- {model.macs / 1e6:,.1f} M multiply–accumulates for a text of {model.macs_length} tokens",
    ]
    if cost:
        memory = f"{cost.peak_memory_bytes / 1e6:,.0f} MB of memory at its peak; " if cost.peak_memory_bytes else ""
        lines.append(f"{_speed(cost)}, {memory}one thread of {record.cost_measured_on}")
    if record.gpu_cost:
        lines.append(f"{_speed(record.gpu_cost)}, on {record.gpu_cost_measured_on}")
    rows = record.kept_word_embeddings
    if rows:
        lines.append(
            f"- its vocabulary is cut to the {rows:,} tokens of the training texts; every other token is read as unknown, "
            "so that texts of another domain lose words"
        )
    if near:
        before = "PyTorch" if model.runtime == "torch" else "the model before it was rounded to INT8"
        lines.append(
            f"- against {before} the largest difference of a logit is {near.max_logit_difference:.2g}, "
            f"and {near.same_predictions:.2%} of the validation predictions are the same"
        )
    if model.runtime != "torch":
        lines.append("- " + _int8(record))
    note = scheme_note(record.strategy, model.scheme)
    if note:
        lines.append(f"- {model.scheme}: {note}")
    return "## Size and cost\n\n" + "\n".join(lines) + "\n"


def _speed(cost: ModelCosts) -> str:
    return (
        f"- latency of one text {cost.latency_median * 1e3:.2f} ms (95th percentile {cost.latency_p95 * 1e3:.2f} ms), "
        f"{cost.throughput:,.0f} texts a second in batches of 32"
    )


def _int8(record: ExportRecord) -> str:
    model, facts = record.model, _int8_facts(record)
    fine = "one scale per output channel" if facts.per_channel else "one scale per tensor"
    embeddings = "INT8" if facts.embeddings else "FP32"
    needs = (
        ""
        if facts.weight_bits == 7
        else "; on a CPU without VNNI or AMX its sums may overflow (search with 7-bit weights then)"
    )
    together = "" if facts.static else "; the figures of a text move a little with those in its batch"
    return (
        f"INT8 by `{model.scheme}`, {fine}, weights of {facts.weight_bits} bits, embeddings {embeddings}, "
        f"{len(model.fp32_layers or ())} Linear layers left FP32{needs}{together}"
    )


def _int8_facts(record: ExportRecord) -> Int8Facts:
    """As the deployed model's card says; a model of an older version, as its configuration says."""
    if record.model.int8 is not None:
        return record.model.int8
    chosen = record.hyperparameters
    return Int8Facts(
        weight_bits=7 if record.settings["reduce_range"] else 8,
        per_channel=chosen["per_channel"],
        embeddings=chosen["quantize_embeddings"],
        static=chosen["scheme"] == "ptq_static",
    )


def _limits(record: ExportRecord) -> str:
    return f"""## Intended use and limits

For research and for sorting notes by the symptom that they report, with a person who checks. Not for diagnosis, triage
or treatment, and not for texts unlike those it was trained on: another hospital, speciality or language. {_answers(record)} Its labels inherit
the errors of what made them.
"""


def _answers(record: ExportRecord) -> str:
    """What a text may be told to report."""
    thresholds = record.model.thresholds
    if thresholds is None:
        number = len(record.test.per_symptom)
        return f"It always names one of its {number} symptoms, also for a text that reports none or several."
    temperatures = record.model.temperatures
    calibrated = (
        f" Its logits are divided already by a temperature for each symptom, fitted on validation: "
        f"{_each(temperatures)}."
        if temperatures
        else ""
    )
    return (
        "It says of each symptom by itself whether a text affirms it, so none, one or several. It says yes from these "
        f"probabilities on, chosen on validation: {_each(thresholds)}.{calibrated}"
    )


def _each(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in values.items())


def _scores(metrics: Scores, names: Sequence[str]) -> list[str]:
    values: list[float | None] = [getattr(metrics, name) for name in names]
    return ["not defined" if value is None else f"{value:.4f}" for value in values]


def _table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join(
        "| " + " | ".join(f"{c:,}" if isinstance(c, int) else str(c) for c in line) + " |\n" for line in lines
    )
