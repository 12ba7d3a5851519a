"""What the machine around a command is like changes nothing that it finds or says: locale, home."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from clinical_notes.lexicon import load_lexicon
from clinical_notes.mentions import MentionFinder

Start = Callable[..., "subprocess.Popen[str]"]

SAID = "INFECTION WITH CHILLS, NO PAIN IN INCISION. DENIES ITCHING; FAINTING 1,5 TIMES. İNFECTION."
FOUND = f"""
import json, locale
from clinical_notes.lexicon import load_lexicon
from clinical_notes.mentions import MentionFinder
locale.setlocale(locale.LC_ALL, "")
if locale.localeconv()["decimal_point"] != ",":
    raise SystemExit("the locale is not there")
print(json.dumps([[m.concept, m.assertion, m.start] for m in MentionFinder(load_lexicon()).find({SAID!r})]))
"""


@pytest.fixture
def turkish(tmp_path: Path) -> dict[str, str]:
    """The environment of a Turkish locale, which is made here: its capital I is another letter's, its point a comma."""
    made = tmp_path / "locales" / "tr_TR.UTF-8"
    made.parent.mkdir()
    try:
        subprocess.run(["localedef", "-i", "tr_TR", "-f", "UTF-8", made], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no Turkish locale can be made: Debian's package locales has it")
    return {"LOCPATH": str(made.parent), "LC_ALL": made.name, "LANG": made.name}


def test_a_turkish_locale_finds_the_same_mentions(start_python: Start, turkish: dict[str, str]) -> None:
    process = start_python("-O", "-c", FOUND, env=turkish, stdout=subprocess.PIPE)
    printed, _ = process.communicate()
    here = MentionFinder(load_lexicon()).find(SAID)
    assert len(here) > 3
    assert json.loads(printed) == [[m.concept, m.assertion, m.start] for m in here]


@pytest.mark.parametrize("home", ["/dev/null", None])
def test_a_home_that_takes_nothing_is_no_matter(start_python: Start, tmp_path: Path, home: str | None) -> None:
    """Not even its owner can make a folder below a file; the figures' library says so otherwise."""
    code = "import os; os.environ.pop('HOME'); " if home is None else ""
    process = start_python(
        "-c", f"{code}import analysis.report.figures, tune_jobs.cli; tune_jobs.cli.main(['status', '--help'])",
        env={"HOME": home or "", "TMPDIR": str(tmp_path), "MPLCONFIGDIR": "",
             "XDG_CONFIG_HOME": "", "XDG_CACHE_HOME": ""},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    shown, said = process.communicate()
    assert "usage: symptune status" in shown
    assert said == ""
