"""Matplotlib figures whose texts are untrusted: any script, no mathtext.

Matplotlib reads text between dollar signs as mathematics, fails at halves of characters, and warns on stderr of each
character that its own font lacks. Here every text is drawn as it is written, in fonts of other scripts where there are
some on this machine, and without warnings.
"""

from __future__ import annotations

import warnings
from functools import cache

from matplotlib.backend_bases import RendererBase
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter

from hpo.escaping import one_line

_OTHER_SCRIPTS = (  # fonts of Chinese, Japanese and Korean, as Linux, macOS and Windows have them
    "Noto Sans CJK JP", "Noto Sans JP", "IPAexGothic", "TakaoPGothic", "VL PGothic", "WenQuanYi Zen Hei",
    "Hiragino Sans", "PingFang SC", "Apple SD Gothic Neo", "Yu Gothic", "Microsoft YaHei", "Malgun Gothic",
    "Arial Unicode MS",
)  # fmt: skip
_MOST_CHARACTERS = 60  # of the text beside a tick: a longer one leaves no room for the axes


class Picture(Figure):
    """A Matplotlib figure that draws every text as it is written."""

    def draw(self, renderer: RendererBase) -> None:
        """Draw the figure, which is also what lays it out."""
        for text in self.findobj(Text):
            text.set_parse_math(False)
            text.set_text("\n".join(map(one_line, text.get_text().split("\n"))))
            if not text.get_text().isascii():
                text.set_fontfamily(_families())
        for axes in self.axes:
            for axis in (axes.xaxis, axes.yaxis):
                formatter = axis.get_major_formatter()
                if type(formatter) is FuncFormatter:  # of words that were given for ticks
                    axis.set_major_formatter(_Words(formatter.func))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            super().draw(renderer)


class _Words(FuncFormatter):
    """Words beside ticks, as they can be drawn."""

    def __call__(self, value: float, position: int | None = None) -> str:
        """Return the word at a place."""
        return _short(one_line(super().__call__(value, position)))


@cache
def _families() -> list[str]:
    there = {font.name for font in fontManager.ttflist}
    return ["DejaVu Sans", *(name for name in _OTHER_SCRIPTS if name in there)]


def _short(word: str) -> str:
    return word if len(word) <= _MOST_CHARACTERS else word[: _MOST_CHARACTERS - 1] + "…"
