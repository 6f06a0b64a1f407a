"""Line, bar and scatter charts as inline SVG, drawn here so that a report costs milliseconds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from zlib import crc32

import numpy as np

from phai_cctbx.io.report.page import Html

#: Colours of the series, in the order of use.
BLUE, ORANGE, GREEN, RED, GREY = "#1f5f8b", "#d9822b", "#1b7f4d", "#b3372f", "#9aa7b4"

_WIDTH, _HEIGHT = 400, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 12, 14, 42
_TICKS = 5


class Chart:
    """A chart with linear axes; what is drawn first lies below.

    Parameters
    ----------
    x_label, y_label : str
    x_range, y_range : (float, float)
        Ends of the axes.
    x_ticks : sequence of (float, str), optional
        Positions and labels, round numbers by default.
    """

    def __init__(self, x_label, y_label, x_range, y_range, x_ticks=None):
        self._x_label, self._y_label = x_label, y_label
        self._x_range, self._y_range = _proper(x_range), _proper(y_range)
        self._x_ticks = x_ticks or [(x, f"{x:g}") for x in round_ticks(*self._x_range)]
        self._shapes: list[str] = []
        self._legend: list[tuple[str, str]] = []

    def bars(self, edges: Sequence[float], heights: Sequence[float], color=BLUE, name="") -> Chart:
        """Bars between successive edges, from zero."""
        zero = self._y(min(max(0.0, self._y_range[0]), self._y_range[1]))
        for low, high, height in zip(edges, edges[1:], heights):
            x, y = self._x(low) + 0.5, self._y(height)
            width = max(self._x(high) - x - 0.5, 0.5)
            self._shapes.append(
                f'<rect x="{x:.1f}" y="{min(y, zero):.1f}" width="{width:.1f}"'
                f' height="{abs(zero - y):.1f}" fill="{color}" fill-opacity=".8"/>'
            )
        return self._named(name, color)

    def line(self, x, y, color=BLUE, name="", dashed=False) -> Chart:
        """A line through points; it is broken where a value is not finite."""
        path, pen = [], "M"
        for u, v in zip(x, y):
            if math.isfinite(u) and math.isfinite(v):
                path.append(f"{pen}{self._x(u):.1f} {self._y(v):.1f}")
                pen = "L"
            else:
                pen = "M"
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        self._shapes.append(
            f'<path d="{"".join(path)}" fill="none" stroke="{color}" stroke-width="1.8"{dash}/>'
        )
        return self._named(name, color)

    def points(self, x, y, color=BLUE, name="", radius=2.6, opacity=1.0) -> Chart:
        """Dots."""
        # a line of no length with a round end is a dot: one element for all of them
        path = "".join(
            f"M{self._x(u):.1f} {self._y(v):.1f}h0"
            for u, v in zip(x, y)
            if math.isfinite(u) and math.isfinite(v)
        )
        self._shapes.append(
            f'<path d="{path}" stroke="{color}" stroke-width="{2 * radius}" stroke-linecap="round"'
            f' stroke-opacity="{opacity}"/>'
        )
        return self._named(name, color)

    def svg(self, title: str, note: str = "") -> Html:
        """The chart as a figure with its title and a note below."""
        x0, x1, y0, y1 = _LEFT, _WIDTH - _RIGHT, _HEIGHT - _BOTTOM, _TOP
        parts = [
            f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}"'
            ' font-size="11" fill="#5d6b7a">'
        ]
        for value in round_ticks(*self._y_range):
            y = self._y(value)
            parts.append(f'<path d="M{x0} {y:.1f}H{x1}" stroke="#e7ecf0"/>')
            parts.append(f'<text x="{x0 - 6}" y="{y + 3.5:.1f}" text-anchor="end">{value:g}</text>')
        for value, label in self._x_ticks:
            x = self._x(value)
            parts.append(f'<path d="M{x:.1f} {y0}v4" stroke="#9aa7b4"/>')
            parts.append(
                f'<text x="{x:.1f}" y="{y0 + 16}" text-anchor="middle">{escape(label)}</text>'
            )
        identity = f"clip{crc32(title.encode()):x}"
        parts.append(
            f'<clipPath id="{identity}"><rect x="{x0}" y="{y1 - 3}" width="{x1 - x0 + 3}"'
            f' height="{y0 - y1 + 6}"/></clipPath><g clip-path="url(#{identity})">'
        )
        parts += self._shapes
        parts.append(f'</g><path d="M{x0} {y1}V{y0}H{x1}" fill="none" stroke="#9aa7b4"/>')
        parts.append(
            f'<text x="{(x0 + x1) / 2}" y="{_HEIGHT - 6}" text-anchor="middle">'
            f"{escape(self._x_label)}</text>"
            f'<text transform="translate(12 {(y0 + y1) / 2}) rotate(-90)" text-anchor="middle">'
            f"{escape(self._y_label)}</text></svg>"
        )
        return figure(title, Html("".join(parts)), self._legend, note)

    def _x(self, value):
        low, high = self._x_range
        return _LEFT + (value - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)

    def _y(self, value):
        low, high = self._y_range
        return _HEIGHT - _BOTTOM - (value - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    def _named(self, name, color):
        if name:
            self._legend.append((name, color))
        return self


def figure(title: str, svg: Html, legend=(), note: str = "") -> Html:
    """An HTML figure: title, picture, legend of (name, colour), note."""
    entries = "".join(
        f'<span style="white-space:nowrap"><span style="color:{color}">\u25a0</span>'
        f" {escape(name)}&ensp;</span>"
        for name, color in legend
    )
    caption = f"{entries}{'<br>' if entries and note else ''}{escape(note)}"
    caption = f"<figcaption>{caption}</figcaption>" if caption else ""
    return Html(f"<figure><h3>{escape(title)}</h3>{svg}{caption}</figure>")


def round_ticks(low: float, high: float) -> list[float]:
    """About five round numbers from `low` to `high`."""
    raw = (high - low) / _TICKS
    power = 10.0 ** math.floor(math.log10(raw))
    step = power * min((1, 2, 5, 10), key=lambda factor: abs(math.log(raw / (factor * power))))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(i * step, 12) + 0.0 for i in range(first, last + 1)]


def upper_end(values, least: float = 0.0) -> float:
    """A round number not below any of the values, for the end of an axis."""
    finite = [float(v) for v in np.ravel(values) if math.isfinite(v)]
    top = max([least, *finite]) * 1.05 or 1.0
    step = 10.0 ** math.floor(math.log10(top)) / 5
    return math.ceil(top / step) * step


def _proper(ends):
    low, high = (float(value) for value in ends)
    return (low, high) if high > low else (low - 0.5, low + 0.5)
