# SPDX-License-Identifier: Apache-2.0
"""The options --preset and --config of the commands."""

from argparse import ArgumentParser
from pathlib import Path

from nonzero.errors import UserError
from nonzero.shipped import given_or_shipped
from rtl.config import ConfigError, EngineConfig, preset, read_config

__all__ = ["add_engine_options", "read_engine"]


def add_engine_options(parser: ArgumentParser) -> None:
    """Adds ``--preset`` and ``--config``."""
    parser.add_argument("--preset", default="default", help="engine: tiny, up5k, small, default, medium, large, "
                        "wide or conv (default)")
    parser.add_argument("--config", type=given_or_shipped, metavar="FILE.toml",
                        help="engine configuration; fields it lacks come from the preset")


def read_engine(preset_name: str, config_file: Path | None) -> EngineConfig:
    """The configuration that ``--preset`` and ``--config`` name; raises `UserError`."""
    try:
        if config_file is None:
            return preset(preset_name)
        return read_config(config_file, preset_name)
    except TypeError:
        raise UserError(f"configuration '{config_file}': preset must be a name, not a list or a table") from None
    except ConfigError as error:
        raise UserError(error.problems) from None
