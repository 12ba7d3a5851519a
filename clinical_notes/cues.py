"""The cues of ``cues.yaml``, compiled into regular expressions; the file's header explains how phrases are written."""

import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from run_folder.errors import InputError

_FILE = Path(__file__).with_name("cues.yaml")
_PARTS, _GONE, _OVER, _ALLERGEN = "parts", "gone", "over", "allergen"
_PHRASE_KINDS = (
    "not_a_cue",
    "pseudo_negation",
    "pre_family",
    "post_family",
    "post_uncertain",
    "pre_uncertain",
    "pre_historical",
    "past_time",
    "pre_hypothetical",
    "effect",
    "post_hypothetical",
    "near_post_negation",
    "post_resolved",
    "post_negation",
    "near_negation",
    "pre_resolved",
    "pre_negation",
    "termination",
)
"""Kinds of cues that are phrases, in the order in which they are tried at a position."""
_HEADERS = (
    "negating_header",
    "resolved_header",
    "family_header",
    "relative_header",
    "historical_header",
    "hypothetical_header",
    "instruction_header",
    "section_header",
)
_OTHER_GROUPS = (*_HEADERS, "qualifier")

# Signs, grades and punctuation are no phrases and stay here.
_SIGN_START = r"(?:(?<=[,;:(] )|(?<=[,;:(])|^\s*(?=[+-]\s?\w[^.;]*[,;] ?[+-] ?\w))"
_ZERO = (
    r"(?<![\d./])0(?: ?(?:/|out of) ?10\b(?! (?:pain|discomfort|soreness)\b)|(?=\s*(?:[,;)]|\.(?!\d)|$)))"
    r"(?!.*\b(?:[1-9]|10) ?(?:/|out of) ?10\b)"
)
_PRESENT = r"(?:positive|trace|occasional|mild|minimal|slight|scant|[1-4]\+|\+[1-4])"
"""Start of a finding that is present, after others that are absent: "no murmurs, 1+ ankle edema"."""
_VERBS = (
    r"(?:(?:persist|continu|worsen|remain|recur|improv|increas|return|start)\w*(?<!ing)"
    r"|began|is|was|are|were|has|have)"
)
_NOT_FOUND = (
    r"(?!(?:[\w-]+ ){0,4}?n?or (?:[\w-]+ ){1,3}?(?:is|was|are|were|has been|have been) "
    r"(?:noted|reported|seen|observed|described|found|present|appreciated|identified|elicited|detected|evident)\b)"
)
"""Not before the rest of a list that ends with its verb: "no fever, cough or chills were noted"."""
_UNITS = r"(?:hour|day|night|week|month|year|hr|hrs|wk|d)s?"
_NUMBER = r"(?:\d+|a|an|one|two|three|four|five|six|seven|several|few|many)"
_STAY = (
    r"(?:(?:the|his|her|this|last|most|recent|prior|previous|initial) )*"
    r"(?:admission|admit|discharge|surgery|operation|procedure|transfer|arrival|extubation|intubation|visit|treatment)\b"
)
"""Since when nothing was seen: "no fever, chills since discharge"."""
_DURATION = (
    rf"(?:x ?(?:\d|{_NUMBER} {_UNITS}\b)|for (?:the (?:last|past) )?(?:\w+ )?{_NUMBER} {_UNITS}\b"
    rf"|since (?!{_STAY})[a-z]+)(?!,? n?or\b)"
)
_MINUS = rf"[(\[]-[)\]]|{_SIGN_START}-\s?(?=[a-z])|(?<=[a-z]) ?-(?=\s*(?:[,.;)]|$))"
_PLUS = rf"[(\[]\+[)\]]|{_SIGN_START}\+\s?(?=[a-z])|(?<=[a-z] )\+(?=[a-z])|(?<=[a-z]) ?\+(?=\s*(?:[,.;)]|$))"
_SIGN_BEFORE = r"(?:^|(?<=[,;:(] )|(?<=[,;:(]))neg(?:ative)?(?= [a-z])(?! (?:for|except|other)\b)"
_QUERY = r"(?<![^\s(,:;])(?:\?{1,2} ?(?=[a-z])|(?:suspects?|(?:question|suspicion) of)\b)"
"""Before what may be there and is named at once: "? seizure"."""
_CONTRACTED = r"n't\b(?: (?:have|had|having|any|complain\w*(?: of)?|report\w*|endorse\w*|experienc\w+))?"
_SIGN_AFTER = (
    rf"(?<=\w)[:=]? ?(?:(?:is|was|at|of|score|level|scale|rated|a|now) )*{_ZERO}"
    r"|(?<=\w)[:?] ?(?:no?|none|negative|neg|nil|denies|denied|absent)\b"
)
_AFTER_COMMA = (
    r"with |(?:then|so|and then)\b"
    rf"|(?!n?or\b){_NOT_FOUND}(?:\w+ ){{1,4}}?{_VERBS}\b|and (?:\w+ ){{1,4}}?{_VERBS}\b"
    rf"|(?!and\b)(?:(?!n?or\b)[\w/-]+ ){{1,3}}?{_DURATION}|{_NUMBER} {_UNITS} of\b"
    r"|(?!n?or\b)(?:\w+ )?tender\w* (?:in|over|to)\b(?![^,.;]{0,60},? n?or\b)"
    rf"|(?:and |with )?{_PRESENT}(?!\w)|\w+ing \w+ly\b|(?:\w+ ){{1,2}}without\b"
)
"""What begins a new statement after a comma."""
_DASHED = (
    r"(?:none|negative|denie[sd]|absent)"
    r"(?=\s*(?:[.,;:)]|$|(?:on|in|at|by|per|today|now|currently|this)\b|any\s*(?:[.;]|$)))"
)
"""An answer after a dash, which is of what stands before it: "cough - denies"; not "Resp - denies cough"."""
_STOP = (
    r";|\n|\.(?:(?=\s)|(?<=[a-z]{3}.)(?=[a-z]{3}))"
    rf"|(?<![,;:(])\s--?\s(?!{_DASHED}|(?:now |has )?(?:resolved|subsided|gone)\b)"
    rf"|,(?= ?(?:{_AFTER_COMMA}))"
)
_BOUNDS = rf"(?P<stop>{_STOP})|(?P<comma>,)"

_TOKEN = re.compile(r"\]\.\.\.|[][()| *+]|<(?P<least>\d+)-(?P<most>\d+) words>|<(?P<name>[a-z_]+)>|[^][()| *+<]+|.")
_INSERTED = re.compile(r"<(?P<name>[a-z_]+)>")


@dataclass(frozen=True)
class Cues:
    """What is read of the text around mentions.

    Attributes:
        all_kinds: finds the cues of a lower-case sentence; the name of the group that matched is the kind.
        frequent: the same where ``rare`` is not found; most sentences are such, and this is twice as fast.
        rare: a character or word without which cues of the other kinds cannot be.
        negating_header: found in a section header that denies the list below it.
        resolved_header: found in a section header that says that what is listed below is gone.
        family_header: found in the header of a section about relatives.
        relative_header: matches the header of what one relative has.
        historical_header: matches the header of a section about the past.
        hypothetical_header: matches the beginning of a header above allergies, side effects or what to call for.
        instruction_header: matches the beginning of a header above instructions.
        section_header: matches any header that begins a section, wherever it stands.
        qualifiers: the whole text between a line's start and its first symptom, where that text only qualifies it.
        allergen: matches what many are allergic to.
        allergen_before: finds the same at the end of a text in lower case.
    """

    all_kinds: re.Pattern[str]
    frequent: re.Pattern[str]
    rare: re.Pattern[str]
    negating_header: re.Pattern[str]
    resolved_header: re.Pattern[str]
    family_header: re.Pattern[str]
    relative_header: re.Pattern[str]
    historical_header: re.Pattern[str]
    hypothetical_header: re.Pattern[str]
    instruction_header: re.Pattern[str]
    section_header: re.Pattern[str]
    qualifiers: re.Pattern[str]
    allergen: re.Pattern[str]
    allergen_before: re.Pattern[str]

    def in_sentence(self, lowered: str) -> Iterator[re.Match[str]]:
        """The cues of a sentence in lower case, in order; each match's ``lastgroup`` is its kind."""
        return (self.all_kinds if self.rare.search(lowered) else self.frequent).finditer(lowered)


@functools.cache
def load_cues(path: Path = _FILE) -> Cues:
    """Read and compile a file of cues.

    Raises:
        InputError: an unreadable or ill-formed file; the message names the group and the phrase.
    """
    part_texts, groups = _read(path)
    parts: dict[str, str] = {}
    for name, text in part_texts.items():
        parts[name] = f"(?:{_any(_phrases(text), parts, f'{path}: {_PARTS}: {name}')})"
    any_of = {kind: _any(_phrases(groups[kind]), parts, f"{path}: {kind}") for kind in (*_PHRASE_KINDS, *_OTHER_GROUPS)}
    phrases = "|".join(f"(?P<{kind}>{any_of[kind]})" for kind in _PHRASE_KINDS)
    phrase = rf"(?<![\w-])(?:{phrases})(?![\w-])"
    sign_before = rf"(?=[nprs])(?P<sign_before>{_SIGN_BEFORE})"
    return Cues(
        # Inside a word only a contraction or a rating can begin. Saying so first, and how signs begin, is faster.
        all_kinds=re.compile(
            r"(?:\b|(?=\W)|(?=n't|0|(?:is|was|at|of|score|level|scale|rated|a|now) ))(?:"
            rf"{phrase}"
            rf"|(?=[-+(\[\s])(?:(?P<minus>{_MINUS})|(?P<plus>{_PLUS}))"
            rf"|(?=[?sq])(?P<query>{_QUERY})"
            rf"|{sign_before}|(?P<contracted>{_CONTRACTED})"
            rf"|(?P<resolved_after>, which {parts[_OVER]})"
            rf"|(?=[:=?\s0iwaoslrn,])(?P<sign_after>{_SIGN_AFTER}|, which {parts[_GONE]})"
            rf"|{_BOUNDS})"
        ),
        frequent=re.compile(rf"(?:\b|(?=\W))(?:{phrase}|{sign_before}|{_BOUNDS})"),
        rare=re.compile(r"[+?]|: ?[nda]|-(?:(?<!\w-)|(?!\w))|(?<![\d./])0|n't|, which|suspect|suspicion|question"),
        negating_header=re.compile(rf"\b(?:{any_of['negating_header']})$", re.IGNORECASE),
        resolved_header=re.compile(rf"\b(?:{any_of['resolved_header']})$", re.IGNORECASE),
        family_header=re.compile(any_of["family_header"], re.IGNORECASE),
        relative_header=re.compile(any_of["relative_header"], re.IGNORECASE),
        historical_header=re.compile(rf"(?:{any_of['historical_header']})$", re.IGNORECASE),
        hypothetical_header=re.compile(rf"(?:{any_of['hypothetical_header']})", re.IGNORECASE),
        instruction_header=re.compile(rf"(?:{any_of['instruction_header']})", re.IGNORECASE),
        section_header=re.compile(rf"(?:{any_of['section_header']})$", re.IGNORECASE),
        qualifiers=re.compile(rf"\s*(?:{any_of['qualifier']})\s+", re.IGNORECASE),
        allergen=re.compile(parts[_ALLERGEN], re.IGNORECASE),
        allergen_before=re.compile(rf"\b{parts[_ALLERGEN]} ?$"),
    )


def _read(path: Path) -> tuple[dict[str, str], dict[str, str]]:
    """The file's parts and its other groups, each a text by name."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({type(error).__name__}); give a YAML file of cues") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        raise InputError(f"{path} is not valid YAML{where}; indent phrases by two blanks below 'GROUP: |'") from error
    expected = {_PARTS, *_PHRASE_KINDS, *_OTHER_GROUPS}
    groups = content if isinstance(content, dict) else {}
    if set(groups) != expected:
        wrong = ", ".join(sorted(map(str, set(groups) ^ expected)))
        raise InputError(f"{path}: groups that are missing or unknown: {wrong}")
    if not isinstance(groups[_PARTS], dict) or not {_GONE, _OVER, _ALLERGEN} <= set(groups[_PARTS]):
        needed = f"{_GONE!r}, {_OVER!r} and {_ALLERGEN!r}"
        raise InputError(f"{path}: {_PARTS} must map names to phrases, {needed} among them")
    parts = groups.pop(_PARTS)
    for name, text in ({f"{_PARTS}: {name}": text for name, text in parts.items()} | groups).items():
        if not isinstance(text, str) or not _phrases(text):
            raise InputError(f"{path}: {name}: needs phrases, one a line, below '|'")
    return parts, groups


def _phrases(text: str) -> list[str]:
    """The phrases of a group, lines that continue joined."""
    lines = "\n".join(line.rstrip() for line in text.split("\n") if not line.lstrip().startswith("#"))
    joined = re.sub(r"\n +", " ", re.sub(r"\|\n +", "|", lines))
    return [phrase for phrase in joined.split("\n") if phrase]


def _any(phrases: Iterable[str], parts: Mapping[str, str], where: str) -> str:
    """A regular expression that matches any of the phrases, an earlier one first."""
    patterns = []
    for phrase in phrases:
        try:
            is_expression = phrase.startswith("/") and phrase.endswith("/")
            pattern = _filled_in(phrase[1:-1], parts) if is_expression else _pattern(phrase, parts)
            compiled = re.compile(pattern)
        except (ValueError, re.error) as error:
            raise InputError(f"{where}: {phrase!r}: {error}") from None
        if compiled.groups:
            raise InputError(f"{where}: {phrase!r}: write groups as (?:...)")
        if compiled.match(""):
            raise InputError(f"{where}: {phrase!r} matches nothing at all; leave a word outside [ ]")
        patterns.append(pattern)
    return "|".join(patterns)


def _filled_in(expression: str, parts: Mapping[str, str]) -> str:
    return _INSERTED.sub(lambda found: _part(found["name"], parts), expression)


def _part(name: str, parts: Mapping[str, str]) -> str:
    if name not in parts:
        raise ValueError(f"there is no part <{name}> above it (known: {', '.join(parts)})")
    return parts[name]


def _pattern(phrase: str, parts: Mapping[str, str]) -> str:
    """A phrase as a regular expression.

    What may be missing takes one of the blanks around it along: the one before, or at the start of a phrase or of an
    alternative the one after.
    """
    written: list[str] = []
    opened: list[tuple[str, bool]] = []  # bracket, and whether nothing that must be there came before it
    blank = ""  # a blank that is not yet written
    at_start = True
    position = 0
    while position < len(phrase):
        token = _TOKEN.match(phrase, position)
        assert token is not None  # the last alternative is any character
        text, position = token[0], token.end()
        blank_follows = phrase.startswith(" ", position)
        if text == " ":
            blank = " "
            continue
        if text == "[" or text == "(":
            written.append(f"(?:{blank}(?:" if text == "[" else f"{blank}(?:")
            opened.append((text, at_start))
            at_start = True
        elif text == ")" or text.startswith("]"):
            bracket, at_start = opened.pop() if opened else ("", False)
            if bracket != {")": "("}.get(text, "["):
                raise ValueError(f"the {text} has no opening bracket")
            taken = " " if text != ")" and at_start and blank_follows else ""
            closing = {")": ")", "]": f"){taken})?", "]...": f"){taken})*"}[text]
            written.append(blank + closing)
            position += len(taken)
            at_start = at_start and text != ")"
        elif text == "|":
            written.append(f"{blank}|")
            at_start = True
        elif token["most"]:
            taken = " " if at_start and blank_follows else ""
            written.append(rf"(?:{blank}\w+{taken}){{{token['least']},{token['most']}}}?")
            position += len(taken)
        else:
            known = {"*": r"\w*", "+": r"\w+", "<word>": r"\w+"}
            name = token["name"]
            plain = known.get(text) or (_part(name, parts) if name else re.escape(text))
            written.append(blank + plain)
            at_start = False
        blank = ""
    if opened:
        raise ValueError(f"the {opened[-1][0]} has no closing bracket")
    return "".join(written)
