"""What is wrong with a table."""

ENCODINGS = "UTF-8, UTF-16 and UTF-32 are read"

_CONVERT = (
    f"its encoding is not known ({ENCODINGS}): convert it from the one that it has, such as with: "
    "iconv -f ENCODING -t utf-8"
)


class TableError(Exception):
    """What is wrong with a table; the message follows its path.

    Args:
        setting: the setting at fault, where it is not the one that names the file.
    """

    def __init__(self, message: str, fix: str = "", *, setting: str | None = None) -> None:
        super().__init__(message)
        self.fix, self.setting = fix, setting


class NotUtf8Error(TableError):
    """A byte that is not UTF-8."""

    def __init__(self, where: str, byte: int, fix: str = _CONVERT) -> None:
        super().__init__(f"{where}: byte 0x{byte:02x} is not UTF-8", fix)
