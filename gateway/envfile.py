"""How the text of `.env` is encoded: editors and shells of Windows write more than UTF-8."""

import codecs
from pathlib import Path

_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
"""Windows PowerShell's `>` writes UTF-16, and Notepad may put a mark before UTF-8, too."""


class EnvFileError(ValueError):
    """The file is there, and cannot be read; says why."""


def encoding_of(path: Path) -> str:
    """The encoding of a file that may not be there. Raises EnvFileError."""
    try:
        text = path.read_bytes() if path.is_file() else b""
    except OSError as error:
        raise EnvFileError(f"{path} cannot be read: {error.strerror}") from None
    encoding = next((known for mark, known in _MARKS.items() if text.startswith(mark)), "utf-8")
    try:
        found = text.decode(encoding)
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        raise EnvFileError(f"{path} is not UTF-8 (line {line}): save it as UTF-8") from None
    if "\0" in found:  # UTF-16 without its mark
        raise EnvFileError(f"{path} is not UTF-8: save it as UTF-8")
    return encoding
