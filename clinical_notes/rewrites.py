"""Example texts rewritten: the symptom hidden, renamed, or denied.

They show what a model relies on. Mentions are found again in the example's text, whose punctuation may be gone.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from zlib import crc32

from clinical_notes.clean import clean
from clinical_notes.examples import mask_mentions
from clinical_notes.labeller import Mention
from clinical_notes.lexicon import Concept, Lexicon, expression_of
from clinical_notes.mentions import MentionFinder
from clinical_notes.units import NEGATED, RESOLVED
from run_folder.settings import POSITIVE

_REPORTING = re.compile(
    r"\b(?:(?:has|have|had)(?: had| developed| been having)?|having|with|reports?|reported|reporting|notes|noted"
    r"|describes?|described|developed|endorses?|endorsed|(?:admits?|admitted) to|experienc(?:es|ed|ing)"
    r"|(?:complains?|complained|complaining)(?: of)?|c/?o|c o|presents? with|presented with|presenting with"
    r"|suffers from|states)(?P<between> (?:an? |some |the )?(?:(?!no\b|not\b|had\b|been\b)[a-z]+ )?)$"
)
_NOUN_PHRASE = re.compile(
    r"(?P<article>\b(?:an?|the|some|any|his|her|their) )?"
    r"(?P<adjectives>(?:\b(?:new|recent|mild|moderate|severe|significant|intermittent|occasional|persistent|ongoing"
    r"|chronic|acute|worsening|further|obvious|associated|episodic|marked|diffuse|increasing|increased|constant|slight"
    r"|trace) )*)$"
)
_PREDICATE = re.compile(
    r"(?:ile|ish|ous|ful|(?:ff|ch|mp|z|eat|eas)y|ollen|tender|sore|numb|weak|pale|faint|anic|agic|otic|ctic|bled|ached|coughed|oozed|swelled|rrhaged|hurts?|hurting|bleeds"
    r"|aches|coughs|swells)$"
)
"""Ends of forms that are no nouns: "not febrile" rather than "no febrile"."""


class Rewriter:
    """Rewrites the example texts of a run. Made once, used for many; every method returns None where it cannot.

    Args:
        lexicon: that the examples were made with.
        symptoms: the classes.
    """

    def __init__(self, lexicon: Lexicon, symptoms: Sequence[str]) -> None:
        self._lexicon = _as_in_examples(lexicon)
        self._symptoms = tuple(symptoms)
        self._finder = MentionFinder(self._lexicon)

    def masked(self, text: str, symptom: str) -> str | None:
        """Every class's names hidden, as the setting ``mentions = "mask"`` hides them."""
        mentions = self._finder.find(text)
        if all(mention.concept != symptom for mention in mentions):
            return None
        return mask_mentions(text, mentions, self._symptoms)

    def renamed(self, text: str, symptom: str, forms: Sequence[str]) -> str | None:
        """The symptom's names replaced by one of these forms, the same for the same text.

        A noun is tried for a noun first. Every mention stays affirmed or denied as it was, or else the next form is
        tried.
        """
        mentions = self._named(text, symptom)
        if not mentions or not forms:
            return None
        first = crc32(text.encode()) % len(forms)
        kind = _kind(text[mentions[0].start : mentions[0].end])
        for form in sorted((*forms[first:], *forms[:first]), key=lambda form: _kind(form) != kind):
            result = text
            for mention in reversed(mentions):
                result = result[: mention.start] + form + result[mention.end :]
            if [m.assertion for m in self._named(result, symptom)] == [m.assertion for m in mentions]:
                return result
        return None

    def negated(self, text: str, symptom: str) -> str | None:
        """The symptom denied wherever it was affirmed: "no fever", "denies fever", "not febrile".

        The rules find it denied in the result, and affirmed nowhere.
        """
        affirmed = [m for m in self._named(text, symptom) if m.assertion in POSITIVE]
        if not affirmed:
            return None
        for deny in (_denied_by_verb, _denied_by_word, _denied_outright):
            result = text
            for mention in reversed(affirmed):
                result = deny(result, mention)
            found = {m.assertion for m in self._finder.find(result) if m.concept == symptom}
            if found & {NEGATED, RESOLVED} and not found & set(POSITIVE):
                return result
        return None

    def _named(self, text: str, symptom: str) -> list[Mention]:
        """The symptom's mentions but for forms that deny it by themselves."""
        if symptom not in self._lexicon.concepts:  # of labels that the rules did not give
            return []
        denying = self._lexicon.concepts[symptom].negative
        return [
            m
            for m in self._finder.find(text)
            if m.concept == symptom and text[m.start : m.end].lower().replace("\n", " ") not in denying
        ]


def unseen_forms(
    lexicon: Lexicon, symptom: str, shown: Iterable[str], held_back: Sequence[str] = ()
) -> tuple[str, ...]:
    """Forms of a symptom that these texts never show, whole or by a shorter form inside ("leg edema" by "edema").

    Args:
        shown: the texts that models were trained and chosen on.
        held_back: forms kept out of them on purpose; the others are not needed, unless each of these has a shorter
            form inside that is shown ("incisional pain").
    """
    concept = _as_in_examples(lexicon).concepts.get(symptom)
    forms = tuple(form for form in concept.forms if not expression_of(form)) if concept else ()
    corpus = "\n".join(shown)
    seen = [form for form in forms if _holds(corpus, form)]
    new, new_on_purpose = (
        tuple(form for form in wanted if not any(_holds(form, other) for other in seen))
        for wanted in (forms, held_back)
    )
    return new_on_purpose or new


def _holds(text: str, form: str) -> bool:
    return form in text and re.search(rf"(?<!\w){re.escape(form)}(?!\w)", text) is not None


def _kind(form: str) -> tuple[bool, bool]:
    """Whether a form is a predicate, and whether it tells a value ("temp 101")."""
    return _PREDICATE.search(form) is not None, any(c.isdigit() for c in form)


def _as_in_examples(lexicon: Lexicon) -> Lexicon:
    """Every form also as cleaning leaves it ("c/c/e": "c c e")."""

    def both(forms: Sequence[str]) -> tuple[str, ...]:
        cleaned = ((form,) if expression_of(form) else (clean(form, (0, len(form)))[0], form) for form in forms)
        return tuple(dict.fromkeys(form for of_one in cleaned for form in of_one))

    concepts: Mapping[str, Concept] = lexicon.concepts
    return Lexicon(
        {
            name: replace(
                c, forms=both(c.forms), negative=both(c.negative), exclude=both(c.exclude), shared=both(c.shared)
            )
            for name, c in concepts.items()
        }
    )


def _denied_by_verb(text: str, mention: Mention) -> str:
    """ "has fever": "denies fever"."""
    before, named = text[: mention.start], text[mention.start :]
    verb = _REPORTING.search(before)
    if verb is None or _PREDICATE.search(text[mention.start : mention.end]):
        return _denied_by_word(text, mention)
    return f"{before[: verb.start()]}denies{verb['between']}{named}"


def _denied_by_word(text: str, mention: Mention) -> str:
    """ "mild fever": "no mild fever"; "febrile": "not febrile"."""
    before, named = text[: mention.start], text[mention.start :]
    if _PREDICATE.search(text[mention.start : mention.end]):
        return f"{before}not {named}"
    phrase = _NOUN_PHRASE.search(before)
    assert phrase is not None  # it may be empty
    return f"{before[: phrase.start()]}no {phrase['adjectives']}{named}"


def _denied_outright(text: str, mention: Mention) -> str:
    return f"{text[: mention.start]}no evidence of {text[mention.start :]}"
