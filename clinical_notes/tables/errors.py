"""What is wrong with a table."""


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

    def __init__(
        self, where: str, byte: int, fix: str = "re-encode the file, such as with: iconv -f latin1 -t utf-8"
    ) -> None:
        super().__init__(f"{where}: byte 0x{byte:02x} is not UTF-8", fix)
