"""Models that do not fit are refused before the cluster is touched, and all others are taken."""

import errno
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from transformers import (
    BertForMaskedLM,
    BertForPreTraining,
    BertForQuestionAnswering,
    BertForTokenClassification,
    BertModel,
    ElectraConfig,
    ElectraModel,
    PreTrainedModel,
)

import symptune
from benchmarks.common import encoder_of
from run_folder.errors import InputError
from run_folder.folder import Folder
from tests.conftest import tiny_model
from tests.made_runs import write_run_file
from tests.tiny_runs import settings_for
from trainables.parts.model import encoder, stored
from tune_jobs.cli import main
from tune_jobs.preparing import create_run, pretrained
from tune_jobs.preparing.first_models import model_problems
from tune_jobs.preparing.model_config import counts_from_padding
from tune_jobs.preparing.pretrained import check_model, load_pretrained

Damage = Callable[[Path], object]

WEIGHTS = "model.safetensors"
LIMIT = 40
"""Tokens that the tiny models read."""


@pytest.fixture
def folder(model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model to damage, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(model_folder, "m"))


def changed(name: str = "config.json", **values: Any) -> Damage:
    """Values in a JSON file of the model."""
    return edited(name, lambda record: record.update(values))


def without(key: str, name: str = "config.json") -> Damage:
    """A JSON file of the model without a key."""
    return edited(name, lambda record: record.pop(key))


def edited(name: str, change: Callable[[dict[str, Any]], object]) -> Damage:
    """A JSON file of the model, changed in place."""

    def damage(folder: Path) -> None:
        record = json.loads((folder / name).read_text())
        change(record)
        (folder / name).write_text(json.dumps(record))

    return damage


def written(name: str, content: bytes) -> Damage:
    return lambda folder: (folder / name).write_bytes(content)


def cut(name: str, size: int) -> Damage:
    """Only the first bytes of a file, or all but the last."""
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:size])


def tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Damage:
    """Tensors of the weights changed in place."""

    def damage(folder: Path) -> None:
        state = load_file(folder / WEIGHTS)
        change(state)
        save_file(state, folder / WEIGHTS, metadata={"format": "pt"})

    return damage


def one_number(name: str, value: float) -> Damage:
    return tensors(lambda state: state[name].view(-1)[:1].fill_(value))


def of_type(dtype: torch.dtype) -> Damage:
    return tensors(lambda state: state.update({QUERY: state[QUERY].to(dtype)}))


def saved(model: PreTrainedModel) -> Damage:
    """Weights and configuration of another model, next to the tokenizer."""
    return lambda folder: model.save_pretrained(folder)


def both(*damages: Damage) -> Damage:
    return lambda folder: [damage(folder) for damage in damages]


def pickled(content: bytes | None) -> Damage:
    """The weights as PyTorch's own format, or a file of that name with this content."""

    def damage(folder: Path) -> None:
        state = load_file(folder / WEIGHTS)
        (folder / WEIGHTS).unlink()
        if content is None:
            torch.save(state, folder / "pytorch_model.bin")
        else:
            (folder / "pytorch_model.bin").write_bytes(content)

    return damage


def sharded(without: str | None) -> Damage:
    """The weights in several files, one of them perhaps missing."""

    def damage(folder: Path) -> None:
        (folder / WEIGHTS).unlink()
        tiny_model("bert").save_pretrained(folder, max_shard_size="20KB")
        if without is not None:
            next(folder.glob(without)).unlink()

    return damage


def other_words(unknown: str) -> Damage:
    """A tokenizer that knows other words than there are, with this token for those that it does not know."""

    def change(record: dict[str, Any]) -> None:
        words = record["model"]["vocab"]
        record["model"]["vocab"] = {word if word.startswith("[") else f"{word}{word}": n for word, n in words.items()}
        record["model"]["unk_token"] = unknown

    return edited("tokenizer.json", change)


def other(architecture: str, **values: Any) -> Damage:
    """A model of another type, and these values in its configuration."""
    return both(saved(tiny_model(architecture)), changed(**values))


def bare(architecture: str, **values: Any) -> Damage:
    """An encoder of another type without a head, whose tensors have the same names in all types like BERT."""

    def damage(folder: Path) -> None:
        (folder / WEIGHTS).unlink()
        tiny_model(architecture).base_model.save_pretrained(folder)

    return both(damage, changed(**values))


def swapped_padding(words: dict[str, int]) -> None:
    """Number 1 pads, as in RoBERTa."""
    words["[PAD]"], words["[UNK]"] = words["[UNK]"], words["[PAD]"]


QUERY = "bert.encoder.layer.1.attention.self.query.weight"
DEEP = b"[" * 100_000
CONFIG = "the config.json of m"
WRONG = f"{CONFIG} is wrong:"
UNFIT = "the weights of m do not fit its config.json"

REFUSED: dict[str, tuple[Damage, str]] = {
    # config.json by itself
    "no type": (without("model_type"), f'{CONFIG} has no model_type; add .*"bert" \\(known: bert, roberta, '),
    "unknown type": (changed(model_type="gpt2"), "m is of type 'gpt2'; known: bert, "),
    "type is a number": (changed(model_type=5), "m is of type 5; known: bert, "),
    "cut": (cut("config.json", 100), f"{CONFIG} cannot be read .*; restore it"),
    "empty": (written("config.json", b""), f"{CONFIG} cannot be read"),
    "not UTF-8": (written("config.json", b'{"\xff": 1}'), f"{CONFIG} cannot be read"),
    "deeply nested": (written("config.json", DEEP), f"{CONFIG} cannot be read"),
    "a list": (written("config.json", b"[]"), f"{CONFIG} is no JSON object"),
    "a null": (written("config.json", b"null"), f"{CONFIG} is no JSON object"),
    "text for a number": (changed(hidden_size="wide"), f"{WRONG} hidden_size must be a whole number, got 'wide'; rest"),
    "a number as text": (changed(num_hidden_layers="2"), f"{WRONG} num_hidden_layers must be a whole number, got '2'"),
    "text for a fraction": (changed(layer_norm_eps="1e-12"), f"{WRONG} layer_norm_eps must be a number above 0 and "),
    "a null for a number": (changed(vocab_size=None), f"{WRONG} vocab_size must be a whole number, got None"),
    "half a layer": (changed(num_hidden_layers=1.5), f"{WRONG} num_hidden_layers must be a whole number, got 1.5"),
    "truth for a number": (changed(hidden_size=True), f"{WRONG} hidden_size must be a whole number, got True"),
    "text for an id": (changed(pad_token_id="x"), f"{WRONG} pad_token_id must be a whole number or null, got 'x'"),
    "text for ids": (changed(eos_token_id="x"), "eos_token_id must be a whole number or a list of whole numbers or nu"),
    "a number for truth": (changed(use_cache=1), f"{WRONG} use_cache must be true or false, got 1"),
    "two wrong values": (changed(use_cache=1, bos_token_id="x"), f"{WRONG} (use_cache|bos_token_id) must be"),
    "NaN as a value": (changed(layer_norm_eps=float("nan")), f"{WRONG} layer_norm_eps must be a number above 0 .* nan"),
    "NaN anywhere": (changed(more=float("nan")), f"{WRONG} more must be a finite number, got nan"),
    "a huge epsilon": (changed(layer_norm_eps=1e9), f"{WRONG} layer_norm_eps must be a number above 0 and at most 1"),
    "no spread": (changed(initializer_range=0.0), f"{WRONG} initializer_range must be a number above 0 .* got 0.0"),
    "negative spread": (changed(initializer_range=-0.02), f"{WRONG} initializer_range must be a number above 0"),
    "text for classes": (changed(num_labels="x"), f"{WRONG} num_labels must be a whole number of at least 1, got 'x'"),
    "no classes": (changed(num_labels=0), f"{WRONG} num_labels must be a whole number of at least 1, got 0"),
    "labels without numbers": (changed(id2label={"a": "b"}), f"{WRONG} id2label must be an object of numbers and name"),
    "labels as a list": (changed(id2label=["a", "b"]), f"{WRONG} id2label must be an object of numbers and name"),
    "labels of labels": (changed(id2label={"0": {"a": 1}}), f"{WRONG} id2label must be an object of numbers and name"),
    "numbers of labels": (changed(label2id={"a": "x"}), f"{WRONG} label2id must be an object of names and numbers"),
    "quantized": (
        changed(quantization_config={"quant_method": "gptq", "bits": 4}),
        f"{WRONG} quantization_config must be left out.*; give the model as it was before it was quantized$",
    ),
    "compressed": (changed(compression_config={"quant_method": "x"}), f"{WRONG} compression_config must be left out"),
    "unknown attention": (changed(_attn_implementation="nope"), f'{WRONG} _attn_implementation must be "eager" or "sd'),
    "a GPU's attention": (changed(attn_implementation="flash_attention_2"), f'{WRONG} attn_implementation must be "ea'),
    "attention by number": (changed(_attn_implementation=5), f"{WRONG} _attn_implementation must be .* got 5"),
    "unknown experts": (changed(experts_implementation="nope"), f"{WRONG} experts_implementation cannot be used"),
    "relative positions": (
        changed(position_embedding_type="relative_key"),
        f"{WRONG} position_embedding_type must be \"absolute\".*, got 'relative_key'; give a model with absolute",
    ),
    "pruned heads": (changed(pruned_heads={"0": [1]}), f"{WRONG} pruned_heads must be empty"),
    "unknown number type": (changed(dtype="nope"), f"{WRONG} dtype must be a floating-point type"),
    "whole-number type": (changed(torch_dtype="int8"), f"{WRONG} torch_dtype must be a floating-point type"),
    "text for a piece": (changed(chunk_size_feed_forward="x"), f"{WRONG} chunk_size_feed_forward must be a whole num"),
    "outputs of TorchScript": (changed(torchscript=True), f"{WRONG} torchscript must be false or left out, got True"),
    "a method's name": (changed(to_dict=5), f"{WRONG} to_dict is no field of a configuration"),
    "a map of names": (changed(attribute_map=5), f"{WRONG} attribute_map cannot be used"),
    "kinds of layers": (changed(layer_types=["x"]), f"{WRONG} layer_types cannot be used .The .*entries must be in "),
    "a plan": (changed(base_model_tp_plan=5), f"{WRONG} base_model_tp_plan cannot be used"),
    "endless layers": (changed(num_hidden_layers=2**31), "num_hidden_layers must be at most 100000000, got 2147483648"),
    "endless width": (changed(hidden_size=2**31), "hidden_size must be at most 100000000, got 2147483648"),
    "endless words": (changed(vocab_size=2**31), "vocab_size must be at most 100000000, got 2147483648"),
    "endless positions": (changed(max_position_embeddings=10**400), "max_position_embeddings must be at most 1000"),
    "endless classes": (changed(num_labels=2**31), f"{CONFIG} is wrong: num_labels must be at most 1000000, got 214"),
    "no layers": (changed(num_hidden_layers=0), f"{CONFIG} is wrong: num_hidden_layers must be at least 1, got 0"),
    "negative layers": (changed(num_hidden_layers=-1), "num_hidden_layers must be at least 1, got -1"),
    "negative width": (changed(hidden_size=-32), "hidden_size must be at least 1, got -32"),
    "no heads": (changed(num_attention_heads=0), "num_attention_heads must be at least 1, got 0"),
    "no words": (changed(vocab_size=0), "vocab_size must be at least 1, got 0"),
    "no neurons": (changed(intermediate_size=0), "intermediate_size must be at least 1, got 0"),
    "no positions": (changed(max_position_embeddings=0), "max_position_embeddings must be at least 1, got 0"),
    "no token types": (changed(type_vocab_size=0), "type_vocab_size must be at least 1, got 0"),
    "heads do not divide": (changed(num_attention_heads=5), "hidden_size 32 is no multiple of num_attention_heads 5"),
    "DistilBERT's names": (other("distilbert", n_heads=5), "dim 32 is no multiple of n_heads 5"),
    "decoder": (changed(is_decoder=True), "is_decoder is true, but only an encoder can be trained"),
    "cross attention": (changed(add_cross_attention=True), "add_cross_attention is true"),
    "activation": (changed(hidden_act="gulu"), f"{WRONG} hidden_act must be the name of an activation .*gelu.*'gulu'"),
    "no activation": (changed(hidden_act=""), f"{WRONG} hidden_act must be the name of an activation .*, got ''"),
    "activation by number": (changed(hidden_act=5), f"{WRONG} hidden_act must be the name of an activation .*, got 5"),
    "dropout": (changed(hidden_dropout_prob=2), f"{WRONG} hidden_dropout_prob must be a number of at least 0 and"),
    "negative dropout": (changed(attention_probs_dropout_prob=-0.1), f"{WRONG} attention_probs_dropout_prob must be a"),
    "dropout of all": (changed(hidden_dropout_prob=1.0), f"{WRONG} hidden_dropout_prob must be .* below 1, got 1.0"),
    "dropout as text": (changed(hidden_dropout_prob="0.1"), f"{WRONG} hidden_dropout_prob must be a number .* '0.1'"),
    "dropout before the head": (changed(classifier_dropout=2), f"{WRONG} classifier_dropout must be a number of at le"),
    "DistilBERT's dropout": (other("distilbert", seq_classif_dropout=2), f"{WRONG} seq_classif_dropout must be a numb"),
    "DistilBERT's activation": (other("distilbert", activation="x"), f"{WRONG} activation must be the name of an acti"),
    "padding outside": (changed(pad_token_id=1000), "pad_token_id 1000 is not below vocab_size 60"),
    "negative padding": (changed(pad_token_id=-1), "pad_token_id -1 is not below vocab_size 60"),
    "RoBERTa without padding": (other("roberta", pad_token_id=None), "pad_token_id is missing, from which positions"),
    "RoBERTa without room": (other("roberta", max_position_embeddings=2), "max_position_embeddings 2 leaves no"),
    # what the weights are
    "cut weights": (cut(WEIGHTS, -10), f"m/{WEIGHTS} cannot be loaded .*; if the file is damaged or incomplete, copy"),
    "empty weights": (written(WEIGHTS, b""), f"m/{WEIGHTS} cannot be loaded"),
    "Git's pointer": (written(WEIGHTS, b"version https://git-lfs.github.com"), f"m/{WEIGHTS} cannot be loaded"),
    "damaged pickle": (pickled(b"junk"), "m/pytorch_model.bin cannot be loaded"),
    "pickled code": (pickled(b"cos\nsystem\n(S'true'\ntR."), "m/pytorch_model.bin cannot be loaded"),
    "a missing shard": (sharded("model-00002*"), "m/model.safetensors.index.json cannot be loaded .*model-00002"),
    "NaN": (one_number(QUERY, float("nan")), f"the weights of m are not all finite numbers \\({QUERY}\\)"),
    "infinity": (one_number("bert.embeddings.LayerNorm.bias", float("inf")), "not all finite numbers .*LayerNorm.bias"),
    "an adapter": (written("adapter_config.json", b"{}"), "m holds an adapter .*; merge it into its model"),
    # config.json against the weights
    "wider": (changed(hidden_size=64), f"{UNFIT}: tensors of another shape: 37 \\(bert.* is 32, not 64\\)"),
    "fewer words": (changed(vocab_size=11), f"{UNFIT}: tensors of another shape: 1 .* is 60 × 32, not 11 × 32"),
    "fewer positions": (changed(max_position_embeddings=50), f"{UNFIT}: tensors of another shape: 1 .*40 × 32, not 50"),
    "more neurons": (changed(intermediate_size=64), f"{UNFIT}: tensors of another shape: 6"),
    "more token types": (changed(type_vocab_size=3), f"{UNFIT}: tensors of another shape: 1"),
    "more layers": (changed(num_hidden_layers=3), f"{UNFIT}: missing tensors: 16"),
    "fewer layers": (changed(num_hidden_layers=1), f"{UNFIT}: tensors that have no place in it: 16 .*layer.1"),
    "a tensor missing": (tensors(lambda state: state.pop(QUERY)), f"{UNFIT}: missing tensors: 1 \\({QUERY}"),
    "a tensor too many": (
        tensors(lambda state: state.update({f"{QUERY}.more": torch.ones(2)})),
        f"{UNFIT}: tensors that have no place in it: 1 \\({QUERY}.more\\)",
    ),
    "a pooler of another size": (
        tensors(lambda state: state.update({"bert.pooler.dense.weight": torch.ones(8, 32)})),
        f"{UNFIT}: tensors of another shape: 1 .*pooler",
    ),
    "weights of another type": (other("roberta", model_type="bert", architectures=None), f"{UNFIT}: missing"),
    "weights of nothing known": (tensors(lambda state: (state.clear(), state.update(x=torch.ones(1)))), f"{UNFIT}: "),
    "XLM-R that is called BERT": (
        bare("xlm-roberta", model_type="bert", architectures=None),
        f"{WRONG} model_type is bert, but its weights count positions from the padding token; write the type",
    ),
    "CamemBERT that is called ELECTRA": (
        bare("camembert", model_type="electra", embedding_size=32, architectures=None),
        f"{WRONG} model_type is electra, but its weights count positions from the padding token",
    ),
    "BERT that is called RoBERTa": (
        bare("bert", model_type="roberta"),
        f"{WRONG} model_type is roberta, but architectures says BertModel; write the type that its weights are of$",
    ),
    "XLM-R that is called BERT and says so": (
        bare("xlm-roberta", model_type="bert"),
        f"{WRONG} model_type is bert, but architectures says XLMRobertaModel",
    ),
    "zeros": (
        tensors(lambda state: state[QUERY].zero_()),
        f"the weights of m are 0.0 everywhere in {QUERY}; copy or download the model again",
    ),
    "one number": (tensors(lambda state: state[QUERY].fill_(0.5)), f"the weights of m are 0.5 everywhere in {QUERY}"),
    "words of zeros": (
        tensors(lambda state: state["bert.embeddings.word_embeddings.weight"].zero_()),
        "the weights of m are 0.0 everywhere in bert.embeddings.word_embeddings.weight",
    ),
    "a norm of zeros": (
        tensors(lambda state: state["bert.encoder.layer.0.output.LayerNorm.weight"].zero_()),
        "the weights of m are 0.0 everywhere in bert.encoder.layer.0.output.LayerNorm.weight",
    ),
    "far more layers": (changed(num_hidden_layers=100_000), f"{UNFIT}: it describes at least 716,8.*, they hold 19"),
    "far wider": (changed(hidden_size=2**20), f"{UNFIT}: it describes at least "),
    "far more words": (changed(vocab_size=10**8), f"{UNFIT}: it describes at least 3,200,0"),
    "far more positions": (changed(max_position_embeddings=10**8), f"{UNFIT}: it describes at least 3,200,0"),
    "far more neurons": (changed(intermediate_size=10**8), f"{UNFIT}: it describes at least 12,800,0"),
    "far more layers in PyTorch's format": (
        both(pickled(None), changed(num_hidden_layers=100_000)),
        f"{UNFIT}: it describes at least",
    ),
    "far more layers in several files": (
        both(sharded(None), changed(num_hidden_layers=100_000)),
        f"{UNFIT}: it describes at least",
    ),
    "DistilBERT with far more layers": (other("distilbert", n_layers=100_000), f"{UNFIT}: it describes at least"),
    "whole numbers": (of_type(torch.int8), f"{UNFIT}: {QUERY} holds I8, and not floating-point numbers"),
    "complex numbers": (of_type(torch.complex64), f"{UNFIT}: {QUERY} holds C64, and not floating-point numbers"),
    "truth values": (of_type(torch.bool), f"{UNFIT}: {QUERY} holds BOOL, and not"),
    "whole numbers in PyTorch's format": (both(of_type(torch.int64), pickled(None)), f"{QUERY} holds torch.int64, and"),
    # the tokenizer
    "cut tokenizer": (cut("tokenizer.json", 200), "the tokenizer of m cannot be loaded"),
    "tokenizer is a list": (written("tokenizer.json", b"[]"), "the tokenizer of m cannot be loaded"),
    "tokenizer of more words": (
        edited("tokenizer.json", lambda record: record["model"]["vocab"].update(more=60)),
        "the tokenizer of m has tokens up to number 60, its model only 60 rows",
    ),
    "no padding token": (
        without("pad_token", "tokenizer_config.json"),
        'the tokenizer of m has no padding token; set "pad_token" in its tokenizer_config.json',
    ),
    "a tokenizer of no words": (other_words("[UNK]"), "the tokenizer of m knows no word of plain sentences; give the"),
    "a tokenizer of no words, their token unnamed": (
        both(other_words("[UNK]"), without("unk_token", "tokenizer_config.json")),
        "the tokenizer of m knows no word of plain sentences",
    ),
    "a tokenizer of one token": (other_words("[MASK]"), "the tokenizer of m knows no word of plain sentences"),
    "RoBERTa padded otherwise": (other("roberta"), "the tokenizer of m pads with token 0, its config.json says 1"),
}  # fmt: skip
"""By name: what is done to a model, and a pattern of what is said."""


@pytest.mark.parametrize("name", REFUSED)
def test_a_model_that_does_not_fit_is_refused_in_one_line(
    folder: Path, name: str, notes: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    damage, words = REFUSED[name]
    damage(folder)
    before = sorted(Path().rglob("*"))
    monkeypatch.setattr(create_run, "make_run_examples", lambda *_, **__: None)  # the notes are read for nothing here
    assert main(["launch", "--model", "m", "--notes", str(notes), "--max-length", "32"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("symptune: error: --model: ")
    assert re.search(words, line), line
    assert sorted(Path().rglob("*")) == before


def with_old_names(folder: Path) -> None:
    """As checkpoints of 2019 name their layer norms, with the buffer that they hold."""
    state = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in state.items()
    }
    torch.save(old | {"bert.embeddings.position_ids": torch.arange(LIMIT)[None]}, folder / "pytorch_model.bin")


def head_of(classes: int) -> Damage:
    head = {"classifier.weight": torch.ones(classes, 32), "classifier.bias": torch.ones(classes)}
    return tensors(lambda state: state.update(head))


def of_class(cls: type[PreTrainedModel]) -> Damage:
    """The same encoder, saved by another class."""

    def damage(folder: Path) -> None:
        model = cls.from_pretrained(folder)
        (folder / WEIGHTS).unlink()
        model.save_pretrained(folder)

    return damage


TAKEN: dict[str, Damage] = {
    "as it is": lambda folder: None,
    "an encoder without a head": of_class(BertModel),
    "a masked language model": of_class(BertForMaskedLM),
    "a pretrained model with both heads": of_class(BertForPreTraining),
    "a token classifier": of_class(BertForTokenClassification),
    "a model that answers questions": of_class(BertForQuestionAnswering),
    "a head for other classes": head_of(17),
    "old names": with_old_names,
    "PyTorch's own format": pickled(None),
    "several files": sharded(None),
    "half precision": saved(tiny_model("bert").half()),
    "bfloat16": saved(tiny_model("bert").bfloat16()),
    "no padding index": changed(pad_token_id=None),
    "outputs as tuples": changed(return_dict=False, output_attentions=True, output_hidden_states=True),
    "a feed-forward in pieces": changed(chunk_size_feed_forward=3),
    "values of older versions": changed(
        pruned_heads={},
        position_embedding_type="absolute",
        torch_dtype="float16",
        gradient_checkpointing=False,
        label2id=None,
        id2label=None,
        _attn_implementation_autoset=True,
        classifier_dropout=None,
        problem_type=None,
        quantization_config=None,
        _name_or_path="m",
        transformers_version="4.8.2",
    ),
    "no labels": changed(id2label={}, num_labels=2),
    "labels that are numbers": changed(id2label={"0": 0, "1": 1, "2": 2}, label2id={"a": "0"}),
    "a tokenizer with a limit of its own": changed("tokenizer_config.json", model_max_length=8),
}


@pytest.mark.parametrize("name", TAKEN)
def test_a_model_that_fits_is_taken_with_all_its_weights(folder: Path, name: str) -> None:
    TAKEN[name](folder)
    settings = settings_for(folder, max_length=32, strategies=("baseline",))
    assert check_model(settings.model) == model_problems(settings) == []
    loaded, _ = load_pretrained(str(folder), None, ("pain", "fever"), seed=0)
    expected = tiny_model("bert").to({"half precision": torch.half, "bfloat16": torch.bfloat16}.get(name, torch.float))
    encoder = {
        key: tensor for key, tensor in expected.state_dict().items() if not re.match(r"classifier|bert\.pooler", key)
    }
    assert len(encoder) == 37
    assert all(torch.equal(loaded.state_dict()[key], tensor.float()) for key, tensor in encoder.items())


@pytest.mark.parametrize("architecture", encoder.ARCHITECTURES)
def test_every_type_is_taken_as_it_is_saved(folder: Path, architecture: str) -> None:
    """Also XLM-R's token types of zeros, and the padding token's position of zeros that RoBERTa's kind has."""
    model = tiny_model(architecture)
    for name, tensor in model.state_dict().items():
        if name.endswith("token_type_embeddings.weight"):
            tensor.zero_()
    (folder / WEIGHTS).unlink()
    model.base_model.save_pretrained(folder)
    if counts_from_padding(model.config):
        edited("tokenizer.json", lambda record: swapped_padding(record["model"]["vocab"]))(folder)
    settings = settings_for(folder, max_length=32, strategies=("baseline",))
    assert check_model(settings.model) == model_problems(settings) == []


def test_a_class_that_is_not_known_says_nothing_of_the_type(folder: Path) -> None:
    changed(architectures=["HospitalBert", 5])(folder)
    assert check_model(settings_for(folder, max_length=32).model) == []


def test_numbers_too_large_for_the_first_model_are_told_before_the_search(folder: Path) -> None:
    tensors(lambda state: state["bert.encoder.layer.0.output.dense.weight"].uniform_(1e38, 3e38))(folder)
    (problem,) = model_problems(settings_for(folder))
    assert str(problem) == "model: baseline cannot run m (non-finite logits on validation); give another model"


def test_every_strategys_first_model_is_tried(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 2, "intermediate_size": 48}
    config = ElectraConfig(**sizes, embedding_size=16, vocab_size=60, max_position_embeddings=LIMIT)
    ElectraModel(config).save_pretrained(folder)
    assert model_problems(settings_for(folder)) == []
    (problem,) = model_problems(settings_for(folder, space={"distillation": {"smaller_in": "width"}}))
    assert "distillation cannot run m (ValueError: embeddings 16 wide" in str(problem)


def test_a_configuration_without_a_model_refuses_none(folder: Path) -> None:
    """A student of half a layer is as large as its teacher: that trial fails by itself, others of it may not."""
    assert model_problems(settings_for(folder, layers=1)) == []


def test_a_full_disk_of_temporary_files_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(stored, "save_model", full)
    (problem,) = model_problems(settings_for(folder))
    assert str(problem).startswith(f"model: {tempfile.gettempdir()} takes no copy of m ([Errno 28] No space left")


def test_a_run_that_exists_has_its_model_and_tries_no_other(
    folder: Path, notes: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run_file(Folder("runs/r"))
    monkeypatch.setattr(create_run, "model_problems", lambda settings: pytest.fail("it was loaded"))
    assert main(["launch", "--name", "r", "--model", "m", "--notes", str(notes), "--max-length", "32"]) == 2
    assert "run r exists with other settings" in capsys.readouterr().err


def test_a_search_from_python_refuses_the_model_too(folder: Path, notes: Path) -> None:
    changed(hidden_size=64)(folder)
    with pytest.raises(symptune.InputError, match=f"^model: {UNFIT}"):
        symptune.search(notes, model="m", max_length=32)
    assert not Path("runs").exists()


def test_a_benchmark_refuses_the_model_too(folder: Path) -> None:
    with pytest.raises(SystemExit, match=r"^error: layers: m has 2, got 3"):
        encoder_of("m", 3, ("pain", "fever"))
    changed(hidden_size=64)(folder)
    with pytest.raises(SystemExit, match=f"^error: model: {UNFIT}"):
        encoder_of("m", None, ("pain", "fever"))


def test_a_model_in_the_hubs_cache_needs_no_network(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository, commit = Path("cache/models--some--model").absolute(), "a" * 40
    shutil.copytree(folder, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(repository.parent))
    monkeypatch.setattr(pretrained, "_hub_answers", lambda: False)
    settings = settings_for(Path("some/model"), strategies=("baseline",))
    assert check_model(settings.model) == model_problems(settings) == []
    (repository / "snapshots" / commit / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"^model: the config.json of some/model cannot be read"):
        check_model(settings.model)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (f"m/{WEIGHTS}", "m/model.safetensors is a file; give the folder that holds it"),
        ("m" * 300, f"{'m' * 80} cannot be read .*"),
        ("./n", "./n is not a folder; give a model folder or a hub name"),
        ("m\0", ".*"),
    ],
)
def test_what_is_no_folder_is_not_taken_for_a_name_on_the_hub(
    folder: Path, name: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrained, "_hub_answers", lambda: False)
    with pytest.raises(InputError, match=f"^model: {words}$"):
        load_pretrained(name, None, ("pain", "fever"), seed=0)
