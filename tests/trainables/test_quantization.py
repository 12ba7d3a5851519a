"""The INT8 grid in training, calibration, the layers left FP32, and the INT8 model as its kernels run it."""

import dataclasses
import itertools
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch.nn.utils import parametrize
from transformers import BertConfig, BertForSequenceClassification, PreTrainedModel

from clinical_notes.batches import TokenisedExamples, TrialData
from run_folder.results import Agreement, Int8Facts
from tests.conftest import SYMPTOMS, make_examples, tiny_model
from trainables.parts.agreement import agreement, validation_logits
from trainables.parts.deployed import ONNX_FILE, Deployed, OnnxRunner, TorchRunner, deploy_torch, int8_overflows
from trainables.parts.int8 import teacher_graph
from trainables.parts.int8.activation_ranges import (
    EXAMPLES,
    Range,
    activation_ranges,
    calibration_batches,
    linear_paths,
    observe,
)
from trainables.parts.int8.grid import Int8Options, insert_fake_quantization, remove_fake_quantization
from trainables.parts.int8.onnx_export import export_onnx, quantize_onnx
from trainables.parts.int8.sensitivity import encoder_linear_paths, most_sensitive, sensitivity
from trainables.parts.int8.write_int8 import write_int8
from trainables.parts.model import encoder, surgery
from trainables.parts.model.encoder import EncoderWeights
from trainables.parts.open_deployed import load_deployed
from trainables.quantization import QuantizationTrial

from .conftest import configuration, run_to_end, start
from .int8_reference import INT16, ReferenceRunner, pair_sums, unsaturated_logits

OPTIONS = Int8Options("qat", per_channel=True, embeddings=True, fp32_share=0.0, reduce_range=False)
STATIC = dataclasses.replace(OPTIONS, scheme="ptq_static")


@pytest.fixture(params=[False, True], ids=["8-bit", "7-bit"])
def reduce_range(request: pytest.FixtureRequest) -> bool:
    """Both, whatever this CPU is; what 8 bits give where kernels saturate on them, ``unsaturated_logits`` tells."""
    return bool(request.param)


@pytest.fixture
def options(reduce_range: bool) -> Int8Options:
    return dataclasses.replace(OPTIONS, reduce_range=reduce_range)


def logits(model: PreTrainedModel, data: TrialData) -> np.ndarray:
    return validation_logits(TorchRunner(model), data)


def written(
    model: PreTrainedModel,
    directory: Path,
    data: TrialData,
    options: Int8Options,
    fp32_layers: list[str] | None = None,
    graph: Path | None = None,
) -> Deployed:
    """The INT8 model made from this FP32 one; ``graph`` is the FP32 model's export."""
    write_int8(model, directory, data, options, fp32_layers or [], logits(model, data), graph)
    deployed = load_deployed(directory)
    assert isinstance(deployed.runner, OnnxRunner)
    return deployed


def trained(
    model: PreTrainedModel, teacher: str, data: TrialData, changes: dict[str, Any], **settings: Any
) -> QuantizationTrial:
    """QAT after one epoch."""
    config = configuration("quantization", teacher, **changes)
    trial = start("quantization", config, data, EncoderWeights.of(model), **settings)
    trial.epoch()
    assert isinstance(trial, QuantizationTrial)
    return trial


@pytest.mark.parametrize(("per_channel", "reduce_range"), [(True, False), (False, True)])
def test_the_int8_model_computes_what_training_on_its_grid_computed(
    model: PreTrainedModel,
    trial_data: TrialData,
    own_teacher: str,
    tmp_path: Path,
    per_channel: bool,
    reduce_range: bool,
) -> None:
    changes = {"per_channel": per_channel, "quantize_embeddings": True, "fp32_layers": 0.25}
    trial = trained(model, own_teacher, trial_data, changes, reduce_range=reduce_range)
    fake = validation_logits(TorchRunner(trial.model), trial_data)  # type: ignore[arg-type]
    spared = fp32_in_training(trial.model)
    (tmp_path / "out").mkdir()
    trial.write_model(tmp_path / "out")
    deployed = load_deployed(tmp_path / "out")
    full = validation_logits(TorchRunner(trial.model), trial_data)  # type: ignore[arg-type]
    real = unsaturated_logits(tmp_path / "out" / ONNX_FILE, trial_data, reduce_range=reduce_range)
    assert np.abs(real - fake).max() < 0.02 * np.abs(fake).max()
    assert np.abs(real - fake).max() < np.abs(full - fake).max()
    assert deployed.card.agreement == agreement(fake, validation_logits(deployed, trial_data))
    assert deployed.card.scheme == "qat"
    bits = 7 if reduce_range else 8
    assert deployed.card.int8 == Int8Facts(weight_bits=bits, per_channel=per_channel, embeddings=True, static=False)
    assert len(spared) == 3
    assert set(deployed.card.fp32_layers or ()) == spared
    assert spared <= set(encoder_linear_paths(model))


def fp32_in_training(model: torch.nn.Module) -> set[str]:
    """Paths of the Linear layers that are not on the grid."""
    return {
        path
        for path, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and not parametrize.is_parametrized(module, "weight")
    }


@pytest.mark.parametrize("per_channel", [True, False])
def test_the_grid_of_training_is_the_grid_of_the_export(
    model: PreTrainedModel, graph: Path, trial_data: TrialData, tmp_path: Path, per_channel: bool, options: Int8Options
) -> None:
    options = dataclasses.replace(options, per_channel=per_channel)
    full = logits(model, trial_data)
    quantize(model, graph, tmp_path, options)
    insert_fake_quantization(model, options, [])
    fake = logits(model, trial_data)
    real = unsaturated_logits(tmp_path / ONNX_FILE, trial_data, reduce_range=options.reduce_range)
    assert np.abs(real - fake).max() < 0.02 * np.abs(fake).max()
    assert np.abs(real - fake).max() < np.abs(full - fake).max()


def test_this_cpus_kernels_saturate_on_8_bit_weights_if_it_is_said_to_and_never_on_7_bit_ones(
    model: PreTrainedModel, graph: Path, trial_data: TrialData, tmp_path: Path, options: Int8Options
) -> None:
    quantize(model, graph, tmp_path, options)
    exact, saturating = (
        validation_logits(ReferenceRunner(tmp_path / ONNX_FILE, saturating=saturating), trial_data)
        for saturating in (False, True)
    )
    near = 0.005 * np.abs(logits(model, trial_data)).max()
    if options.reduce_range:
        np.testing.assert_array_equal(saturating, exact)
    else:
        assert np.abs(saturating - exact).max() > 3 * near
    kernels = validation_logits(OnnxRunner(tmp_path / ONNX_FILE, 1), trial_data)
    assert np.abs(kernels - (saturating if int8_overflows() else exact)).max() < near


@pytest.mark.parametrize(
    ("capabilities", "overflows"),
    [
        ({"architecture": "x86_64", "avx2": True}, True),
        ({"architecture": "x86_64", "avx2": True, "avx512_f": True, "avx512_vnni": False}, True),
        ({"architecture": "x86_64", "avx2": True, "avx512_f": True, "avx512_vnni": True}, False),
        ({"architecture": "x86_64", "avx2": True, "avx_vnni": True}, False),
        ({"architecture": "x86_64", "avx512_f": True, "amx_int8": True}, False),
        ({"architecture": "aarch64", "neon": True}, False),
    ],
)
def test_x86_without_vnni_or_amx_overflows(
    capabilities: dict[str, Any], overflows: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert int8_overflows() is overflows


def test_no_input_makes_7_bit_weights_saturate(
    model: PreTrainedModel, graph: Path, trial_data: TrialData, tmp_path: Path, options: Int8Options
) -> None:
    for ranges in (None, activation_ranges(model, trial_data, "minmax")):
        quantize(model, graph, tmp_path, options, ranges=ranges)
        weights = [array for array in initializers(tmp_path) if array.dtype == np.int8 and array.ndim == 2]
        assert len(weights) == len(linear_paths(model))
        largest = max(int(np.abs(weight.astype(int)).max()) for weight in weights)
        assert largest == (64 if options.reduce_range else 127)
        worst = np.array([255, 255], np.uint8)  # the highest inputs, on two neighbours
        signs = np.array([[1, -1], [1, -1]])
        sums = pair_sums(worst, (largest * signs).astype(np.int8))
        saturates = bool(((sums < INT16.min) | (sums > INT16.max)).any())
        assert saturates is not options.reduce_range


def test_fake_quantization_leaves_no_trace(model: PreTrainedModel, trial_data: TrialData) -> None:
    before, names = logits(model, trial_data), set(model.state_dict())
    hooks = insert_fake_quantization(model, OPTIONS, [])
    assert not np.array_equal(logits(model, trial_data), before)
    remove_fake_quantization(model, hooks)
    assert set(model.state_dict()) == names
    np.testing.assert_array_equal(logits(model, trial_data), before)


def test_ptq_changes_the_teacher_little_and_says_how_little(
    model: PreTrainedModel, trial_data: TrialData, exported_teacher: str, tmp_path: Path, reduce_range: bool
) -> None:
    config = configuration("quantization-ptq", exported_teacher)
    trial = start("quantization-ptq", config, trial_data, EncoderWeights.of(model), reduce_range=reduce_range)
    result = run_to_end(trial, tmp_path)
    assert not trial.results
    assert result.epoch == 0
    deployed = load_deployed(tmp_path / "deployed")
    full = logits(model, trial_data)
    expected = agreement(full, validation_logits(deployed, trial_data))
    assert result.agreement == deployed.card.agreement == expected
    real = unsaturated_logits(tmp_path / "deployed" / ONNX_FILE, trial_data, reduce_range=reduce_range)
    assert 0 < agreement(full, real).max_logit_difference < 0.1 * np.abs(full).max()


def test_the_baselines_graph_is_exported_once_and_gives_the_very_model_that_an_export_of_its_own_gives(
    trial_data: TrialData,
    encoder_weights: EncoderWeights,
    graph_of: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, exports = encoder_weights.build(), []

    def export(teacher: PreTrainedModel, path: Path) -> None:
        """Like ``export_onnx``, for this model, whose graph exists already."""
        assert all(torch.equal(teacher.state_dict()[name], tensor) for name, tensor in model.state_dict().items())
        exports.append(path)
        path.write_bytes(graph_of("bert").read_bytes())

    monkeypatch.setattr(teacher_graph, "export_onnx", export)
    home = tmp_path / "teacher"
    deploy_torch(model, home / "deployed", trial_data)
    graph = home / teacher_graph.GRAPH / ONNX_FILE

    def deploy(variant: str, name: str) -> QuantizationTrial:
        config = configuration(variant, str(home))
        trial = start(variant, config, trial_data, encoder_weights)
        run_to_end(trial, tmp_path / name)
        assert isinstance(trial, QuantizationTrial)
        return trial

    def files(directory: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in directory.iterdir()}

    deploy("quantization-ptq", "first")
    trial = deploy("quantization-static", "second")
    assert len(exports) == 1
    (tmp_path / "alone").mkdir()
    reference = logits(model, trial_data)
    write_int8(model, tmp_path / "alone", trial_data, trial._options, trial._fp32_layers, reference)
    assert files(tmp_path / "second" / "deployed") == files(tmp_path / "alone")
    graph.write_bytes(graph.read_bytes()[:-100])  # cut short
    deploy("quantization-ptq", "third")
    assert len(exports) == 2
    assert files(tmp_path / "third" / "deployed") == files(tmp_path / "first" / "deployed")
    assert sorted(path.name for path in graph.parent.iterdir()) == [ONNX_FILE, teacher_graph.HASH_FILE]


def test_agreement_of_two_models_by_hand() -> None:
    reference = np.array([[1.0, 2.0], [3.0, 1.0]], np.float32)
    assert agreement(reference, reference) == Agreement(max_logit_difference=0.0, same_predictions=1.0)
    other = np.array([[1.5, 2.0], [0.5, 1.0]], np.float32)
    assert agreement(reference, other) == Agreement(max_logit_difference=2.5, same_predictions=0.5)


def test_calibration_reads_training_examples_alone_and_always_the_same(trial_data: TrialData) -> None:
    many = dataclasses.replace(trial_data, train=make_examples(EXAMPLES + 40, 5, "train-"))
    texts = [
        tuple(row[inside.bool()].tolist())
        for batch in calibration_batches(many)
        for row, inside in zip(batch["input_ids"], batch["attention_mask"], strict=True)
    ]
    offsets = many.train.offsets
    known = {tuple(many.train.tokens[a:b].tolist()) for a, b in itertools.pairwise(offsets)}
    assert len(texts) == EXAMPLES
    assert set(texts) <= known
    again = dataclasses.replace(many, validation=make_examples(9, 6, "other-"))
    assert all(
        torch.equal(first["input_ids"], second["input_ids"])
        for first, second in zip(calibration_batches(many), calibration_batches(again), strict=True)
    )


def test_padding_takes_no_part_in_calibration(model: PreTrainedModel, trial_data: TrialData) -> None:
    seen: dict[str, int] = {}

    def count(path: str, inputs: torch.Tensor) -> None:
        seen[path] = seen.get(path, 0) + len(inputs)

    observe(model, linear_paths(model), trial_data, count)
    tokens, texts = int(trial_data.train.lengths.sum()), len(trial_data.train)
    inner = encoder_linear_paths(model)
    assert all(seen[path] == tokens for path in inner)
    assert {seen[path] for path in linear_paths(model) if path not in inner} == {texts}


def test_each_calibration_keeps_ranges_within_the_extremes_and_gives_a_close_model(
    trial_data: TrialData, graph_of: Callable[[str], Path], tmp_path: Path, options: Int8Options
) -> None:
    model = tiny_model("bert")
    full = logits(model, trial_data)
    extremes = activation_ranges(model, trial_data, "minmax")

    def inside(path: str, inputs: torch.Tensor) -> None:
        assert extremes[path][0] <= float(inputs.min()) <= float(inputs.max()) <= extremes[path][1]

    observe(model, linear_paths(model), trial_data, inside)
    for calibration in ("minmax", "entropy", "percentile"):
        ranges = activation_ranges(model, trial_data, calibration)
        for path in linear_paths(model):
            assert extremes[path][0] <= ranges[path][0] <= 0 < ranges[path][1] <= extremes[path][1]
        quantize(model, graph_of("bert"), tmp_path, options, ranges=ranges)
        real = unsaturated_logits(tmp_path / ONNX_FILE, trial_data, reduce_range=options.reduce_range)
        assert np.isfinite(real).all()
        assert 0 < np.abs(real - full).max() < 0.25 * np.abs(full).max()


def quantize(
    model: PreTrainedModel,
    graph: Path,
    directory: Path,
    options: Int8Options,
    fp32_layers: Collection[str] = (),
    ranges: Mapping[str, Range] | None = None,
) -> None:
    quantize_onnx(
        graph,
        directory / ONNX_FILE,
        [path for path in linear_paths(model) if path not in fp32_layers],
        per_channel=options.per_channel,
        embeddings=options.embeddings,
        reduce_range=options.reduce_range,
        ranges=ranges,
    )


def initializers(directory: Path) -> list[np.ndarray]:
    return [numpy_helper.to_array(tensor) for tensor in onnx.load(directory / ONNX_FILE).graph.initializer]


def test_static_ranges_are_those_of_the_training_texts(
    trial_data: TrialData, graph_of: Callable[[str], Path], tmp_path: Path, options: Int8Options
) -> None:
    model = tiny_model("bert")
    narrow = dict.fromkeys(linear_paths(model), (-0.01, 0.01))
    full = logits(model, trial_data)
    differences = []
    for ranges in (narrow, activation_ranges(model, trial_data, "minmax")):
        quantize(model, graph_of("bert"), tmp_path, options, ranges=ranges)
        real = unsaturated_logits(tmp_path / ONNX_FILE, trial_data, reduce_range=options.reduce_range)
        differences.append(np.abs(real - full).max())
    cut, right = differences
    assert cut > 5 * right


def test_exactly_the_chosen_layers_stay_fp32(
    model: PreTrainedModel, graph: Path, trial_data: TrialData, tmp_path: Path, options: Int8Options
) -> None:
    names = encoder.layer_names(model.config)
    prefix = next(path for path, module in model.named_modules() if module is encoder.layer_list(model))
    chosen = [f"{prefix}.0.{names.key}", f"{prefix}.1.{names.feed_forward_out}"]
    for ranges in (None, activation_ranges(model, trial_data, "minmax")):
        quantize(model, graph, tmp_path, options, chosen, ranges)
        quantized = onnx.load(tmp_path / ONNX_FILE).graph
        weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in quantized.initializer}
        fp32 = [
            weights[node.input[1]]
            for node in quantized.node
            if node.op_type in ("MatMul", "Gemm") and node.input[1] in weights
        ]
        expected = [model.get_submodule(path).weight.detach().numpy().T for path in chosen]
        assert sorted(map(np.shape, fp32)) == sorted(map(np.shape, expected))
        assert all(any(np.array_equal(one, two) for two in expected if two.shape == one.shape) for one in fp32)
        int8 = [array for array in weights.values() if array.dtype == np.int8 and array.ndim == 2]
        assert len(int8) == len(linear_paths(model)) - len(chosen)
        assert_only_int8_products_read_rounded_activations(quantized)


def assert_only_int8_products_read_rounded_activations(graph: onnx.GraphProto) -> None:
    made_by = {name: node for node in graph.node for name in node.output}
    rounded = {name for name, node in made_by.items() if node.op_type == "DequantizeLinear"}
    for node in graph.node:
        for name in rounded.intersection(node.input):
            source = made_by.get(made_by[name].input[0])
            if source is not None and source.op_type == "QuantizeLinear" and "embedding" not in name:
                assert node.op_type in ("MatMul", "Gemm")
                assert node.input[1] in rounded


def test_the_share_of_fp32_layers_is_taken_from_the_encoder(
    model: PreTrainedModel, trial_data: TrialData, options: Int8Options
) -> None:
    errors = sensitivity(model, trial_data, options)
    assert list(errors) == encoder_linear_paths(model)
    assert len(errors) == 2 * 6
    assert all(0 < error < 0.01 for error in errors.values())
    shares = [dataclasses.replace(options, fp32_share=share) for share in (0.0, 0.01, 0.1, 0.25)]
    assert [len(most_sensitive(model, trial_data, asked)) for asked in shares] == [0, 1, 1, 3]


def test_a_layer_with_an_outlying_weight_is_the_most_sensitive(
    model: PreTrainedModel, trial_data: TrialData, options: Int8Options
) -> None:
    layer = list(encoder.layers_of(model))[1].feed_forward_in
    with torch.no_grad():
        layer.weight[3, 5] = 1.0
    options = dataclasses.replace(options, per_channel=False, fp32_share=0.1)
    (first,) = most_sensitive(model, trial_data, options)
    assert model.get_submodule(first) is layer


def test_sensitivity_leaves_padding_out(trial_data: TrialData, encoder_weights: EncoderWeights) -> None:
    """Short texts in company of long ones count as if they were alone."""
    model = encoder_weights.build()
    examples = trial_data.train
    order = np.argsort(examples.lengths)[[0, -1]]
    pair = [sensitivity(model, dataclasses.replace(trial_data, train=only(examples, [row])), OPTIONS) for row in order]
    both = sensitivity(model, dataclasses.replace(trial_data, train=only(examples, list(order))), OPTIONS)
    for path, error in both.items():
        assert min(pair[0][path], pair[1][path]) * 0.5 < error < max(pair[0][path], pair[1][path]) * 2


def only(examples: TokenisedExamples, rows: list[int]) -> TokenisedExamples:
    texts = [examples.tokens[examples.offsets[row] : examples.offsets[row + 1]] for row in rows]
    return TokenisedExamples(
        ids=examples.ids[rows],
        tokens=np.concatenate(texts),
        offsets=np.cumsum([0, *map(len, texts)]),
        labels=examples.labels[rows],
    )


def test_a_static_models_logits_of_a_text_are_its_own_and_a_dynamic_ones_its_batchs(
    trial_data: TrialData, encoder_weights: EncoderWeights, tmp_path: Path
) -> None:
    model = encoder_weights.build()
    with torch.no_grad():
        model.get_input_embeddings().weight[50, 7] = 100.0  # a mate whose activations reach far
    text = np.arange(6, 14)[None]
    company = np.concatenate([text, np.full_like(text, 50)])
    changes = {}
    export_onnx(model, tmp_path / "fp32.onnx")
    (tmp_path / "int8").mkdir()
    for options in (OPTIONS, STATIC):
        deployed = written(model, tmp_path / "int8", trial_data, options, graph=tmp_path / "fp32.onnx")
        alone = deployed.logits(text, np.ones_like(text))[0]
        changes[options.scheme] = np.abs(deployed.logits(company, np.ones_like(company))[0] - alone).max()
    assert changes["ptq_static"] < 0.01 * changes["qat"]


def test_pruned_factorised_and_trimmed_models_become_int8_too(
    model: PreTrainedModel, trial_data: TrialData, tmp_path: Path
) -> None:
    size = encoder.head_size(model.config)
    layers = list(encoder.layers_of(model))
    surgery.slice_layer(layers[0], [0, 2], list(range(0, 48, 2)), size)
    surgery.slice_layer(layers[1], [1, 2, 3], list(range(30)), size)
    wide = next(path for path, module in model.named_modules() if module is layers[1].feed_forward_in)
    factorised = surgery.factorise(model, wide, 8)
    surgery.trim_vocabulary(model, range(5, 45), unknown=3)
    chosen = [f"{wide}.up"]
    model.eval()
    full = logits(model, trial_data)
    up = factorised.up.weight.detach().numpy().T
    export_onnx(model, tmp_path / "fp32.onnx")
    int8 = tmp_path / "int8"
    int8.mkdir()
    for options, reduce_range in itertools.product((OPTIONS, STATIC), (False, True)):
        options = dataclasses.replace(options, reduce_range=reduce_range)
        deployed = written(model, int8, trial_data, options, chosen, tmp_path / "fp32.onnx")
        assert deployed.card.agreement == agreement(full, validation_logits(deployed, trial_data))
        real = unsaturated_logits(int8 / ONNX_FILE, trial_data, reduce_range=reduce_range)
        assert 0 < agreement(full, real).max_logit_difference < 0.1 * np.abs(full).max()
        arrays = initializers(int8)
        assert any(array.dtype == np.uint8 and array.shape == (41, 32) for array in arrays)
        assert any(array.shape == up.shape and np.array_equal(array, up) for array in arrays)
        assert sum(array.dtype == np.int8 and array.ndim == 2 for array in arrays) == len(linear_paths(model)) - 1


def test_int8_is_a_quarter_of_fp32_and_tells_nothing_of_the_machine(trial_data: TrialData, tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = BertForSequenceClassification(
        BertConfig(
            vocab_size=4000,
            hidden_size=128,
            num_attention_heads=4,
            num_hidden_layers=2,
            intermediate_size=512,
            max_position_embeddings=40,
            num_labels=len(SYMPTOMS),
        )
    )
    deploy_torch(model, tmp_path / "fp32", trial_data)
    fp32 = load_deployed(tmp_path / "fp32").card.bytes
    export_onnx(model, tmp_path / "fp32.onnx")
    (tmp_path / "int8").mkdir()
    for options in (OPTIONS, STATIC):
        deployed = written(model, tmp_path / "int8", trial_data, options, graph=tmp_path / "fp32.onnx")
        assert deployed.card.bytes < 0.3 * fp32
        assert b"site-packages" not in (tmp_path / "int8" / ONNX_FILE).read_bytes()


def test_the_nonzero_parameters_are_those_that_the_grid_leaves(
    trial_data: TrialData, encoder_weights: EncoderWeights, tmp_path: Path
) -> None:
    model = encoder_weights.build()
    with torch.no_grad():
        for path in linear_paths(model):
            model.get_submodule(path).weight[:, ::2] = 0.0
    zeros = sum(model.get_submodule(path).weight.numel() for path in linear_paths(model)) // 2
    export_onnx(model, tmp_path / "fp32.onnx")
    (tmp_path / "int8").mkdir()
    for options, reduce_range in itertools.product((OPTIONS, STATIC), (False, True)):
        options = dataclasses.replace(options, reduce_range=reduce_range)
        card = written(model, tmp_path / "int8", trial_data, options, graph=tmp_path / "fp32.onnx").card
        assert card.parameters == sum(p.numel() for p in model.parameters())
        assert zeros <= card.parameters - card.nonzero_parameters < 1.2 * zeros + 400


class TestTorchao:
    """A GPU's INT8 model, run on the CPU: as right, far slower."""

    @pytest.fixture(autouse=True)
    def _needs_torchao(self) -> None:
        pytest.importorskip("torchao", reason="the extra gpu is not installed")

    @pytest.mark.parametrize("scheme", ["ptq_dynamic", "ptq_static", "qat"])
    def test_a_trial_on_a_gpu_deploys_torchaos_kernels(
        self,
        scheme: str,
        model: PreTrainedModel,
        trial_data: TrialData,
        own_teacher: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(QuantizationTrial, "_on_gpu", True)
        changes = {"scheme": scheme, "quantize_embeddings": True, "calibration": "minmax"}
        config = configuration("quantization", own_teacher, **changes)
        trial = start("quantization", config, trial_data, EncoderWeights.of(model))
        final = run_to_end(trial, tmp_path)
        full = logits(model, trial_data)
        assert final.runtime == "torchao"
        assert set(final.fp32_layers or ()) == set(linear_paths(model)) - set(encoder_linear_paths(model))
        assert final.agreement is not None
        difference = final.agreement.max_logit_difference
        assert difference < 1e-5 if scheme == "qat" else 1e-6 < difference < 0.1 * np.abs(full).max()

    def test_what_is_read_back_is_what_was_written_and_requantizes_to_itself(
        self, model: PreTrainedModel, trial_data: TrialData, tmp_path: Path
    ) -> None:
        from torchao.quantization import Int8Tensor

        from trainables.parts.int8.torchao_model import to_int8, unsupported, write_int8_gpu

        options = dataclasses.replace(STATIC, per_token=True)
        surgery.trim_vocabulary(model, range(5, 45), unknown=3)
        reference = logits(model, trial_data)
        write_int8_gpu(model, tmp_path, trial_data, options, unsupported(model), reference)
        assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors"}
        deployed = load_deployed(tmp_path)
        assert isinstance(deployed.runner, TorchRunner)
        assert deployed.card.agreement == agreement(reference, validation_logits(deployed, trial_data))
        tensors = deployed.runner.model.state_dict()
        ours = {name: tensor for name, tensor in model.state_dict().items() if isinstance(tensor, Int8Tensor)}
        assert len(ours) > len(encoder_linear_paths(model))
        rounded = tiny_model(model.config.model_type)
        surgery.trim_vocabulary(rounded, range(5, 45), unknown=3)
        rounded.load_state_dict(
            {
                name: tensor.dequantize() if isinstance(tensor, Int8Tensor) else tensor
                for name, tensor in tensors.items()
            }
        )
        to_int8(rounded, options, unsupported(rounded), activation_ranges(rounded, trial_data, "minmax"))
        again = rounded.state_dict()
        for name, tensor in ours.items():
            assert torch.equal(tensors[name].qdata, tensor.qdata)
            assert torch.equal(again[name].qdata, tensor.qdata)
            torch.testing.assert_close(again[name].scale, tensor.scale)
