# SPDX-License-Identifier: Apache-2.0
"""The boards: what their files in ``constraints`` say."""

import importlib
import re

from nonzero.errors import UserError
from nonzero.shipped import CONSTRAINTS
from nonzero.toml_files import read_toml

__all__ = ["CONSTRAINTS", "board_names", "board_platform", "led_port", "read_board"]


def board_names():
    """Names of the boards, sorted."""
    return sorted(path.stem for path in CONSTRAINTS.glob("*.toml"))


def read_board(name):
    """The fields of the file of the board ``name``. Raises `UserError` for an unknown name or a damaged file."""
    path = CONSTRAINTS / f"{name}.toml"
    if not re.fullmatch(r"[\w-]+", name) or not path.exists():
        raise UserError(f"board must be one of {', '.join(board_names())}, not '{name}'")
    return {"name": name, **read_toml("board", path)}


def board_platform(board):
    """A new Amaranth platform, for one build, of the board with the fields ``board`` (`read_board`).

    Raises `UserError` if amaranth-boards is not installed.
    """
    module, name = board["platform"].split(":")
    try:
        platform = getattr(importlib.import_module(module), name)()
    except ModuleNotFoundError:
        raise UserError("amaranth-boards must be installed; pip install amaranth-boards") from None
    if "section" in board:
        platform.add_resources(getattr(platform, board["section"]))
    return platform


def led_port(platform, name):
    """The port of the LED ``name``, such as ``rgb_led.0.g``, on ``platform``: resource, number, and a colour if any."""
    resource, number, *colour = name.split(".")
    if not colour:
        return platform.request(resource, int(number), dir="-")
    return getattr(platform.request(resource, int(number), dir={one: "-" for one in "rgb"}), colour[0])
