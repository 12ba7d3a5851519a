"""Symptom concepts and the surface forms that name them."""

import difflib
import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from run_folder.errors import InputError, Problem, quoted
from run_folder.yaml_file import read_yaml

_DEFAULT = Path(__file__).with_name("lexicon.yaml")
_LONGEST_NAME = 100
_SEPARATORS = ";,="
"""What parts names in options and in tables of labels."""
_KEYS = ("forms", "negative", "exclude", "shared", "parents")
Kind = Literal["forms", "negative", "exclude"]
_PATTERN = re.compile(r"/(?P<expression>.+)/", re.DOTALL)


@dataclass(frozen=True)
class Concept:
    """A symptom.

    Attributes:
        forms: phrases that name it, in lower case.
        negative: phrases that deny it by themselves.
        exclude: phrases that hold a form but name something else.
        shared: forms that name other concepts too, each of which lists it ("n/v").
        parents: concepts that each of its mentions is a mention of too (hematuria is bleeding), and of their parents.

    A form, denial or exclusion between slashes is a regular expression.
    """

    name: str
    forms: tuple[str, ...] = ()
    negative: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()
    parents: tuple[str, ...] = ()


@dataclass(frozen=True)
class Lexicon:
    """Concepts by name. Where forms overlap in a text the longest wins, so no form may belong to two concepts.

    Attributes:
        takers: by the name of each concept that was absorbed, the one that took it over.
    """

    concepts: Mapping[str, Concept]
    takers: Mapping[str, str] = field(default_factory=dict)

    def absorb(self, merges: Mapping[str, Sequence[str]]) -> "Lexicon":
        """A lexicon in which each key takes over the forms of the concepts listed for it.

        Raises:
            InputError: an unknown concept, or one that another has absorbed.
        """
        concepts, takers = dict(self.concepts), dict(self.takers)
        for name, others in merges.items():
            for known in (name, *others):
                if known not in concepts:
                    raise InputError(replace(self, takers=takers).missing("absorb", known))
            parts = [concepts[name], *(concepts.pop(other) for other in others if other != name)]
            forms = tuple(form for part in parts for form in part.forms)
            negative = tuple(form for part in parts for form in part.negative)
            # What one part excluded may be a form of another ("sore throat").
            exclude = tuple(form for part in parts for form in part.exclude if form not in forms)
            shared = tuple(dict.fromkeys(form for part in parts for form in part.shared))
            parents = tuple(dict.fromkeys(parent for part in parts for parent in part.parents))
            concepts[name] = Concept(name, forms, negative, exclude, shared, parents)
            takers |= {other: name for other in others if other != name}
        return Lexicon({name: _with_parents(concept, takers) for name, concept in concepts.items()}, takers)

    def phrases(self) -> Iterator[tuple[str, Kind, tuple[str, ...]]]:
        """Each phrase with its kind and the concepts that it names."""
        named: dict[tuple[str, Kind], list[str]] = {}
        for kind in _KINDS:
            for concept in self.concepts.values():
                phrases = (*concept.forms, *concept.shared) if kind == "forms" else getattr(concept, kind)
                for phrase in phrases:
                    names = named.setdefault((phrase, kind), [])
                    names += [name for name in (concept.name, *self.ancestors(concept.name)) if name not in names]
        for (phrase, kind), names in named.items():
            yield phrase, kind, tuple(names)

    def ancestors(self, name: str) -> Iterator[str]:
        """The parents of a concept and theirs, each once and the concept itself never."""
        seen, waiting = {name}, [name]
        while waiting:
            for parent in self.concepts[waiting.pop()].parents:
                if parent not in seen:
                    seen.add(parent)
                    waiting.append(parent)
                    yield parent

    def concept_of(self, name: str) -> str | None:
        """The concept of this name, or the one that absorbed it, or else the one that has it as a form."""
        plain = _taker(plain_name(name), self.takers)
        if plain in self.concepts:
            return plain
        return next((concept.name for concept in self.concepts.values() if plain in concept.forms), None)

    def hint(self, name: str) -> str:
        """What was probably meant by an unknown concept."""
        near = difflib.get_close_matches(name.lower()[:_LONGEST_NAME], self.concepts, n=1)
        return f"did you mean {near[0]!r}?" if near else "see the lexicon for what there is"

    def missing(self, setting: str, name: str) -> Problem:
        """What is said of a concept that is named in a setting and is none."""
        taker = _taker(name, self.takers)
        if taker == name:
            return Problem(setting, f"the lexicon has no {quoted(name)}", self.hint(name))
        return Problem(setting, f"{name!r} was absorbed into {taker!r}", f"name {taker!r}, or do not absorb {name!r}")

    def record(self) -> dict[str, dict[str, list[str]]]:
        """Plain data, in the form of a lexicon file."""
        return {
            name: {key: list(getattr(concept, key)) for key in _KEYS if getattr(concept, key)}
            for name, concept in self.concepts.items()
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Mapping[str, Sequence[str]]]) -> "Lexicon":
        """Read what ``record`` gave."""
        return cls({name: Concept(name, **{k: tuple(v) for k, v in body.items()}) for name, body in record.items()})


_KINDS: tuple[Kind, ...] = ("exclude", "negative", "forms")
"""Forms come last, so that what one concept excludes ("sore throat" for pain) may name another."""


def _taker(name: str, takers: Mapping[str, str]) -> str:
    """The concept that has taken over this one, perhaps by way of others; itself where none has."""
    while name in takers:
        name = takers[name]
    return name


def _with_parents(concept: Concept, takers: Mapping[str, str]) -> Concept:
    """With the concepts that took over its parents."""
    parents = dict.fromkeys(_taker(parent, takers) for parent in concept.parents)
    return replace(concept, parents=tuple(parent for parent in parents if parent != concept.name))


def plain_name(name: str) -> str:
    """A concept's name or form as lexicons write it."""
    return " ".join(name.lower().replace("_", " ").split())


def expression_of(phrase: str) -> re.Pattern[str] | None:
    """A phrase between slashes as a regular expression; None: it is plain text."""
    found = _PATTERN.fullmatch(phrase)
    return re.compile(found["expression"]) if found else None


def load_lexicon(path: Path | None = None) -> Lexicon:
    """Read a lexicon file; None reads the one that comes with the package.

    Raises:
        InputError: an unreadable or ill-formed file; the message names the concept and the fix.
    """
    return _built_in() if path is None else _read(path)


def read_lexicon(path: str | None, absorb: Sequence[str]) -> Lexicon:
    """The lexicon asked for, with its concepts merged as the rules say. Raises: InputError."""
    lexicon, absorbed = load_lexicon(Path(path) if path else None), absorb_rules(absorb)
    return lexicon.absorb(absorbed) if absorbed else lexicon


def absorb_rules(absorb: Sequence[str]) -> dict[str, list[str]]:
    """Concepts, and those that each absorbs. Raises: InputError: a rule of another form."""
    absorbed: dict[str, list[str]] = {}
    for rule in absorb:
        concept, separator, others = rule.partition("=")
        if not separator:
            raise InputError(Problem("absorb", f"{quoted(rule)} is not of the form pain=chest pain,back pain"))
        absorbed[concept.strip()] = [other.strip() for other in others.split(",")]
    return absorbed


@dataclass(frozen=True)
class LabelNames:
    """The names that a table of labels may give: a lexicon's, and those of the concepts that it absorbed.

    Attributes:
        absorb: rules by which the lexicon was merged.
    """

    lexicon: Lexicon
    absorb: Sequence[str] = ()

    def concept_of(self, name: str) -> str | None:
        """The concept of a name or form, or the one that absorbed it; None where there is none."""
        takers = {
            plain_name(other): concept for concept, others in absorb_rules(self.absorb).items() for other in others
        }
        return self.lexicon.concept_of(name) or takers.get(plain_name(name))

    def hint(self, name: str) -> str:
        """What to write in the place of an unknown name."""
        return self.lexicon.hint(name)


@functools.cache
def _built_in() -> Lexicon:
    return _read(_DEFAULT)


def _read(path: Path) -> Lexicon:
    content = read_yaml(path, "lexicon", in_one_line=_PATTERN)
    if not isinstance(content, Mapping) or not content:
        message = f"{path} must map concepts to their forms, such as 'fever: {{forms: [fever]}}'"
        raise InputError(Problem("lexicon", message))
    concepts = {name: _concept(f"{path}: {name}", name, body) for name, body in _named(path, content)}
    owners: dict[str, str] = {}
    for concept in concepts.values():
        for form in (*concept.forms, *concept.negative):
            if owners.setdefault(form, concept.name) != concept.name:
                message = f"{path}: {form!r} belongs to both {owners[form]} and {concept.name}"
                raise InputError(Problem("lexicon", message, "keep it in one, or list it as 'shared' in both"))
        for parent in concept.parents:
            if parent not in concepts:
                raise InputError(Problem("lexicon", f"{path}: {concept.name}: the lexicon has no parent {parent!r}"))
    if circle := _circle(concepts):
        message = f"{path}: a concept cannot be its own parent: {' > '.join(circle)}"
        raise InputError(Problem("lexicon", message, "leave one of these parents out"))
    return Lexicon(concepts)


def _circle(concepts: Mapping[str, Concept]) -> list[str]:
    """Names from a concept over parents back to it; empty: there is no such way."""
    left = {name: set(concept.parents) for name, concept in concepts.items()}
    while ended := [name for name, parents in left.items() if not parents & left.keys()]:
        for name in ended:
            del left[name]
    way: list[str] = []
    name = next(iter(left), "")
    while name and name not in way:
        way.append(name)
        name = next(parent for parent in concepts[name].parents if parent in left)
    return [*way[way.index(name) :], name] if way else []


def _named(path: Path, content: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    """Concepts that have a name to be called by. Raises: InputError."""
    for name, body in content.items():
        if not isinstance(name, str):
            message = f"{path}: {quoted(name)} is not a name of a concept"
            raise InputError(Problem("lexicon", message, "quote it, or name the concept"))
        if not name.strip() or name != name.strip() or not name.isprintable() or len(name) > _LONGEST_NAME:
            message = f"{path}: {quoted(name)} cannot be the name of a concept"
            raise InputError(Problem("lexicon", message, f"give a name of 1 to {_LONGEST_NAME} letters in one line"))
        if found := set(name) & set(_SEPARATORS):
            message = f"{path}: {quoted(name)}: names of concepts stand apart by {min(found)!r}"
            raise InputError(Problem("lexicon", message, "leave it out"))
        yield name, body


def _concept(where: str, name: str, body: Any) -> Concept:
    if not isinstance(body, Mapping) or set(body) - set(_KEYS):
        raise InputError(Problem("lexicon", f"{where}: expected the keys {', '.join(_KEYS)}"))
    lists = {key: tuple(_forms(where, key, body.get(key, ()))) for key in _KEYS}
    if not lists["forms"] and not lists["shared"]:
        raise InputError(Problem("lexicon", f"{where}: needs at least one form"))
    return Concept(name, **lists)


def _forms(where: str, key: str, values: Any) -> Iterator[str]:
    if not isinstance(values, list | tuple):
        raise InputError(Problem("lexicon", f"{where}: {key} must be a list of phrases"))
    for value in values:
        if not isinstance(value, str) or not any(map(str.isalnum, value)):
            raise InputError(
                Problem("lexicon", f"{where}: {key} holds {quoted(value)}, which is not a phrase", "quote it")
            )
        try:
            expression = expression_of(value)
        except re.error as error:
            message = f"{where}: {key}: {quoted(value)} is no regular expression ({error})"
            raise InputError(Problem("lexicon", message)) from None
        yield value if expression else " ".join(value.lower().split())
