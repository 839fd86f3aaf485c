# SPDX-License-Identifier: Apache-2.0
"""Hooks of mkdocs (`hooks` in mkdocs.yml): changes to pages that its plugins do not make."""

from pathlib import Path
from typing import Any

TOP = Path(__file__).parents[1]

INCLUDED = {"contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}
"""Pages that show a file from the top of the checkout."""


def on_page_markdown(markdown: str, page: Any, **_: object) -> str:
    """Puts the file of an `INCLUDED` page in its place; links in it lead from ``docs/``, not from the top."""
    name = INCLUDED.get(page.file.src_uri)
    if name is None:
        return markdown
    text = (TOP / name).read_text(encoding="utf-8").replace("](docs/", "](")
    for included, file in INCLUDED.items():
        text = text.replace(f"]({file}", f"]({included}")
    return text


def on_page_content(html: str, **_: object) -> str:
    """A docstring announces a block of code by ``::``, as reStructuredText does; Markdown would show the colons."""
    return html.replace(" ::</p>", "</p>").replace("::</p>", ":</p>")
