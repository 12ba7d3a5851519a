"""The labellers that there are, and those that a user brings."""

import importlib
from collections.abc import Callable

from clinical_notes.labeller import Labeller, Mention
from clinical_notes.lexicon import Lexicon
from clinical_notes.medspacy_labeller import check_installed
from clinical_notes.mentions import MentionFinder
from run_folder.errors import InputError, Problem, first_line, quoted
from run_folder.settings import LABELLERS, STATUSES


def labeller_of(name: str, lexicon: Lexicon) -> Labeller:
    """The labeller of this name.

    Args:
        name: one of ``LABELLERS``, or ``MODULE:CLASS``, a class that is made with the lexicon.

    Raises:
        InputError: there is none, it is not installed, or it cannot be imported.
    """
    if name == "rules":
        return MentionFinder(lexicon)
    if name == "medspacy":
        from clinical_notes.medspacy_labeller import MedspacyLabeller  # spaCy takes seconds

        return MedspacyLabeller(lexicon)
    return _Checked(name, _imported(name)(lexicon), lexicon)


def check_labeller(name: str) -> None:
    """Raises: InputError: as ``labeller_of``."""
    if name == "medspacy":
        check_installed()
    elif name not in LABELLERS:
        _imported(name)


def _imported(name: str) -> Callable[[Lexicon], Labeller]:
    module, _, of = name.partition(":")
    if not of:
        message = f"there is no {quoted(name)} (there are {', '.join(LABELLERS)})"
        raise InputError(Problem("labeller", message, "name one, or give MODULE:CLASS of your own"))
    try:
        found: Callable[[Lexicon], Labeller] = getattr(importlib.import_module(module), of)
    except Exception as error:  # the module is the user's, and may raise anything
        message = f"{quoted(name)} cannot be imported ({first_line(error)})"
        raise InputError(Problem("labeller", message, "install it, or put its folder on PYTHONPATH")) from error
    if not isinstance(found, type) or not callable(getattr(found, "find", None)):
        message = f"{quoted(name)} is no class with a method find"
        raise InputError(Problem("labeller", message, "name one that is made with the lexicon"))
    return found


class _Checked(Labeller):
    """A labeller of the user's, whose mentions are checked: a wrong status would silently count as none."""

    def __init__(self, name: str, labeller: Labeller, lexicon: Lexicon) -> None:
        self._name, self._labeller, self._lexicon = name, labeller, lexicon

    def find(self, text: str) -> list[Mention]:
        mentions = list(self._labeller.find(text))
        for mention in mentions:
            if reason := self._problem(mention, text):
                raise InputError(Problem("labeller", f"{self._name} gives a mention {reason}", "correct its find"))
        return sorted(mentions, key=lambda mention: (mention.start, mention.end))

    def _problem(self, mention: Mention, text: str) -> str | None:
        if mention.assertion not in STATUSES:
            return f"of the status {quoted(str(mention.assertion))} (there are {', '.join(STATUSES)})"
        if mention.concept not in self._lexicon.concepts:
            return f"of {quoted(str(mention.concept))}, which the lexicon does not have"
        return None if 0 <= mention.start < mention.end <= len(text) else "outside of its text"
