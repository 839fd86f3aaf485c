# SPDX-License-Identifier: Apache-2.0
"""Files that are shipped with the project beside the code: the boards' files and networks that are ready to pack.

In a checkout they lie beside the packages, in ``constraints/`` and ``models/``; a wheel holds them in this package,
under the same names.
"""

import sys
from pathlib import Path

__all__ = ["CONSTRAINTS", "MODELS", "given_or_shipped"]


def _directory(name: str) -> Path:
    package = Path(__file__).parent
    return package / name if (package / name).is_dir() else package.parent / name


CONSTRAINTS = _directory("constraints")
MODELS = _directory("models")


def given_or_shipped(name: str) -> Path:
    """The path of this name; for one in ``models/`` that does not exist, the file that comes with the project.

    So the README's commands work in any directory. Stderr says which file is taken.
    """
    path = Path(name)
    shipped = MODELS / path.name
    if path.parent != Path("models") or path.exists() or not shipped.is_file():
        return path
    sys.stderr.write(f"note: there is no '{path}' here, so '{shipped}' is read\n")
    return shipped
