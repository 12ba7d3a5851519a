"""Finding mentions and telling affirmed, negated and other ones apart."""

import pytest

from clinical_notes.lexicon import Lexicon, load_lexicon
from clinical_notes.mentions import MentionFinder

A, N, R, O, H, U, P = "affirmed", "negated", "resolved", "other", "hypothetical", "uncertain", "historical"  # noqa: E741


@pytest.fixture(scope="module")
def finder() -> MentionFinder:
    return MentionFinder(load_lexicon())


def found(finder: MentionFinder, text: str) -> list[tuple[str, str]]:
    return [(mention.concept, mention.assertion) for mention in finder.find(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Pt c/o fever and cough.", [("fever", A), ("cough", A)]),
        ("Denies fever.", [("fever", N)]),
        ("denies fever but has cough", [("fever", N), ("cough", A)]),
        ("No fever, chills, or cough.", [("fever", N), ("chills", N), ("cough", N)]),
        ("No fever, chills. Cough persists.", [("fever", N), ("chills", N), ("cough", A)]),
        ("He denies fever, cough is worse.", [("fever", N), ("cough", A)]),
        ("without edema", [("edema", N)]),
        ("The wound is without any swelling or bleeding.", [("edema", N), ("bleeding", N)]),
        ("No increase in pain.", [("pain", A)]),
        ("no change in edema", [("edema", A)]),
        ("not only fever but also cough", [("fever", A), ("cough", A)]),
        ("no longer has pain", [("pain", R)]),
        ("Pain has resolved.", [("pain", R)]),
        ("The pain has not resolved.", [("pain", A)]),
        ("Fever: denied. Cough: none.", [("fever", N), ("cough", N)]),
        ("She stopped coughing, nausea is gone.", [("cough", R), ("nausea", R)]),
        ("Rash, which has resolved. Cough, which was ruled out.", [("rash", R), ("cough", N)]),
        ("No fever, which has resolved.", [("fever", N)]),
        ("The rash has not recurred, cough is not present.", [("rash", R), ("cough", N)]),
        ("Resolved fever.", [("fever", R)]),
        ("Cough and resolved acute rash.", [("cough", A), ("rash", R)]),
        ("Resolved nausea and fever, cough.", [("nausea", R), ("fever", R), ("cough", A)]),
        ("Fever, resolved, cough persists.", [("fever", R), ("cough", A)]),
        ("Fever and rash resolved with rest.", [("fever", R), ("rash", R)]),
        ("No nausea, resolved fever.", [("nausea", N), ("fever", R)]),
        ("Resolved problems:\n- fever\n- rash\n\nHas cough.", [("fever", R), ("rash", R), ("cough", A)]),
        ("Fever was ruled out.", [("fever", N)]),
        ("afebrile", [("fever", N)]),
        ("She is pain-free.", [("pain", N)]),
        ("She is not afebrile.", [("fever", A)]),
        ("Abdomen nontender.", [("pain", N)]),
        ("If fever occurs, call the clinic.", [("fever", H)]),
        ("Return if there is bleeding or fever.", [("bleeding", H), ("fever", H)]),
        ("rule out bleeding", [("bleeding", H)]),
        ("No c/o pain.", [("pain", N)]),
        ("Pt without c/o pain or nausea.", [("pain", N), ("nausea", N)]),
        ("Patient denies he has pain.", [("pain", N)]),
        ("Patient denied that she had fever.", [("fever", N)]),
        ("He didn't complain of pain.", [("pain", N)]),
        ("Pain 0/10.", [("pain", N)]),
        ("Cough - denies", [("cough", N)]),
        ("Cough, fever, and chills were all absent.", [("cough", N), ("fever", N), ("chills", N)]),
        ("Her fever, chills and cough have resolved.", [("fever", R), ("chills", R), ("cough", R)]),
        ("Denies any nausea or vomiting, has abdominal pain.", [("nausea", N), ("vomiting", N), ("abdominal pain", A)]),
        ("No fever or chills, with cough.", [("fever", N), ("chills", N), ("cough", A)]),
        ("No increase in pain, denies fever.", [("pain", A), ("fever", N)]),
        ("Daughter states she had fever.", [("fever", A)]),
        ("John Doe was seen.", []),
        ("BLOOD LOSS: 150 cc.", []),
        ("The risks of bleeding were explained.", [("bleeding", H)]),
        ("Morphine prn for pain", [("pain", H)]),
        ("Mother had edema.", [("edema", O)]),
        ("FAMILY HISTORY: Positive for bleeding. Cough too.", [("bleeding", O), ("cough", O)]),
        ("FAMILY HISTORY: Bleeding.\n\nEXAM: Edema of both legs.", [("bleeding", O), ("edema", A)]),
        ("NEGATIVE FOR: fever, cough, edema", [("fever", N), ("cough", N), ("edema", N)]),
        ("Denies fever.\nHas cough.", [("fever", N), ("cough", A)]),
        ("He does not have fever; cough continues.", [("fever", N), ("cough", A)]),
        ("No fever or\nchills were seen.", [("fever", N), ("chills", N)]),
        ("There was no reported weakness, numbness or nausea.", [("weakness", N), ("numbness", N), ("nausea", N)]),
        ("Denies any symptoms such as chest pain or cough.", [("chest pain", N), ("cough", N)]),
        ("She has symptoms such as fever and cough.", [("fever", A), ("cough", A)]),
        ("History of headache in her sister.", [("headache", O)]),
        ("Dyspnea unlikely.", [("dyspnea", N)]),
        ("Doubt cough.", [("cough", N)]),
        ("Nausea -ve", [("nausea", N)]),
        ("The patient is not without pain.", [("pain", A)]),
        ("Without any fever or chills she came with pain.", [("fever", N), ("chills", N), ("pain", A)]),
        ("I have not seen any erythema or edema being present.", [("erythema", N), ("edema", N)]),
        ("(-) fever, chills (+) cough", [("fever", N), ("chills", N), ("cough", A)]),
        ("Fever (-), cough (+)", [("fever", N), ("cough", A)]),
        ("Fever (-) cough (+) edema (-)", [("fever", N), ("cough", A), ("edema", N)]),
        ("Cough, fever and chills: negative.", [("cough", N), ("fever", N), ("chills", N)]),
        ("Return for fever, bleeding or worsening pain.", [("fever", H), ("bleeding", H), ("pain", H)]),
        ("Denies fever, bleeding or worsening pain.", [("fever", N), ("bleeding", N), ("pain", N)]),
        ("Denies fever, cough is worsening.", [("fever", N), ("cough", A)]),
        ("Risks including but not limited to bleeding were explained.", [("bleeding", H)]),
        ("No cyanosis, clubbing, or edema is noted.", [("cyanosis", N), ("edema", N)]),
        ("Contact the clinic if he has any fever.", [("fever", H)]),
        ("Walks without significant increase in pain.", [("pain", A)]),
        ("All systems were negative, including fever and cough.", [("fever", N), ("cough", N)]),
        ("Pain: 0/10 at rest, 4/10 with movement.", [("pain", A)]),
        ("Pain level 0 out of 10.", [("pain", N)]),
        ("Swelling has gone down but persists.", [("edema", A)]),
        ("Edema almost completely resolved.", [("edema", A)]),
        ("Bleeding is no longer present.", [("bleeding", R)]),
        ("Fever? No. Cough? Yes.", [("fever", N), ("cough", A)]),
        ("Fever +, cough -", [("fever", A), ("cough", N)]),
        ("ROS: + fever, - cough, - edema.", [("fever", A), ("cough", N), ("edema", N)]),
        ("RRR, no murmurs, 1+ ankle edema.", [("edema", A)]),
        ("No murmur, no gallop, edema 2+.", [("edema", A)]),
        ("Bleed, which was not seen on CT.", [("bleeding", N)]),
        ("Check for leakage, and no evidence of bleeding was present.", [("bleeding", N)]),
        ("No clear source of fever.", [("fever", A)]),
        ("No personal or family history of bleeding.", [("bleeding", N)]),
        ("Exposed to a coworker with cough.", [("cough", O)]),
        ("Unable to assess pain.", [("pain", H)]),
        ("Tylenol for fever or pain prn.", [("fever", H), ("pain", H)]),
        ("Peripheral edema: trace", [("edema", A)]),
        ("Pain: denies any pain.", [("pain", N)]),
        ("DENIES:\n- fever\n- cough\n\nHas edema.", [("fever", N), ("cough", N), ("edema", A)]),
    ],
)
def test_assertion(finder: MentionFinder, text: str, expected: list[tuple[str, str]]) -> None:
    assert found(finder, text) == expected


@pytest.mark.parametrize(
    ("text", "concepts"),
    [
        ("chest pain", ["chest pain"]),
        ("pain in the chest", ["chest pain"]),
        ("knee pain", ["pain"]),
        ("sore throat", ["sore throat"]),
        ("painting, feverfew and coughlan", []),
        ("seen in pain clinic for hay fever", []),
        ("DOE for a week, seen by Dr. Doe", ["dyspnea"]),
        ("Doe, Jane was seen with John Doe's wife", []),
        ("fell, +LOC, ? LOC, no LOC, w/ LOC", ["syncope"] * 4),
        ("LOC: alert. LOC intact, change in LOC. No LOC changes. Slim-LOC plate.", []),
        ("sz on Monday, glove sz 8, sz precautions", ["seizure"]),
        ("+n/-v, -f/-c, n&v", ["nausea", "vomiting", "fever", "chills", "nausea", "vomiting"]),
        ("tachy to 120, tachy-brady syndrome", ["tachycardia"]),
        ("tired of tests, anxious to leave, restless legs, faint odor, pale yellow urine", []),
        ("anxious and tired, restless, faint rash", ["anxiety", "fatigue", "agitation", "rash"]),
        ("OEDEMA and Swelling", ["edema", "edema"]),
    ],
)
def test_the_longest_form_at_word_bounds_names_the_concept(
    finder: MentionFinder, text: str, concepts: list[str]
) -> None:
    assert [concept for concept, _ in found(finder, text)] == concepts


def test_absorbing_merges_overlapping_concepts() -> None:
    lexicon: Lexicon = load_lexicon().absorb({"pain": ["chest pain", "abdominal pain"]})
    finder = MentionFinder(lexicon)
    assert found(finder, "chest pain, no abdominal pain") == [("pain", A), ("pain", N)]


def test_offsets_point_at_the_form(finder: MentionFinder) -> None:
    text = "No Fever;\nshortness of  breath? Shortness\nof breath."
    forms = [text[m.start : m.end] for m in finder.find(text)]
    assert forms == ["Fever", "shortness of  breath", "Shortness\nof breath"]


def test_the_lexicon_has_the_papers_symptoms_and_more() -> None:
    concepts = load_lexicon().concepts
    assert len(concepts) >= 40
    assert {"edema", "pain", "cough", "fever", "bleeding"} <= set(concepts)
