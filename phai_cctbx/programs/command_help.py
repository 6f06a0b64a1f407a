"""The parameters of a command as its ``--help`` tells them: name, meaning, choices, default."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

#: Columns of the names.
_NAME_WIDTH = 26


def parameter_lines(scope, width: int) -> list[str]:
    """All parameters of a phil scope, name in the left column, the rest beside it.

    Parameters
    ----------
    scope : libtbx.phil.scope
    width : int
        Columns of the terminal.
    """
    lines = []
    for name, definition in _definitions(scope):
        left = f"  {name}"
        if len(left) >= _NAME_WIDTH:
            lines.append(left)
            left = ""
        lines += textwrap.wrap(
            _meaning(definition),
            width,
            initial_indent=left.ljust(_NAME_WIDTH),
            subsequent_indent=" " * _NAME_WIDTH,
            break_on_hyphens=False,
        ) or [left]
    return lines


def _definitions(scope, prefix="") -> Iterator[tuple]:
    for item in scope.objects:
        name = prefix + item.name
        if item.is_scope:
            yield from _definitions(item, f"{name}.")
        else:
            yield name, item


def _meaning(definition) -> str:
    """Help text, choices and default in one sentence."""
    words = [word.value for word in definition.words]
    text = definition.help or ""
    if definition.type is not None and definition.type.phil_type == "choice":
        chosen = [word[1:] for word in words if word.startswith("*")]
        notes = [" | ".join(word.lstrip("*") for word in words)]
    else:
        chosen, notes = [word for word in words if word != "None"], []
    if chosen:
        notes.append(f"default {' '.join(chosen)}")
    return f"{text} ({', '.join(notes)})" if notes else text
