# SPDX-License-Identifier: Apache-2.0
"""A page of one run that ``host.run --trace`` recorded: what each PE did, and where the cycles went."""

if __name__ == "__main__":
    from nonzero.errors import expect_interrupts
    expect_interrupts()

import sys
import tempfile
import webbrowser
from collections.abc import Sequence
from pathlib import Path

from host.view.page import run_page
from host.view.reading import read_recording
from nonzero.command_line import CommandParser
from nonzero.errors import UserError, check_all, end_with
from nonzero.files import check_file, write_whole

__all__ = ["main"]

EXAMPLES = """examples:
  python -m host.run build/model/model.img --data mnist --trace run.json --limit 4
  python -m host.view run.json                       # in the browser
  python -m host.view run.json --output run.html     # one file, for any browser, without a network"""


def main(argv: Sequence[str] | None = None) -> None:
    parser = CommandParser("python -m host.view", description=__doc__, epilog=EXAMPLES)
    parser.add_argument("run", type=Path, metavar="RUN", help="recording that host.run --trace wrote")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE.html", help="write the page there instead of "
                        "opening it in the browser")
    arguments = parser.parse_args(argv)
    output: Path | None = arguments.output
    run, *_ = check_all(lambda: read_recording(arguments.run),
                        *([lambda: check_file(output)] if output is not None else []))
    content = run_page(run).encode()
    if output is not None:
        write_whole(output, content)
        sys.stdout.write(f"{output}\n")
        return
    # The browser reads the file after this process has ended, so it is not deleted.
    place = Path(tempfile.mkdtemp(prefix="nonzero-")) / f"{arguments.run.stem}.html"
    write_whole(place, content)
    if not webbrowser.open(place.as_uri()):
        raise UserError(f"there is no browser to open '{place}'; name a file with --output")
    sys.stdout.write(f"{place}\n")


if __name__ == "__main__":
    end_with(main)
