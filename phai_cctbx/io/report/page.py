"""The frame of a page and its tables: plain HTML with its style and scripts inside."""

from __future__ import annotations

from html import escape
from pathlib import Path
from urllib.parse import quote

from phai_cctbx.version import __version__

_STYLE = Path(__file__).with_name("page.css")


class Html(str):
    """Text that is HTML already; all other text is escaped."""


def page(title: str, body: str, head: str = "", scripts: str = "") -> str:
    """A complete HTML document.

    Parameters
    ----------
    title : str
        Plain text.
    body : str
        HTML of the main part.
    head : str
        Further HTML for the head.
    scripts : str
        HTML after all else: what is slow to run does not keep the page from showing.
    """
    style = _STYLE.read_text(encoding="utf-8")
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n{head}"
        f"</head>\n<body>\n<main>\n{body}\n"
        f"<footer>phai_cctbx {escape(__version__)}</footer>\n</main>\n{scripts}</body>\n</html>\n"
    )


def table(columns, rows, identity: str = "") -> Html:
    """An HTML table.

    Parameters
    ----------
    columns : list of str
        Titles; those of number columns begin with ``">"``.
    rows : list of list of str
        Cells, text or `Html`.
    identity : str
        The id of the element.
    """
    classes = [' class="number"' if name.startswith(">") else "" for name in columns]
    head = "".join(f"<th{c}>{escape(n.lstrip('>'))}</th>" for c, n in zip(classes, columns))
    lines = [
        "<tr>" + "".join(f"<td{c}>{html(x)}</td>" for c, x in zip(classes, row)) + "</tr>"
        for row in rows
    ]
    name = f' id="{identity}"' if identity else ""
    body = "\n".join(lines)
    return Html(
        f'<div class="scroll"><table{name}><thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def html(text: str) -> str:
    """Text as HTML."""
    return text if isinstance(text, Html) else escape(text)


def badge(text: str, kind: str = "") -> Html:
    """A word on a coloured ground: ``"good"``, ``"bad"``, ``"warn"`` or grey."""
    return Html(f'<span class="badge {kind}">{escape(text)}</span>')


def link(text: str, target: str) -> Html:
    """A link to a file beside the page."""
    return Html(f'<a href="{escape(quote(target))}">{escape(text)}</a>')


def warnings(texts) -> Html:
    """The box of warnings, nothing where there are none."""
    if not texts:
        return Html("")
    items = "".join(f"<li>{html(text)}</li>" for text in texts)
    return Html(f'<div class="warnings"><h2>Warnings</h2><ul>{items}</ul></div>')


def keys(pairs) -> Html:
    """The row of main figures: (name, value) pairs of plain text."""
    cells = [
        f'<div class="key"><b>{escape(value)}</b><span>{escape(name)}</span></div>'
        for name, value in pairs
    ]
    return Html(f'<div class="keys">{"".join(cells)}</div>')
