"""The labelled examples of a run as models read them."""

from transformers import PreTrainedTokenizerBase

from clinical_notes.batches import TokenisedExamples, tokenise
from run_folder.run import Run


def tokenised_examples(run: Run, split: str, tokenizer: PreTrainedTokenizerBase) -> TokenisedExamples:
    """The examples of a split, tokenised.

    Args:
        split: train, validation or test.
        tokenizer: of the run's model.
    """
    examples = run.examples(split)
    return tokenise(
        tokenizer,
        list(examples["id"]),
        list(examples["text"]),
        run.labels(examples),
        run.settings.model.max_length,
    )
