"""YAML files that a user writes: read as plain data, or refused in one line."""

import re
import stat
from pathlib import Path
from typing import Any

import yaml

from run_folder.errors import InputError, Problem, quoted

_MOST_BYTES = 10_000_000


class _Loader(yaml.SafeLoader):
    """Plain data; a key that is given twice, of which YAML would keep the last, is an error.

    So is a value of several lines, which YAML folds into one with blanks, where ``in_one_line`` matches it.
    """

    in_one_line: re.Pattern[str] | None = None

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        value = super().construct_scalar(node)
        folded = node.start_mark.line != node.end_mark.line
        if folded and self.in_one_line and self.in_one_line.fullmatch(node.value):
            raise yaml.constructor.ConstructorError(
                None, None, f"write {quoted(node.value)} in one line: a line's end becomes a blank", node.start_mark
            )
        return value

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{quoted(key)} is given twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


def read_yaml(path: Path, setting: str, in_one_line: re.Pattern[str] | None = None) -> Any:
    """The content of a YAML file.

    Args:
        setting: that names the file, for the error.
        in_one_line: matches values that must not go over several lines.

    Raises:
        InputError: it cannot be read, or is not YAML.
    """
    text = _text(path, setting)
    try:
        loader = _Loader(text)
        loader.in_one_line = in_one_line
        return loader.get_single_data()
    except yaml.MarkedYAMLError as error:
        line = f" at line {error.problem_mark.line + 1}" if error.problem_mark else ""
        reason = f" ({error.problem})" if isinstance(error, yaml.constructor.ConstructorError) else ""
        raise InputError(Problem(setting, f"{path} is not valid YAML{line}{reason}")) from error
    except RecursionError:
        raise InputError(Problem(setting, f"{path} is nested too deep", "see the documentation for its form")) from None
    except (yaml.YAMLError, ValueError, TypeError, ArithmeticError, AttributeError, LookupError) as error:
        # such as a number of 5,000 digits, or a tag that its value does not fit
        raise InputError(Problem(setting, f"{path} is not valid YAML (a value in it cannot be read)")) from error


def _text(path: Path, setting: str) -> str:
    try:
        kind = path.stat().st_mode
        if not stat.S_ISREG(kind) and not stat.S_ISFIFO(kind):
            raise InputError(Problem(setting, f"{path} is not a file", "give a YAML file"))
        with path.open("rb") as stream:
            content = stream.read(_MOST_BYTES + 1)
    except OSError as error:
        message = f"{path} cannot be read ({error.strerror or type(error).__name__})"
        raise InputError(Problem(setting, message, "give a YAML file")) from error
    if len(content) > _MOST_BYTES:
        raise InputError(Problem(setting, f"{path} has more than {_MOST_BYTES // 1_000_000} MB", "give a YAML file"))
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise InputError(Problem(setting, f"{path} is not UTF-8", "re-encode it")) from None
