"""A text as a trained model reads it: cleaned, cut and masked as its training examples were."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from transformers import PreTrainedTokenizerBase

from clinical_notes.annotate import cleaned_sentences, note_sentences, note_window, raw_window_mentions
from clinical_notes.examples import mask_mentions
from clinical_notes.labeller import Mention
from clinical_notes.lexicon import Lexicon
from clinical_notes.mentions import MentionFinder
from clinical_notes.units import UnitKind
from clinical_notes.windows import WindowMaker

_CHARACTERS_PER_PIECE = 500
"""Upper bound on a token's characters, with placeholders and punctuation around it; limits the work on a huge text."""


@dataclass(frozen=True)
class InputSettings:
    """How the examples of a model were made; see ``examples.LabelSettings`` and ``annotate.Annotator``.

    Attributes:
        symptoms: the classes.
        task: as in ``LabelSettings``; exports older than this field are multiclass.
        max_length: tokens that the model was trained on; the rest of a text is not read.
        lexicon: the concepts that its notes were searched for.
    """

    symptoms: tuple[str, ...]
    unit: UnitKind
    window_chars: int
    raw_window: bool
    mentions: Literal["keep", "mask"]
    max_length: int
    lexicon: Lexicon
    task: Literal["multilabel", "multiclass"] = "multiclass"
    stride: int = 0
    note_rule: Literal["largest", "noisy-or"] = "largest"

    @property
    def in_windows(self) -> bool:
        """As ``LabelSettings.in_windows``."""
        return self.task == "multilabel" and self.unit == "note"

    def record(self) -> dict[str, Any]:
        """Plain data."""
        plain = {name: value for name, value in asdict(self).items() if name != "lexicon"}
        return {**plain, "symptoms": list(self.symptoms), "lexicon": self.lexicon.record()}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "InputSettings":
        """Read what ``record`` gave."""
        lexicon = Lexicon.from_record(record["lexicon"])
        return cls(**{**record, "symptoms": tuple(record["symptoms"]), "lexicon": lexicon})


class InputMaker:
    """Makes model inputs of texts. Made once, used for many.

    Args:
        tokenizer: of the model; needed where it reads whole notes in windows.
    """

    def __init__(self, settings: InputSettings, tokenizer: PreTrainedTokenizerBase) -> None:
        self._settings = settings
        self._windows = WindowMaker(tokenizer, settings.max_length, settings.stride)
        self._finder = MentionFinder(settings.lexicon)  # also where nothing is masked: "Fever: none" is no header

    def inputs(self, text: str) -> list[str]:
        """What a model reads of a text, none if it has no words; ``note_rule`` makes their probabilities the text's."""
        if self._settings.task == "multilabel" and self._settings.unit == "sentence":
            return [cleaned for _, cleaned in self.sentences(text) if cleaned.strip()]
        if self._settings.in_windows:
            return [self._masked(*window) for window in self._windows.windows(note_sentences(text, self._finder))]
        made = self.text(text)
        return [made] if made.strip() else []

    def text(self, text: str) -> str:
        """The one input that a text makes: the window of a note, or all sentences of a text."""
        settings = self._settings
        text = text[: _CHARACTERS_PER_PIECE * settings.max_length]  # the model reads no further
        if settings.raw_window:
            window = text[: settings.window_chars].lower()
            return self._masked(window, raw_window_mentions(text, self._finder, len(window)))
        limit = settings.window_chars if settings.unit == "note" else len(text)
        return self._masked(*note_window(text, self._finder, limit))

    def sentences(self, text: str) -> Iterator[tuple[int, str]]:
        """Index and input of each sentence that has words left."""
        for number, cleaned, mentions in cleaned_sentences(text, self._finder):
            if cleaned:
                yield number, self._masked(cleaned, mentions)

    def _masked(self, text: str, mentions: list[Mention]) -> str:
        return mask_mentions(text, mentions, self._settings.symptoms) if self._settings.mentions == "mask" else text
