"""CIF 1.1 text into data blocks that know the line of each item.

Grammar: S. R. Hall, F. H. Allen & I. D. Brown, Acta Cryst. A47 (1991) 655 and
the CIF 1.1 specification of the IUCr. The parser of iotbx reports no lines and
stops the process on a loop without values, so files of users are read here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from phai_cctbx.io.text_file import bad_input

_TOKEN = re.compile(
    r"""
    ^;(?P<text>.*?)\n;(?=\s|\Z)
    | (?P<comment>\#[^\n]*)
    | '(?P<single>[^\n]*?)'(?=\s|\Z)
    | "(?P<double>[^\n]*?)"(?=\s|\Z)
    | (?P<bare>\S+)
    """,
    re.VERBOSE | re.MULTILINE | re.DOTALL,
)
_KEYWORD = re.compile(r"(data_|save_|loop_$|global_$|stop_$)", re.IGNORECASE)


@dataclass
class CifLoop:
    """One loop: tags (lower case, ``.`` as ``_``), columns, and the line of each row."""

    columns: dict[str, list[str]]
    row_lines: list[int]


@dataclass
class CifBlock:
    """One data block.

    Attributes
    ----------
    name : str
        With ``data_``.
    line : int
    items : dict of str to str
        Tag (lower case, ``.`` as ``_``) -> value.
    lines : dict of str to int
        Tag, of items and of loops -> line of the file.
    loops : list of CifLoop
    """

    name: str
    line: int
    items: dict[str, str] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    loops: list[CifLoop] = field(default_factory=list)

    def loop_with(self, tag: str) -> CifLoop | None:
        """Return the loop that holds `tag`, or None."""
        return next((loop for loop in self.loops if tag in loop.columns), None)

    def value(self, *tags: str) -> tuple[str, int] | None:
        """Return value and line of the first of `tags` that is given, or None.

        ``?`` and ``.`` count as not given; of a loop, the first row is taken.
        """
        for tag in tags:
            value = self.items.get(tag)
            if value is None:
                loop = self.loop_with(tag)
                value = loop.columns[tag][0] if loop is not None else None
            if value is not None and value.strip() not in ("", "?", "."):
                return value, self.lines[tag]
        return None

    def column(self, *tags: str) -> list[str] | None:
        """Return the values of the first of `tags` that is given, as a loop or one item."""
        for tag in tags:
            loop = self.loop_with(tag)
            if loop is not None:
                return loop.columns[tag]
            if tag in self.items:
                return [self.items[tag]]
        return None


def parse_cif(text: str, source) -> list[CifBlock]:
    """Parse CIF text into its data blocks.

    Raises
    ------
    Sorry
        If the text is no CIF, or a loop, text field or quoted string is not complete.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    blocks: list[CifBlock] = []
    tokens = _tokens(text, source)
    kind, token, line = next(tokens)
    while kind != "end":
        if kind == "keyword" and token.lower().startswith("data_"):
            blocks.append(CifBlock(token, line))
            kind, token, line = next(tokens)
        elif kind == "keyword" and token.lower() == "loop_":
            _require_block(blocks, source, token, line)
            kind, token, line = _read_loop(tokens, line, blocks[-1], source)
        elif kind == "tag":
            _require_block(blocks, source, token, line)
            tag, tag_line = _normalised(token), line
            kind, token, line = next(tokens)
            if kind != "value":
                raise bad_input(
                    source, f"{tag} has no value", "Give one, ? where it is unknown", tag_line
                )
            blocks[-1].items.setdefault(tag, token)
            blocks[-1].lines.setdefault(tag, tag_line)
            kind, token, line = next(tokens)
        elif kind == "keyword":
            kind, token, line = next(tokens)
        else:
            _require_block(blocks, source, token, line)
            raise bad_input(
                source,
                f"the value {token.strip()[:60]!r} belongs to no item",
                "Quote values that hold blanks",
                line,
            )
    if not blocks:
        raise bad_input(source, "no data block, so this is no CIF", "Give a CIF file")
    return blocks


def _normalised(tag):
    return tag.lower().replace(".", "_")


def _require_block(blocks, source, token, line):
    if not blocks:
        raise bad_input(
            source,
            f"{token.strip()[:60]!r} where data_ should stand, so this is no CIF",
            "Give a CIF file, or the extension that belongs to the content",
            line,
        )


def _tokens(text, source):
    """Yield (kind, token, line) with kind tag, value, keyword, and at last end."""
    line = 1
    position = 0
    for match in _TOKEN.finditer(text):
        line += text.count("\n", position, match.start())
        position = match.start()
        kind = match.lastgroup
        if kind == "comment":
            continue
        token = match.group(kind)
        if kind != "bare":
            yield "value", token, line
        elif token[0] == "_":
            yield "tag", token, line
        elif token[0] in "'\"" or (token[0] == ";" and text[position - 1 : position] in ("\n", "")):
            what = "text field" if token[0] == ";" else "quoted string"
            raise bad_input(
                source, f"a {what} is not closed", "Close it, or copy the file again", line
            )
        elif _KEYWORD.match(token):
            yield "keyword", token, line
        else:
            yield "value", token, line
    yield "end", "", line


def _read_loop(tokens, loop_line, block, source):
    """Read one loop into `block`, and return the token after it."""
    tags = []
    kind, token, line = next(tokens)
    while kind == "tag":
        tags.append(_normalised(token))
        block.lines.setdefault(tags[-1], line)
        kind, token, line = next(tokens)
    values, lines = [], []
    while kind == "value":
        values.append(token)
        lines.append(line)
        kind, token, line = next(tokens)
    if not tags or not values or len(values) % len(tags):
        first = tags[0] if tags else "no item"
        raise bad_input(
            source,
            f"the loop of {first} (from line {loop_line}) has {len(tags)} items per row and"
            f" {len(values)} values",
            "Complete it, or copy the file again",
            lines[-1] if lines else loop_line,
        )
    columns = {tag: values[i :: len(tags)] for i, tag in enumerate(tags)}
    block.loops.append(CifLoop(columns, lines[:: len(tags)]))
    return kind, token, line
