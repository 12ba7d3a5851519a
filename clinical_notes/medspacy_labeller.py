"""medspaCy's ConText and sections as a labeller: the lexicon says where symptoms are, medspaCy what is said of them."""

import functools
import importlib.util
from typing import Any

from clinical_notes.forms import DENYING, FormFinder
from clinical_notes.labeller import Labeller, Mention
from clinical_notes.lexicon import Lexicon
from clinical_notes.squeezed import squeeze
from clinical_notes.units import AFFIRMED, HISTORICAL, HYPOTHETICAL, NEGATED, OTHER, UNCERTAIN
from run_folder.errors import InputError, Problem

_STATUS_OF = {
    "is_family": OTHER,
    "is_negated": NEGATED,
    "is_hypothetical": HYPOTHETICAL,
    "is_historical": HISTORICAL,
    "is_uncertain": UNCERTAIN,
}
"""medspaCy's attributes of a span, and what they say; of several the first counts."""
_SPANS = "medspacy_spans"
_PARTS = {"medspacy_tokenizer", "medspacy_pyrush", "medspacy_context", "medspacy_sectionizer"}


class MedspacyLabeller(Labeller):
    """Finds the mentions of a lexicon's concepts and has medspaCy's rules assert them.

    Raises:
        InputError: medspaCy is not installed.
    """

    def __init__(self, lexicon: Lexicon) -> None:
        check_installed()
        self._forms = FormFinder(lexicon)
        self._pipeline = _pipeline()

    def find(self, text: str) -> list[Mention]:
        squeezed = squeeze(text)
        found = self._forms.matches(squeezed.lowered)
        if not found:
            return []
        places = [(squeezed.place_in_note(m.start), squeezed.place_in_note(m.end - 1) + 1) for m in found]
        mentions = []
        for match, place, status in zip(found, places, self._statuses(text, places), strict=True):
            if match.kind == DENYING and status != OTHER:
                status = AFFIRMED if status == NEGATED else NEGATED
            mentions += [Mention(concept, status, *place) for concept in match.concepts]
        return mentions

    def _statuses(self, text: str, places: list[tuple[int, int]]) -> list[str]:
        document = self._pipeline.make_doc(text)
        spans = [document.char_span(*place, label="SYMPTOM", alignment_mode="expand") for place in places]
        document.spans[_SPANS] = spans
        for _, component in self._pipeline.pipeline:
            document = component(document)
        # A span group gives copies of its spans; what medspaCy notes is kept by their place.
        return [next((of for name, of in _STATUS_OF.items() if span._.get(name)), AFFIRMED) for span in spans]


def check_installed() -> None:
    """Raises: InputError: medspaCy is not installed."""
    if importlib.util.find_spec("medspacy") is None:
        fix = "pip install 'symptune[medspacy]' (Python 3.12 or newer)"
        raise InputError(Problem("labeller", "medspaCy is not installed", fix))


@functools.cache
def _pipeline() -> Any:
    """spaCy's blank English pipeline with medspaCy's tokeniser, sentences, ConText and sections; no model is needed."""
    import medspacy
    from loguru import logger

    for package in ("PyRuSH", "PyFastNER"):  # they log the text that they read
        logger.disable(package)
    pipeline = medspacy.load(medspacy_enable=_PARTS)
    for name in ("medspacy_context", "medspacy_sectionizer"):
        pipeline.get_pipe(name).input_span_type = "group"
    return pipeline
