# SPDX-License-Identifier: Apache-2.0
"""Reads a configuration by a preset's name or from a TOML file."""

from dataclasses import fields, replace
from pathlib import Path

from nonzero.errors import UserError
from nonzero.toml_files import read_toml

from .config import ConfigError, EngineConfig, preset

__all__ = ["read_config", "read_engine"]


def read_config(path, base="default"):
    """Reads a TOML file of `EngineConfig` fields; its key ``preset`` names where the others come from.

    Parameters
    ----------
    path : Path or str
    base : str
        The preset to start from if the file names none.

    Raises
    ------
    ConfigError
        For a file that is not TOML, unknown keys and values out of range.
    """
    try:
        values = read_toml("configuration", Path(path))
    except UserError as error:
        raise ConfigError(error.problems) from None
    start = preset(values.pop("preset", base))
    known = {field.name for field in fields(EngineConfig)}
    unknown = [f"configuration '{path}': unknown key '{key}'; known are {', '.join(sorted(known))}"
               for key in values if key not in known]
    if unknown:
        raise ConfigError(unknown)
    if "index_bits" in values and not isinstance(values["index_bits"], list):
        raise ConfigError([f"index_bits must be a list of widths, not {values['index_bits']!r}"])
    return replace(start, **values)


def read_engine(preset_name: str, config_file: Path | None) -> EngineConfig:
    """The configuration that ``--preset`` and ``--config`` name.

    Parameters
    ----------
    preset_name : str
        Value of ``--preset``; a preset that the file names goes before it.
    config_file : Path or None
        Value of ``--config``; its fields replace those of the preset.

    Raises
    ------
    UserError
        For an unknown preset, a file that is not TOML, unknown keys and values out of range.
    """
    try:
        if config_file is None:
            return preset(preset_name)
        return read_config(config_file, preset_name)
    except TypeError:
        raise UserError(f"configuration '{config_file}': preset must be a name, not a list or a table") from None
    except ConfigError as error:
        raise UserError(error.problems) from None
