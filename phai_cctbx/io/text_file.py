"""Text of a file, and the one form in which unusable input is refused."""

from __future__ import annotations

from pathlib import Path

from libtbx.utils import Sorry


def bad_input(path, found: str, remedy: str, line: int | None = None, block: str | None = None):
    """Return the ``Sorry`` for input that cannot be used.

    Parameters
    ----------
    path : path-like
        File with the fault.
    found : str
        What stands there.
    remedy : str
        What the user can do.
    line : int, optional
        Line number in the file, from 1.
    block : str, optional
        CIF data block or data set inside the file.
    """
    place = str(path)
    if block is not None:
        place += f", {block}"
    if line is not None:
        place += f", line {line}"
    return Sorry(f"{place}: {found}. {remedy}.")


def check_readable(path) -> Path:
    """Return `path` as a ``Path``, or raise ``Sorry`` where it is no readable, non-empty file."""
    path = Path(path)
    try:
        if path.is_dir():
            raise bad_input(path, "a folder, not a file", "Name a file inside it")
        if not path.exists():
            raise bad_input(path, "no such file", "Check the name and the folder")
        with path.open("rb") as stream:
            first = stream.read(1)
    except PermissionError:
        raise bad_input(
            path, "permission to read it is denied", "Change the permissions of the file"
        ) from None
    except OSError as error:
        raise bad_input(
            path, f"cannot be read ({error.strerror})", "Check the name and the disk"
        ) from None
    if not first:
        raise bad_input(path, "the file is empty", "Copy or export it again")
    return path


def read_text(path) -> str:
    """Return the text of a file as UTF-8, or as Latin-1 where it is not UTF-8.

    Raises
    ------
    Sorry
        If the file is absent, a folder, unreadable, empty or binary.
    """
    path = check_readable(path)
    content = path.read_bytes()
    if b"\0" in content:
        line = content[: content.index(b"\0")].count(b"\n") + 1
        raise bad_input(
            path,
            "a zero byte, so this is a binary file (or UTF-16 text)",
            "Give a plain text file, or an MTZ file with the extension .mtz",
            line,
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    if not text.strip():
        raise bad_input(path, "only blank lines", "Copy or export it again")
    return text
