"""The labellers that there are."""

from clinical_notes.labeller import Labeller
from clinical_notes.lexicon import Lexicon
from clinical_notes.mentions import MentionFinder
from run_folder.settings import LabellerName


def labeller_of(name: LabellerName, lexicon: Lexicon) -> Labeller:
    """The labeller of this name. Raises: InputError: it is not installed."""
    if name == "rules":
        return MentionFinder(lexicon)
    from clinical_notes.medspacy_labeller import MedspacyLabeller  # spaCy takes seconds

    return MedspacyLabeller(lexicon)
