# SPDX-License-Identifier: Apache-2.0
"""What mkdocs does with the pages beyond its plugins (`hooks` in mkdocs.yml)."""


def on_page_content(html: str, **_: object) -> str:
    """A docstring announces a block of code by ``::``, as reStructuredText does; Markdown would show the colons."""
    return html.replace(" ::</p>", "</p>").replace("::</p>", ":</p>")
