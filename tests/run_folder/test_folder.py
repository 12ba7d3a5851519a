"""Files of a run's folder that cannot be written."""

import re
from pathlib import Path

import pytest

from run_folder.folder import Folder


@pytest.mark.parametrize("name", ["leaderboard.csv", "results/leaderboard.csv"])
def test_a_folder_in_the_place_of_a_file_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name / "x").mkdir(parents=True)
    with pytest.raises(
        IsADirectoryError, match="a folder is in the place of a file.*" + re.escape(str(tmp_path / name)) + "'"
    ):
        Folder(tmp_path).write(name, b"x")
    assert [path.name for path in (tmp_path / name).parent.iterdir()] == ["leaderboard.csv"]
