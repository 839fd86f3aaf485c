# SPDX-License-Identifier: Apache-2.0
"""Numbers as text, for tables, pages and charts."""

import math
from collections.abc import Callable
from html import escape
from typing import Any

from nonzero.errors import printable

__all__ = ["ABSENT", "cut", "error_text", "hundredths_text", "kib_text", "number_text", "plain", "ratio", "safe",
           "share_text", "show", "tenths_text"]

ABSENT = "-"


def plain(value: Any) -> Any:
    """What JSON would return for ``value``; None for a number that is not finite."""
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def safe(value: object) -> str:
    """The text of ``value``, printable and escaped for the page."""
    return escape(printable(value))


def cut(text: str, length: int) -> str:
    """The string ``text``, shortened to ``length`` characters with three dots at its end if it is longer."""
    return text if len(text) <= length else f"{text[:length - 3]}..."


def number_text(value: float, digits: int = 0) -> str:
    """The number ``value`` with ``digits`` decimals and commas between thousands."""
    return f"{value:,.{digits}f}"


def hundredths_text(value: float) -> str:
    """The number ``value`` with two decimals."""
    return number_text(value, 2)


def tenths_text(value: float) -> str:
    """The number ``value`` with one decimal."""
    return number_text(value, 1)


def share_text(value: float) -> str:
    """The share ``value``, 0 to 1, as a percentage with two decimals."""
    return f"{100 * value:.2f}%"


def error_text(percent: float) -> str:
    """The number ``percent`` with two decimals and a percent sign."""
    return f"{percent:.2f}%"


def kib_text(count: float) -> str:
    """The number of bytes ``count`` in KiB, with one decimal."""
    return f"{count / 1024:,.1f} KiB"


def show(value: Any, form: Callable[[Any], str], text: str = "{}", absent: str = ABSENT) -> str:
    """``value`` written by ``form`` into ``text``; ``absent`` for None."""
    return absent if value is None else text.format(form(value))


def ratio(over: float | None, under: float | None) -> float | None:
    """``over`` divided by ``under``; None if either is None, or ``under`` is zero."""
    return over / under if over is not None and under else None
