"""Exported folders: what is in them, that they stand alone, that they say what was reported, that changes are seen."""

import dataclasses
import io
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pandas as pd
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

import symptune
from analysis.evaluation.costs import read_costs
from analysis.evaluation.evaluate import read_evaluation
from analysis.evaluation.gold import evaluate_gold, read_labels
from analysis.evaluation.onnx_graphs import agreement, onnx_file, tokenised
from analysis.evaluation.predictions import read_predictions
from analysis.models.export import check_export, export, load_pytorch
from analysis.models.label_texts import (
    ExportedModel,
    LabelFormat,
    Text,
    label,
    rows_of_file,
    rows_of_lines,
    writer_to,
)
from clinical_notes.inputs import InputMaker
from clinical_notes.tables.columns import TEXTS_ALONE, NoteColumns
from run_folder.errors import InputError
from run_folder.folder import Folder
from run_folder.records import to_plain
from run_folder.run import Run, RunManifest
from run_folder.settings import RunSettings
from run_folder.trials import TrialRecord
from search_spaces import STRATEGIES
from tests.tiny_runs import FinishedRun
from tests.waiting import guarded, until
from trainables.parts.deployed import OnnxRunner, TorchRunner, predict
from trainables.parts.metrics import classification_metrics, sigmoid, softmax

INT8 = ("quantization", "combined")


@pytest.fixture(scope="session")
def exported(finished: FinishedRun, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The best model of each strategy."""
    home = tmp_path_factory.mktemp("exported")
    with guarded():
        for strategy in STRATEGIES:
            export(finished.run, finished.run.best(strategy, 1)[0].name, home / strategy)
    return {strategy: home / strategy for strategy in STRATEGIES}


@pytest.fixture
def baseline(exported: dict[str, Path], tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(exported["baseline"], tmp_path / "baseline"))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_exported_graph_gives_the_reported_test_figures(
    strategy: str, finished: FinishedRun, exported: dict[str, Path]
) -> None:
    run = finished.run
    test, pad = tokenised(run, "test"), run.manifest.pad_token_id
    deployed = OnnxRunner(exported[strategy] / "model.onnx", threads=os.cpu_count() or 1)
    expected = predict(deployed.logits, test, pad)
    session = ort.InferenceSession(exported[strategy] / "model.onnx", providers=["CPUExecutionProvider"])

    def by_the_runtime_alone(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        return np.asarray(session.run(["logits"], {"input_ids": ids, "attention_mask": mask})[0])

    # Other optimisations round otherwise, and INT8 rounds coarsely.
    near = 0.1 if strategy in INT8 else 1e-5
    np.testing.assert_allclose(predict(by_the_runtime_alone, test, pad), expected, atol=near)
    found = classification_metrics(test.labels, softmax(expected), run.symptoms)
    check_export(exported[strategy])
    record = json.loads((exported[strategy] / "metrics.json").read_text())
    assert record["test"] == to_plain(found)
    name = run.best(strategy, 1)[0].name
    evaluated = read_evaluation(run, name)
    assert evaluated is not None
    assert to_plain(evaluated.test) == to_plain(found)
    assert record["validation"] == to_plain(run.trials[name].deployed.validation)


@pytest.mark.parametrize("strategy", [name for name in STRATEGIES if name not in INT8])
def test_the_pytorch_form_and_the_graph_agree(strategy: str, finished: FinishedRun, exported: dict[str, Path]) -> None:
    run = finished.run
    test, pad = tokenised(run, "test"), run.manifest.pad_token_id
    by_torch = predict(TorchRunner(load_pytorch(exported[strategy])).logits, test, pad)
    model = ExportedModel(exported[strategy])
    by_onnx = predict(model._model.logits, test, pad)
    assert np.abs(by_torch - by_onnx).max() < 1e-4
    said = json.loads((exported[strategy] / "metrics.json").read_text())["agreement"]
    assert said == to_plain(agreement(run, run.best(strategy, 1)[0].name))
    assert said["max_logit_difference"] < 1e-4
    assert said["same_predictions"] == 1.0


@pytest.fixture(scope="session")
def exported_multilabel(finished_multilabel: FinishedRun, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The best model of each strategy."""
    home, run = tmp_path_factory.mktemp("multilabel"), finished_multilabel.run
    with guarded():
        for strategy in STRATEGIES:
            export(run, run.best(strategy, 1)[0].name, home / strategy)
    return {strategy: home / strategy for strategy in STRATEGIES}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_an_exported_multilabel_model_gives_the_calibrated_figures_that_were_reported(
    strategy: str, finished_multilabel: FinishedRun, exported_multilabel: dict[str, Path]
) -> None:
    run, folder = finished_multilabel.run, exported_multilabel[strategy]
    trial = run.best(strategy, 1)[0]
    assert trial.deployed.temperatures is not None
    assert any(abs(temperature - 1) > 0.01 for temperature in trial.deployed.temperatures.values())
    test, pad = tokenised(run, "test"), run.manifest.pad_token_id
    graph = OnnxRunner(folder / "model.onnx", threads=os.cpu_count() or 1)
    probabilities = sigmoid(predict(graph.logits, test, pad))
    evaluated = read_predictions(run, trial.name, "test")
    assert evaluated is not None
    order = np.argsort(test.ids)
    np.testing.assert_array_equal(evaluated.probabilities, probabilities[order])
    record = json.loads((folder / "metrics.json").read_text())
    assert record["test"] == to_plain(evaluated.metrics(run.symptoms))
    assert record["model"]["temperatures"] == trial.deployed.temperatures
    assert "divided already by a temperature" in (folder / "README.md").read_text()
    texts = list(run.examples("test")["text"][:20])
    again = symptune.load(folder).predict(texts)
    for column, name in enumerate(run.symptoms):
        near = 0.05 if strategy in INT8 else 1e-5  # of a batch's activations, rounded together
        np.testing.assert_allclose(again[f"probability_{name}"], probabilities[:20, column], atol=near)
    if strategy not in INT8:
        by_torch = predict(TorchRunner(load_pytorch(folder)).logits, test, pad)
        np.testing.assert_allclose(sigmoid(by_torch), probabilities, atol=1e-5)
    if (folder / "model.safetensors").exists():
        for found, row in zip(pipeline("text-classification", model=str(folder), top_k=None)(texts), probabilities):  # noqa: B905
            scores = {of["label"]: of["score"] for of in found}
            np.testing.assert_allclose([scores[name] for name in run.symptoms], row, atol=1e-5)


_PAIRS = [("pain", "edema"), ("fever", "pain"), ("edema", "cough"), ("fever", "swelling")]
"""What a text affirms, and what it names after."""


def test_people_judge_what_the_exported_model_says(
    finished_multilabel: FinishedRun, exported_multilabel: dict[str, Path], tmp_path: Path
) -> None:
    run = Run(
        Folder(shutil.copytree(finished_multilabel.run.folder.uri, tmp_path / "run")), *_parts(finished_multilabel.run)
    )
    texts = [f"Ward {i}. Pt has {a}. {b.capitalize()} of the leg." for i, (a, b) in enumerate(_PAIRS * 8)]
    frame = pd.DataFrame({"text": texts, "affirmed": [a for a, _ in _PAIRS] * 8, "negated": ""})
    frame.to_csv(tmp_path / "gold.csv", index=False)
    judged = evaluate_gold(run, read_labels(run, tmp_path / "gold.csv"), "gold.csv")
    labels = symptune.load(exported_multilabel["baseline"]).predict(texts)
    said = labels[list(run.symptoms)].to_numpy() == "yes"
    reported = frame["affirmed"].to_numpy()[:, None] == np.array(run.symptoms)
    figures = judged.models[run.best("baseline", 1)[0].name]
    assert 0 < said.sum() < said.size
    assert figures.micro_precision == pytest.approx((said & reported).sum() / said.sum())
    assert figures.micro_recall == pytest.approx((said & reported).sum() / reported.sum())


def test_a_model_of_an_older_version_is_exported_as_it_was(finished_multilabel: FinishedRun, tmp_path: Path) -> None:
    """Its thresholds are of probabilities without temperatures."""
    run = Run(
        Folder(shutil.copytree(finished_multilabel.run.folder.uri, tmp_path / "run")), *_parts(finished_multilabel.run)
    )
    trial = run.best("baseline", 1)[0]
    older = dataclasses.replace(trial, final=dataclasses.replace(trial.deployed, temperatures=None))
    run = dataclasses.replace(run, trials={**run.trials, trial.name: older})
    export(run, trial.name, tmp_path / "out")
    assert (tmp_path / "out" / "model.onnx").read_bytes() == onnx_file(run, trial.name).read_bytes()
    assert "temperature" not in (tmp_path / "out" / "README.md").read_text()


def test_stock_models_load_as_any_hugging_face_model_with_symptoms_as_labels(
    finished: FinishedRun, exported: dict[str, Path]
) -> None:
    text = "pt reports pain"
    for strategy in ("baseline", "distillation"):
        folder = exported[strategy]
        stock = AutoModelForSequenceClassification.from_pretrained(folder)
        assert tuple(stock.config.id2label.values()) == finished.run.symptoms
        tokens = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")
        with torch.inference_mode():
            expected = stock(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]).logits.numpy()
        (probabilities,) = ExportedModel(folder).read([text]).probabilities
        np.testing.assert_allclose(probabilities, softmax(expected)[0], atol=1e-5)
        (rows,) = pipeline("text-classification", model=str(folder), top_k=None)([text])
        scores = {row["label"]: row["score"] for row in rows}
        np.testing.assert_allclose([scores[name] for name in finished.run.symptoms], probabilities, atol=1e-5)


@pytest.mark.parametrize("strategy", ["baseline", "distillation", "low_rank"])
def test_a_stock_pipeline_cuts_long_texts_where_the_model_was_trained_to(
    strategy: str, exported: dict[str, Path]
) -> None:
    if not (exported[strategy] / "model.safetensors").exists():
        pytest.skip("the best trial is not a stock model")
    text = " ".join(["pain fever patient"] * 60)
    classify = pipeline("text-classification", model=str(exported[strategy]), top_k=None, truncation=True)
    scores = {found["label"]: found["score"] for found in classify(text)[0]}
    row = labelled(ExportedModel(exported[strategy]), [(0, text)]).iloc[0]
    assert scores == pytest.approx({name: row[f"probability_{name}"] for name in scores}, abs=1e-4)


def test_a_model_that_is_not_stock_is_refused_by_the_stock_loader(exported: dict[str, Path]) -> None:
    """It would fill the layers whose weights it does not find at random."""
    assert (exported["pruning"] / "symptune.safetensors").exists()
    with pytest.raises(OSError, match="no file named"):
        AutoModelForSequenceClassification.from_pretrained(exported["pruning"])
    assert load_pytorch(exported["pruning"])


def test_files_that_nothing_loads_may_be_added(baseline: Path) -> None:
    (baseline / ".gitattributes").touch()
    (baseline / "labels.csv").touch()
    ExportedModel(baseline)
    (baseline / "added_tokens.json").touch()
    with pytest.raises(InputError, match=r"does not list added_tokens\.json"):
        ExportedModel(baseline)


def test_a_trial_that_was_not_evaluated_is_measured_when_it_is_exported(finished: FinishedRun, tmp_path: Path) -> None:
    run = Run(Folder(shutil.copytree(finished.run.folder.uri, tmp_path / "run")), *_parts(finished.run))
    second = run.best("baseline", 2)[1].name
    assert second not in read_costs(run).cpu
    before = set(read_costs(run).cpu)
    export(run, second, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["cost"]["latency_median"] > 0
    assert set(read_costs(run).cpu) == {*before, second}


@pytest.mark.parametrize("reduced", [False, True])
@pytest.mark.parametrize("overflows", [False, True])
def test_a_model_for_cpus_with_vnni_says_so_on_others(
    exported: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, reduced: bool, overflows: bool
) -> None:
    monkeypatch.setattr("analysis.models.label_texts.int8_overflows", lambda: overflows)
    folder = Path(shutil.copytree(exported["quantization"], tmp_path / "quantization"))
    record = json.loads((folder / "metrics.json").read_text())
    record["settings"]["reduce_range"] = reduced
    (folder / "metrics.json").write_text(json.dumps(record))
    assert ExportedModel(folder).overflows_here() is (overflows and not reduced)
    assert not ExportedModel(exported["baseline"]).overflows_here()
    assert "INT8 by `" in (exported["quantization"] / "README.md").read_text()


def test_the_graph_runs_where_nothing_but_onnx_runtime_is_imported(
    exported: dict[str, Path], start_python: Callable[..., "subprocess.Popen[str]"]
) -> None:
    code = """
import sys, numpy as np, onnxruntime as ort
ids = np.ones((3, 7), np.int64)
for graph in sys.argv[1:]:
    print(ort.InferenceSession(graph).run(None, {'input_ids': ids, 'attention_mask': ids})[0].shape)
assert 'torch' not in sys.modules
"""
    graphs = [folder / "model.onnx" for folder in exported.values()]
    process = start_python("-c", code, *graphs, stdout=subprocess.PIPE)
    assert process.communicate()[0].splitlines() == ["(3, 5)"] * len(STRATEGIES)
    assert process.returncode == 0


def test_the_card_tells_use_data_figures_limits_and_licence(exported: dict[str, Path]) -> None:
    for strategy, folder in exported.items():
        card = (folder / "README.md").read_text()
        for heading in (
            "## Use",
            "## Data and protocol",
            "## Figures",
            "## Size and cost",
            "## Intended use",
            "## Licence",
        ):
            assert heading in card, strategy
        assert json.loads((folder / "metrics.json").read_text())["data_fingerprint"][:16] in card
    assert "load_pytorch" not in (exported["baseline"] / "README.md").read_text()


def test_every_evaluated_model_has_its_costs_and_the_speed_up_is_against_the_baseline(finished: FinishedRun) -> None:
    from analysis.evaluation.leaderboard import build_leaderboard

    costs = read_costs(finished.run).cpu
    rows = build_leaderboard(finished.run, top=1).best
    models = rows[rows["rank"].notna()]
    assert set(costs) == set(models["trial"])
    for figures in costs.values():
        assert 0 < figures.latency_median <= figures.latency_p95
        assert figures.throughput > 0
        assert figures.peak_memory_bytes is not None
        assert figures.peak_memory_bytes > 0
    baseline = models[models["strategy"] == "baseline"].iloc[0]
    assert baseline["speed_up"] == 1.0
    other = models[models["strategy"] == "quantization"].iloc[0]
    assert other["speed_up"] == baseline["latency_median"] / other["latency_median"]


@pytest.mark.parametrize(
    "file", ["model.onnx", "config.json", "input.json", "known_tokens.json", "tokenizer.json", "README.md"]
)
def test_a_changed_file_is_refused(baseline: Path, file: str) -> None:
    with (baseline / file).open("ab") as stream:
        stream.write(b" ")
    for load in (ExportedModel, load_pytorch):
        with pytest.raises(InputError, match=f"{file} is damaged or was changed"):
            load(baseline)


def test_other_versions_and_other_folders_are_refused(baseline: Path, tmp_path: Path) -> None:
    record = json.loads((baseline / "metrics.json").read_text())
    (baseline / "metrics.json").write_text(json.dumps(record | {"format": 99}))
    with pytest.raises(InputError, match="another version"):
        check_export(baseline)
    with pytest.raises(InputError, match="not an exported model"):
        check_export(tmp_path)


def test_a_damaged_graph_is_made_again(finished: FinishedRun, tmp_path: Path) -> None:
    run = Run(Folder(shutil.copytree(finished.run.folder.uri, tmp_path / "run")), *_parts(finished.run))
    name = run.best("baseline", 1)[0].name
    graph = onnx_file(run, name)
    whole = graph.read_bytes()
    graph.write_bytes(whole[:1000])
    export(run, name, tmp_path / "out")
    session = ort.InferenceSession(tmp_path / "out" / "model.onnx", providers=["CPUExecutionProvider"])
    assert [output.name for output in session.get_outputs()] == ["logits"]


def test_a_record_that_lists_no_files_is_refused(baseline: Path) -> None:
    record = json.loads((baseline / "metrics.json").read_text())
    (baseline / "metrics.json").write_text(json.dumps(record | {"sha256": {}}))
    with pytest.raises(InputError, match=r"metrics\.json does not list"):
        ExportedModel(baseline)


def test_an_export_leaves_nothing_half_written(finished: FinishedRun, tmp_path: Path) -> None:
    run = Run(Folder(shutil.copytree(finished.run.folder.uri, tmp_path / "run")), *_parts(finished.run))
    name = run.best("baseline", 1)[0].name
    weights = tmp_path / "run" / "trials" / name / "deployed" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"model\.safetensors is damaged"):
        export(run, name, tmp_path / "out")
    shutil.rmtree(weights.parent)
    with pytest.raises(InputError, match="best model, is missing"):
        export(run, name, tmp_path / "out")
    (tmp_path / "run" / "trials" / name / "deployed").mkdir()
    (tmp_path / "run" / "trials" / name / "deployed" / "deployed.json").write_text("[]")
    with pytest.raises(InputError, match="no deployed model here"):
        export(run, name, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(InputError, match="not an empty folder"):
        export(run, name, tmp_path / "out")


def _parts(run: Run) -> tuple[RunSettings, RunManifest, Mapping[str, TrialRecord]]:
    return run.settings, run.manifest, run.trials


# Predicting


def labelled(model: ExportedModel, rows: list[tuple[int, str]], by_sentence: bool = False) -> pd.DataFrame:
    class Memory:
        frames: list[pd.DataFrame] = []  # noqa: RUF012 - one object

        def write(self, frame: pd.DataFrame) -> None:
            self.frames.append(frame)

    memory = Memory()
    memory.frames = []
    label(model, [Text(*row) for row in rows], memory, LabelFormat(by_sentence))
    return pd.concat(memory.frames, ignore_index=True)


def test_texts_are_read_as_training_examples_were(finished: FinishedRun, exported: dict[str, Path]) -> None:
    """The raw sentence gives what the example's cleaned text gives."""
    model = ExportedModel(exported["baseline"])
    raw = "HPI:\nPt [**First Name 12**] denies FEVER, but has Cough since 12:30."
    assert model.inputs.text(raw) == "pt denies fever but has cough since"
    found = labelled(model, [(0, raw), (1, "pt denies fever but has cough since")])
    assert found.loc[0, "symptom"] == found.loc[1, "symptom"]
    assert found.iloc[0, 2:].tolist() == pytest.approx(found.iloc[1, 2:].tolist())


def test_empty_and_very_long_texts_and_many_rows(exported: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("analysis.models.label_texts.CHUNK", 16)
    model = ExportedModel(exported["quantization"])
    texts = ["", "  ...  ", "fever " * 500_000, *["pain"] * 40]
    found = labelled(model, list(enumerate(texts)))
    assert found["row"].tolist() == list(range(43))
    assert found["symptom"].isna().tolist() == [True, True, *[False] * 41]
    assert found.iloc[2:, 2:].sum(axis=1).to_numpy() == pytest.approx(1.0)


def test_texts_unlike_the_training_texts_are_counted_and_told_by_their_shares(
    exported: dict[str, Path], tmp_path: Path
) -> None:
    model = ExportedModel(exported["baseline"])
    assert model.known is not None
    model.known = dataclasses.replace(model.known, seen=model.known.seen.copy(), most_unseen=0.25)
    model.known.seen[model._tokenizer.get_vocab()["fever"]] = False
    rows = [
        Text(0, "patient has pain"),
        Text(1, "fever fever"),
        Text(2, ""),
        Text(3, "fever and pain and pain and pain"),
    ]
    with writer_to(tmp_path / "out.csv") as writer:
        found = label(model, rows, writer, LabelFormat())
    assert (found.inputs, found.unlike, found.unseen) == (3, 1, 3)
    (line,) = (line for line in found.warnings if "training did not show" in line)
    assert line.startswith("33% of the texts or their parts")
    with writer_to(tmp_path / "usual.csv") as writer:
        usual = label(model, rows[:1], writer, LabelFormat())
    assert not any("training did not show" in line for line in usual.warnings)


def test_blank_texts_of_the_papers_protocol_are_empty_too(exported: dict[str, Path]) -> None:
    model = ExportedModel(exported["baseline"])
    model.inputs = InputMaker(dataclasses.replace(model.inputs._settings, raw_window=True), model._tokenizer)
    found = labelled(model, [(0, "\n"), (1, "  \t"), (2, "Pt has pain")])
    assert found["symptom"].isna().tolist() == [True, True, False]


def test_no_more_rows_are_pulled_than_one_chunk_ahead_of_what_is_written(
    exported: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a file of any length takes the memory of one chunk."""
    monkeypatch.setattr("analysis.models.label_texts.CHUNK", 8)
    pulled, written = 0, 0

    def rows() -> Iterator[Text]:
        nonlocal pulled
        for number in range(100):
            pulled += 1
            assert pulled <= written + 8
            yield Text(number, "pt has pain")

    class Out:
        def write(self, frame: pd.DataFrame) -> None:
            nonlocal written
            written += len(frame)

    label(ExportedModel(exported["baseline"]), rows(), Out(), LabelFormat())
    assert written == 100


def test_sentences_are_labelled_one_by_one(exported: dict[str, Path]) -> None:
    found = labelled(ExportedModel(exported["baseline"]), [(5, "Pt has cough. He denies pain.\n\nPLAN:\nrest")], True)
    assert found[["row", "sentence"]].to_numpy().tolist() == [[5, 0], [5, 1], [5, 2]]


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_table_is_labelled_into_a_file_without_its_text(
    exported: dict[str, Path], tmp_path: Path, ending: str
) -> None:
    pd.DataFrame({"NOTE": ["severe zyxmarker pain", "", "cough"]}).to_csv(tmp_path / "in.csv", index=False)
    out = tmp_path / f"out.{ending}"
    with writer_to(out) as writer:
        rows = rows_of_file(tmp_path / "in.csv", NoteColumns(text="NOTE", patient=None))
        summary = label(ExportedModel(exported["pruning"]), rows, writer, LabelFormat())
    assert (summary.texts, summary.empty) == (3, 1)
    found = pd.read_csv(out) if ending == "csv" else pd.read_parquet(out)
    assert found["row"].tolist() == [0, 1, 2]
    assert found["symptom"].notna().tolist() == [True, False, True]
    assert b"zyxmarker" not in out.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv", out.name]


def test_a_failing_prediction_leaves_no_file(exported: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_bytes(b"TEXT\nfine\n\xff\xfe\n")
    with (
        pytest.raises(InputError, match=r"^file: .*not UTF-8"),
        writer_to(tmp_path / "out.csv") as writer,
    ):
        label(
            ExportedModel(exported["baseline"]),
            rows_of_file(tmp_path / "in.csv", TEXTS_ALONE),
            writer,
            LabelFormat(),
        )
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]
    with pytest.raises(InputError, match="line 2 is not UTF-8"):
        list(rows_of_lines(io.BytesIO(b"fine\n\xff\n")))


def test_the_command_line_reads_lines_and_writes_csv_and_leaves_no_file_when_it_is_terminated(
    exported: dict[str, Path], tmp_path: Path, start_python: Callable[..., "subprocess.Popen[str]"]
) -> None:
    line = ["-m", "tune_jobs", "predict", exported["baseline"], "-"]
    piped = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE, "cwd": tmp_path}
    reading = start_python(*line, stdout=subprocess.PIPE, **piped)
    waiting = start_python(*line, "--out", "out.csv", **piped)  # both import what they need at the same time
    printed, said = reading.communicate("pt has fever\n\ncough\n")
    assert reading.returncode == 0
    found = pd.read_csv(io.StringIO(printed))
    assert found["row"].tolist() == [0, 1, 2]
    assert found["symptom"].notna().tolist() == [True, False, True]
    assert "2 texts labelled, 1 empty" in said

    until(lambda: list(tmp_path.iterdir()), process=waiting)
    assert [path.suffix for path in tmp_path.iterdir()] == [".tmp"]
    waiting.terminate()
    _, said = waiting.communicate()
    assert waiting.returncode == 130
    assert "Traceback" not in said
    assert not list(tmp_path.iterdir())
