"""Find mentions of symptoms in a note and decide whether they are affirmed, negated or not about the patient now.

Rules in the manner of ConText (Harkema et al. 2009): a cue governs the mentions after it (or before it) in its
sentence up to a word that ends its reach. Library implementations on spaCy take tens of milliseconds per note; these
rules run on sentences that hold a mention, and on nothing else.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import ahocorasick

from clinical_notes.clean import Sentence, sentences
from clinical_notes.lexicon import Lexicon
from clinical_notes.units import AFFIRMED, NEGATED, OTHER

_EXCLUDED, _DENYING = "excluded", "denying"


@dataclass(frozen=True, slots=True)
class Mention:
    """One surface form in one place; offsets into the note."""

    concept: str
    assertion: str
    start: int
    end: int


def _any(*phrases: str) -> str:
    return "|".join(phrases)


_NO_CUE = r"(?:but|and) (?:is |are )?not (?:limited|exclusive|restricted) (?:to|of)"
_RELATIVE = r"(?:mother|father|brother|sister|son|daughter|aunt|uncle|cousin|grand(?:mother|father|parents?)|parents?|siblings?|wife|husband|roommate|co-?worker|friend|neighbor|partner|spouse|boyfriend|girlfriend|grand(?:son|daughter|children)|niece|nephew|family members?)"
_PSEUDO = _any(
    r"no (?:significant |real |further |acute |interval )?(?:increase|change|improvement|relief|difference|decrease|reduction)",
    r"(?:no|without)(?: a| any)?(?: \w+){0,2}? (?:source|cause|etiology|explanation|reason|focus|trigger|precipitant)s? (?:of|for)",
    r"(?:almost|nearly|partially|partly|mostly|largely|somewhat)(?: \w+)? (?:resolved|gone|subsided|abated|disappeared)",
    r"no (?:\w+ )?(?:worsening|progression)(?: of| in)?",
    r"no (?:intervention|treatment|medications?|meds|analgesi\w+)(?: \w+)? for",
    r"not (?:want\w*|satisfied|tak\w+|receiv\w+|requir\w+|given|tried|try|need\w*|sleep\w*|able|tolerat\w+|eat\w*|walk\w*|ambulat\w+)",
    r"\w+n't (?:tolerate|bear|sleep|walk|take|relieve|improve|help|control|respond|eat|work|resolve|subside|stop|abate|(?:fully |completely )?gone)\w*",
    r"not (?:only|just|merely|necessarily|certain|sure|clear|relieved|controlled|improv\w+|getting better|resolved"
    r"|gone away|stopped|ceased|subsided|abated|fully resolved|completely resolved|been relieved|been controlled|responding|respond|help\w*)",
    r"(?:did|does|do|has|have|had|is|was) not (?:improve|resolve|help|subside|go away|respond|relieve)\w*",
    r"without (?:any |significant |much |further )*(?:relief|improvement|change|increase|decrease|resolution|difficulty)",
    r"no (?:longer )?(?:relieved|better)",
    r"no (?:doubt|question)",
    r"not without",
    r"cannot (?:tolerate|bear|sleep|walk)",
    r"gram[- ]negative",
    rf"{_RELATIVE}(?: \w+)? (?:states?|stated|says|said|reports?|reported|notes?|noted|thinks)(?: that)? (?:he|she|they|pt|patient)",
)
_BEFORE = _any(
    r"(?:no|without|denies)(?: any)? (?:(?:personal|family|known|prior)(?: or | and |/))+(?:personal |family )?(?:history|hx) of",
    r"(?:has |have |had )?(?:stopped|ceased|quit)(?= \w+ing\b)",
    r"nil",
    r"no longer (?:has|have|having|had|with|complain\w*(?: of)?|experienc\w+|report\w*|any)",
    r"(?:no|zero) (?:further |other |new |more |acute |obvious |current |recent |associated |significant |active )*"
    r"(?:evidence|sign|signs|symptoms?|complaints?|history|episodes?|findings?|indication|suggestion|reports?) (?:of|or|for)",
    r"no (?:reported|known|noted|observed|documented)",
    r"doubt(?:ful)?",
    r"unlikely(?: to (?:be|represent|reflect|indicate))?",
    r"(?:low|little)(?: \w+)? (?:suspicion|concern|likelihood) (?:for|of)",
    r"(?:(?:can|could|do|did) ?not|(?:can|could|do|did)n't|can't|unable to) (?:appreciate|see|detect|palpate|find|identify|elicit)",
    r"(?:no|not|without)(?: any)? (?:c/o|complain\w*(?: of)?|reports? of)",
    r"no",
    r"not (?:have|having|had|experienc\w+|complain\w*(?: of)?|report\w*|show\w*|demonstrate\w*|reveal\w*|appreciated?"
    r"|endors\w+|exhibit\w*|develop\w*|noted?|see|seen|been|in|appear\w*|any|associated with|accompanied by)",
    r"not",
    r"n't (?:have|had|having|complain\w*(?: of)?|report\w*|experienc\w+|any)",
    r"den(?:ies|ied|y|ying)(?: any)? (?:c/o|complaints? of)",
    r"den(?:ies|ied|y|ying) (?:that )?(?:he|she|they|pt|patient) (?:has|have|had)",
    r"den(?:ies|ied|y|ying|ial of)",
    r"without(?: any)?(?: evidence of| signs? of)?",
    r"w/o",
    r"negative(?: for|,? including|,? specifically)",
    r"zero|0 ?(?:/|out of) ?10(?= (?:pain|discomfort|soreness)\b)",
    r"neg for",
    r"(?:free|absence|lack|resolution|clear|rid|devoid) of",
    r"free from",
    r"lacks?",
    r"nor",
    r"neither",
    r"never (?:had|has|have|experienc\w+|report\w*|complain\w*|developed)",
    r"ruled? out for",
    r"fail(?:s|ed)? to (?:show|reveal|demonstrate)",
    r"unremarkable for",
    r"declin(?:es|ed|ing) any",
    r"no complaints? of",
)
_GONE = (
    r"(?:was|were|is|are|has|have)(?: since| now| been)* (?:not (?:seen|present|noted|confirmed|found)"
    r"|ruled out|excluded|negative|resolved)"
)
_AFTER = _any(
    r"(?:(?:has|have|had) )?(?:was|were|is|are|been)(?: now| since)? (?:denied|ruled out|excluded)",
    r"(?:is|are|was|were) no longer (?:present|an?|there|noted|bothersome|seen|reported|active|evident)",
    rf"which {_GONE}",
    r"broke(?= (?:overnight|on|after|this|yesterday|in|at)\b|[.,;]|$)",
    r"(?:denied|ruled out|excluded)(?=\s*(?:[.;]|$))",
    r"(?:is|are|was|were|has|have|had)(?: now| since| been| completely| fully| entirely| all)* (?:absent|negative(?!,? (?:for|including|except|specifically)\b)|nil|gone(?! (?:down|up|from|back|on|to|over)\b))",
    r"(?:(?:is|are|was|were|has|have|had) )?(?:now |since |been |completely |fully |entirely )*(?:resolved|subsided|gone away"
    r"|went away|disappeared|abated|dissipated|(?:ceased|stopped)(?! \w+ing\b))",
    r"(?:(?:has|have|had|did) not|never) (?:recurr?(?:ed)?|return(?:ed)?|come back)",
    r"neither \w+ nor (?:\w+ )?(?:reported|noted|present|seen|documented|observed)",
    r"(?<=\w )(?:absent|nil|denies)(?=\s*(?:[.,;)]|$|on|in))",
    r"(?<=\w )none(?=\s*(?:[.;]|$|noted|seen|reported))",
    r"(?:could not|cannot|can not|couldn't) be (?:seen|noted|appreciated|elicited|identified|found|demonstrated)",
    r"(?:is|are|was|were) (?:not|never) (?:present|seen|noted|appreciated|reported|observed|elicited|identified|found|endorsed|a)",
    r"(?:is|are|was|were)n't (?:present|seen|noted|reported)",
    r"(?:(?:is|are|was|were|seems?|appears?) )?(?:very )?(?:unlikely|less likely)(?! to\b)",
    r"-ve",
    r"not (?:present|noted|appreciated|seen|reported|observed)(?=\s*(?:[.,;:)]|$|(?:and|or|on|in|at|by|but|today|now)\b))",
    r": ?(?:no|none|negative|denies|denied|absent)\b",
    r"- ?(?:none|negative|denies|absent)\b",
)
_CLAUSE = (
    r"(?:there|he|she|they|you|pt|the patient|patient|it)(?: \w+){0,2}? "
    r"(?:is|are|be|has|have|develops?|notes?|experiences?|reports?|gets?)"
)
_IF = rf"(?:if(?: {_CLAUSE})?|should {_CLAUSE})"
_HYPOTHETICAL = _any(
    _IF,
    r"in case of",
    r"should(?= (?:[\w/]+ ){1,3}?(?:develop|occur|recur|persist|arise|worsen|return|increase)\b)",
    r"in the event of",
    rf"(?:notify|contact|inform|page)[^.;]{{0,40}}? (?:of|for|with|{_IF})",
    r"(?:first|any) signs? of",
    r"(?:warning|danger|worrisome|concerning|alarming) (?:signs?|symptoms?)",
    r"report any",
    r"you (?:may|might|could|can|will|should) (?:have|experience|feel|notice|see|get)",
    r"unable to (?:assess|obtain|elicit|evaluate|determine|quantify|rate)",
    rf"(?:unclear|unknown|uncertain|unsure) (?:whether|if)(?: {_CLAUSE})?",
    r"for(?= (?:[\w/-]+ ){1,4}?(?:prn|as needed)\b)",
    rf"(?:return|call|come back|seek \w+|report back)[^.;]{{0,40}}? (?:for|with|{_IF})",
    r"(?:monitor|watch|observe|assess|evaluate|check|screen|look|looking|monitoring|watching|monitored|evaluated|assessed)"
    r"(?:ed|ing)?(?: \w+){0,3}? for",
    r"risks?(?: \w+){0,3}? (?:of|for|including|include|include:)",
    r"risks?,? (?:benefits|including)",
    r"rule[- ]out|r/o|to rule out",
    r"(?:signs|symptoms)(?: or \w+| and \w+)? of infection",
    r"(?:prn|as needed|p\.r\.n\.)(?: for)?",
    r"(?:prevent|avoid|prevention of|prophylaxis (?:for|against))",
    r"should (?:he|she|they|you|the patient|any|there|there be|symptoms)",
    r"(?:may|might|could|can) (?:cause|develop|experience|lead to|result in|include)",
    r"(?:possible|potential) (?:side effects?|complications?)(?: \w+){0,3}? (?:of|include|including|such as)",
    r"(?:side effects?|complications?|precautions?) (?:including|include|such as|of|for)",
    r"(?:test|tests|tested|testing|evaluation|work-?up) for",
)
_HYPOTHETICAL_AFTER = _any(
    r"precautions?",
    r"risks?",
    r"prophylaxis",
    r"protocol",
    r"should (?:be|it|they|this)? ?(?:occur|develop|recur|arise)\w*",
)
_FAMILY = _any(
    r"(?:family (?:history|hx)|fam hx|fhx)(?: (?:of|is|was|significant|notable|positive|remarkable))*(?: for)?",
    rf"(?:his|her|the patient's|maternal|paternal|a|whose|their)?\s?{_RELATIVE}(?:'s)?(?: side)?,?(?: (?!pt|patient|he|she|that)\w+){{0,4}}? "
    r"(?:had|has|have|having|with|died|deceased|suffer\w*|was|is|complain\w*|develop\w*)",
)
_IN_RELATIVE = rf"in (?:(?:his|her|the|a|their|the patient's) )?(?:maternal |paternal )?{_RELATIVE}"
_END = _any(
    r"but",
    r"however",
    r"although",
    r"though",
    r"except(?: for)?",
    r"(?:aside|apart) from",
    r"other than",
    r"besides",
    r"yet",
    r"still",
    r"which",
    r"who",
    r"whereas",
    r"while",
    r"until",
    r"because(?: of)?",
    r"since",
    r"secondary to",
    r"due to",
    r"presents?(?:ed|ing)?(?: with| for)?",
    r"(?:now |only |also )?(?:reports?|reported|reporting|complains?(?: of)?|complained(?: of)?|complaining(?: of)?|c/o)",
    r"(?:he|she|pt|patient|they|there)(?: now| also| still| then)? (?:has|have|had|is|are|was|were|does|did|developed|reports?"
    r"|complain\w*|note[sd]?|admit\w*|endors\w+|continue[sd]?|present\w*|experienc\w+|came|comes|arrived?s?)",
    r"has(?: had| been| new| some| a)?",
    r"(?:admits?|endorses?|endorsed|admitted)(?: to)?",
    r"positive for",
    r"significant for",
    r"remarkable for",
    r"notable for",
    r"developed",
    r"continues? to have",
    r"instead",
    r"rather",
    r"with (?:persistent|ongoing|continued|new|worsening|some|mild|moderate|severe)",
    r"and (?:has|had|is|was|reports?|complains?|developed|continues|notes|presents)",
    r"along with",
)
_VERBS = (
    r"(?:persist|continu|worsen|remain|recur|improv|increas|return|began|start|is|was|are|were|has|have)\w*(?<!ing)"
)
_SIGN_START = r"(?:(?<=[,;:(] )|(?<=[,;:(])|^\s*(?=[+-]\s?\w[^.;]*[,;] ?[+-] ?\w))"
_ZERO = r"(?<![\d./])0(?: ?(?:/|out of) ?10\b(?! (?:pain|discomfort|soreness)\b)|(?=\s*(?:[,;)]|\.(?!\d)|$)))(?!.*\b(?:[1-9]|10) ?(?:/|out of) ?10\b)"
_FOUND = r"(?:positive|trace|occasional|mild|minimal|slight|scant|[1-4]\+|\+[1-4])"
"""How a finding begins that is there, after others that are not: "no murmurs, 1+ ankle edema"."""
_GRADED = re.compile(r" ?(?:is |was |at )?(?:[1-4] ?\+|\+ ?[1-4])")

# Inside a word nothing but a contraction or a rating can begin: said first, it saves trying all the rest there.
_CUES = re.compile(
    r"(?:\b|(?=\W)|(?=n't|0|(?:is|was|at|of|score|level|scale|rated|a|now) ))(?:"
    rf"(?<![\w-])(?:(?P<none>{_NO_CUE})|(?P<pseudo>{_PSEUDO})|(?P<family>{_FAMILY})|(?P<in_relative>{_IN_RELATIVE})|(?P<hypothetical>{_HYPOTHETICAL})"
    rf"|(?P<hypothetical_after>{_HYPOTHETICAL_AFTER})|(?P<after>{_AFTER})|(?P<before>{_BEFORE})|(?P<end>{_END}))(?![\w-])"
    rf"|(?P<minus>[(\[]-[)\]]|{_SIGN_START}-\s?(?=[a-z])|(?<=[a-z]) ?-(?=\s*(?:[,.;)]|$)))"
    rf"|(?P<end_sign>[(\[]\+[)\]]|{_SIGN_START}\+\s?(?=[a-z])|(?<=[a-z] )\+(?=[a-z])|(?<=[a-z]) ?\+(?=\s*(?:[,.;)]|$)))"
    r"|(?P<before_sign>(?:^|(?<=[,;:(] )|(?<=[,;:(]))neg(?:ative)?(?= [a-z])(?! (?:for|except|other)\b)"
    r"|(?:^|(?<=[,;:] )|(?<=\band )|(?<=\bwith ))(?:now |previously |since )?resolved"
    r"(?= (?!with\b|after\b|and\b|by\b|on\b|in\b|but\b|without\b|spontaneously\b|prior\b|before\b)[a-z]))"
    rf"|(?P<contracted>n't\b(?: (?:have|had|having|any|complain\w*(?: of)?|report\w*|endorse\w*|experienc\w+))?)|(?P<after_sign>(?<=\w)[:=]? ?(?:(?:is|was|at|of|score|level|scale|rated|a|now) )*{_ZERO}"
    rf"|(?<=\w)[:?] ?(?:no?|none|negative|neg|nil|denies|denied|absent)\b|, which {_GONE})"
    rf"|(?P<stop>;|\.(?=\s)|(?<![,;:(])\s--?\s(?!(?:none|negative|denie[sd]|absent)\b)|,(?= with )|,(?= (?:then|so|and then)\b)|,(?= (?!n?or\b)(?:\w+ ){{1,4}}?{_VERBS}\b)|,(?= and (?:\w+ ){{1,4}}?{_VERBS}\b)"
    rf"|,(?= (?:and |with )?{_FOUND}(?!\w))|,(?= \w+ing \w+ly\b)|,(?= (?:\w+ ){{1,2}}without\b))"
    r"|(?P<comma>,))"
)
_NEGATING_HEADER = re.compile(
    r"\b(?:negative(?: for)?|denies|denied|pertinent negatives?(?: include)?|absent|resolved|no)$", re.IGNORECASE
)
_FAMILY_HEADER = re.compile(r"\bfamily\b|^(?:fh|fhx|fam hx)$", re.IGNORECASE)
_QUALIFIED = re.compile(
    r"\s*(?:acute|chronic|current|new|lower|upper|right|left|bilateral|peripheral|calf|surgical|postoperative|any)\s+",
    re.IGNORECASE,
)
_LISTED = re.compile(r"\s*(?:,|and|or|,\s*(?:and|or))\s*(?:(?:any|his|her|the|new)\s+)?")
_Match = tuple[int, int, str, str]
"""Start, end, concept and kind of a form found."""


class MentionFinder:
    """Finds and asserts the mentions of a lexicon's concepts. Made once, used for many notes."""

    def __init__(self, lexicon: Lexicon) -> None:
        self._automaton = ahocorasick.Automaton()
        # Forms come last, so that what one concept excludes ("sore throat" for pain) may name another.
        for kind, key in ((_EXCLUDED, "exclude"), (_DENYING, "negative"), (AFFIRMED, "forms")):
            for concept in lexicon.concepts.values():
                for form in getattr(concept, key):
                    self._automaton.add_word(form, (len(form), concept.name, kind))
        self._automaton.make_automaton()

    def find(self, text: str) -> list[Mention]:
        """Mentions in order; ``text`` must have single blanks where words are wrapped (see ``unwrapped``)."""
        return [mention for _, _, mentions in self.mentioning(text) for mention in mentions]

    def by_sentence(self, text: str) -> Iterator[tuple[Sentence, list[Mention]]]:
        """Every sentence of a note with its mentions."""
        return self._by_sentence(text, self._matches(text))

    def mentioning(self, text: str) -> Iterator[tuple[int, Sentence, list[Mention]]]:
        """Index, sentence and mentions of the sentences that have any; much faster where few or none have."""
        found = self._matches(text)
        if found:
            last = found[-1][0]
            for number, (part, mentions) in enumerate(self._by_sentence(text, found)):
                if mentions:
                    yield number, part, mentions
                if part.end > last:
                    return

    def _by_sentence(self, text: str, found: Sequence[_Match]) -> Iterator[tuple[Sentence, list[Mention]]]:
        section = ""
        listed = False  # whether the section's header is still of what follows, if it denies
        first = 0
        for part in sentences(text):
            after = first
            while after < len(found) and found[after][0] < part.end:
                after += 1
            of_part, first = found[first:after], after
            if part.header is not None and of_part and _is_list_of(text, part, of_part):
                part = Sentence(part.start, of_part[0][0], part.end, None)  # "Fever, cough: none" is no section
            if part.header is not None:
                section, listed = part.header, True
            elif listed and not _is_list_item(text, part):
                listed = False
            matches = [match for match in of_part if match[0] >= part.body]
            if not matches:
                yield part, []
                continue
            family = bool(_FAMILY_HEADER.search(section))
            negating = listed and bool(_NEGATING_HEADER.search(section))
            yield part, _asserted(text, part, matches, family, negating)

    def _matches(self, text: str) -> list[_Match]:
        """Longest forms at word bounds, (start, end, concept, kind), none overlapping."""
        lowered = text.lower()
        if len(lowered) != len(text):  # a few capitals have a longer lower case
            lowered = "".join(c.lower() if len(c.lower()) == 1 else c for c in text)
        lowered = lowered.replace("\n", " ")
        found = []
        for last, (length, concept, kind) in self._automaton.iter(lowered):
            start, end = last - length + 1, last + 1
            if (start and lowered[start - 1].isalnum()) or (end < len(lowered) and lowered[end].isalnum()):
                continue
            found.append((start, end, concept, kind))
        found.sort(key=lambda match: (match[0], -match[1]))
        kept: list[_Match] = []
        for match in found:
            if not kept or match[0] >= kept[-1][1]:
                kept.append(match)
            elif match[1] - match[0] > kept[-1][1] - kept[-1][0]:
                kept[-1] = match
        return [match for match in kept if match[3] != _EXCLUDED]


def _is_list_of(text: str, part: Sentence, matches: Sequence[_Match]) -> bool:
    """Whether a sentence's header is a list of mentions and nothing else."""
    inside = [match for match in matches if match[0] < part.body]
    if not inside or part.header is None or {match[2] for match in inside} & {m[2] for m in matches[len(inside) :]}:
        return False  # "Pain: denies any pain" is a section
    start, end = inside[0][0], inside[-1][1]
    whole = end - start == len(part.header) or bool(_QUALIFIED.fullmatch(text, part.start, start))
    return (
        whole
        and text[end : part.body].strip() == ":"
        and all(_LISTED.fullmatch(text, a[1], b[0]) for a, b in pairwise(inside))
    )


@dataclass(frozen=True, slots=True)
class _Cue:
    kind: str
    start: int
    end: int


def _is_list_item(text: str, part: Sentence) -> bool:
    """Whether a list mark stands before a sentence, so that the header above the list is of it too."""
    return bool(text[part.start : part.body].strip())


def _asserted(text: str, part: Sentence, matches: Sequence[_Match], family: bool, negating: bool) -> list[Mention]:
    lowered = text[part.body : part.end].lower().replace("\n", " ")
    cues = [
        _Cue(match.lastgroup or "", match.start() + part.body, match.end() + part.body)
        for match in _CUES.finditer(lowered)
    ]
    cues = _with_signs_read(cues, matches[0][0])
    mentions = []
    ends = _list_ends(text, matches)
    for (start, end, concept, kind), list_end in zip(matches, ends, strict=True):
        if family:
            assertion = OTHER
        elif _GRADED.match(text, end):
            assertion = AFFIRMED
        else:
            assertion = _assertion(cues, start, list_end, negating)
        if kind == _DENYING and assertion != OTHER:
            assertion = AFFIRMED if assertion == NEGATED else NEGATED
        mentions.append(Mention(concept, assertion, start, end))
    return mentions


def _with_signs_read(cues: list[_Cue], first_mention: int) -> list[_Cue]:
    """A sentence that starts with "(-)" or "(+)" has its signs before the symptoms; any other has them after."""
    signs = [cue for cue in cues if cue.kind in ("minus", "end_sign")]
    minus = "before" if signs and signs[0].start < first_mention else "after"
    return [_Cue(minus, cue.start, cue.end) if cue.kind == "minus" else cue for cue in cues]


def _list_ends(text: str, matches: Sequence[_Match]) -> list[int]:
    """Where the list ends that each mention stands in, so that what follows "fever, chills and cough" is of all."""
    ends = [end for _, end, _, _ in matches]
    for i in reversed(range(len(matches) - 1)):
        if _LISTED.fullmatch(text, matches[i][1], matches[i + 1][0]):
            ends[i] = ends[i + 1]
    return ends


def _assertion(cues: Sequence[_Cue], start: int, end: int, negating_header: bool) -> str:
    """Walk back from the mention to the cue that governs it, then forward."""
    verdict: str | None = None
    bounded = apart = False
    for cue in reversed([cue for cue in cues if cue.end <= start]):
        if cue.kind in ("end", "end_sign", "stop"):
            bounded = True
            break
        if cue.kind == "pseudo":
            verdict = verdict or AFFIRMED
            break
        if cue.kind in ("before", "before_sign", "contracted"):
            verdict = verdict or NEGATED
        elif cue.kind == "comma":
            apart = verdict == NEGATED
        elif cue.kind in ("family", "in_relative") or (cue.kind == "hypothetical" and not apart):
            return OTHER  # not "check for leakage, and no bleeding"
    if verdict == NEGATED:
        return NEGATED
    for cue in cues:
        if cue.end <= end or (cue.start < end and cue.kind != "after_sign"):  # "pain level 0" begins in its mention
            continue
        if cue.kind in ("end", "end_sign", "stop", "before", "family", "hypothetical"):
            break
        if cue.kind in ("after", "after_sign"):
            return NEGATED
        if cue.kind in ("hypothetical_after", "in_relative"):
            return OTHER
    if verdict is None and negating_header and not bounded:
        return NEGATED
    return AFFIRMED
