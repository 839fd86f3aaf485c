# SPDX-License-Identifier: Apache-2.0
"""The version of this project."""

from importlib.metadata import PackageNotFoundError, version

__all__ = ["tool_version"]


def tool_version() -> str:
    """The version of the installed project."""
    try:
        return version("nonzero")
    except PackageNotFoundError:
        return "(not installed)"
