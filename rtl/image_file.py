# SPDX-License-Identifier: Apache-2.0
"""The file of a memory image: the part that the engine loads and the part that the host keeps, each with its CRC-32.

``docs/formats.md`` describes it. Nothing in either part is executed, and sizes are capped before memory is taken.
"""

import zlib
from dataclasses import dataclass

from nonzero.errors import UserError
from nonzero.files import check_input

from .config import PRESETS
from .image_format import HEADER_BYTES, IMAGE_MAGIC, IMAGE_VERSION, header_layout

__all__ = ["HOST_MAGIC", "ImageParts", "preset_of", "read_parts", "split_image", "with_crc"]

HOST_MAGIC = b"NZHO"
LARGEST_IMAGE_BYTES = 1 << 30
LARGEST_HOST_BYTES = 1 << 26
CRC_BYTES = 4


@dataclass(frozen=True)
class ImageParts:
    """A sound file, split into its parts.

    Attributes
    ----------
    engine : bytes
        The part that the engine loads, header and CRC-32 included.
    host : bytes
        The content of the host part, without its frame: JSON that is not parsed yet.
    config_hash : bytes
        The `EngineConfig.hash` that the image was made for.
    input_words : int
        Activation words of one input.
    """

    engine: bytes
    host: bytes
    config_hash: bytes
    input_words: int


def with_crc(content):
    """The bytes ``content``, followed by their CRC-32."""
    return content + zlib.crc32(content).to_bytes(CRC_BYTES, "little")


def _crc_holds(content):
    return zlib.crc32(content[:-CRC_BYTES]) == int.from_bytes(content[-CRC_BYTES:], "little")


def preset_of(config_hash):
    """The name of the preset whose `EngineConfig.hash` is ``config_hash``; None if there is none."""
    return next((name for name, config in PRESETS.items() if config.hash == config_hash), None)


def read_parts(path, config=None):
    """Reads an image file and splits it into its parts.

    Parameters
    ----------
    path : Path
    config : EngineConfig, optional
        See `split_image`.

    Raises
    ------
    UserError
        If the file cannot be read, and as `split_image`.
    """
    check_input("image", path, LARGEST_IMAGE_BYTES)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"image '{path}' cannot be read: {error.strerror}") from None
    return split_image(content, config, str(path))


def split_image(content, config, name):
    """Checks the frame of an image and splits it into its parts.

    Parameters
    ----------
    content : bytes
        A whole file.
    config : EngineConfig or None
        The engine that is to load it.
    name : str
        Name of the image in errors.

    Returns
    -------
    ImageParts

    Raises
    ------
    UserError
        For anything but a sound frame, made for that engine.
    """
    if len(content) < HEADER_BYTES + CRC_BYTES:
        raise UserError(f"image '{name}' is truncated: it has {len(content)} bytes, its header alone {HEADER_BYTES}")
    header = header_layout().from_bits(int.from_bytes(content[:HEADER_BYTES], "little"))
    if header.magic != IMAGE_MAGIC:
        raise UserError(f"'{name}' is no memory image: it must begin with {IMAGE_MAGIC.to_bytes(4, 'little')!r}, not "
                        f"{content[:4]!r}; make one with python -m host.compile")
    if header.version != IMAGE_VERSION:
        raise UserError(f"image '{name}' must be of version {IMAGE_VERSION}, not {header.version}; compile it again")
    config_hash = int(header.config_hash).to_bytes(8, "little")
    if config is not None and config_hash != config.hash:
        made_for, has = (f"preset {preset}" if (preset := preset_of(one)) else f"configuration {one.hex()}"
                         for one in (config_hash, config.hash))
        raise UserError(f"image '{name}' was made for {made_for}, the engine has {has}; compile the model with the "
                        "engine's --preset or --config, or use the image's engine")
    if header.image_bytes > len(content) or header.image_bytes < HEADER_BYTES + CRC_BYTES:
        raise UserError(f"image '{name}' is truncated: its header says {header.image_bytes} bytes, the file has "
                        f"{len(content)}")
    engine = content[:header.image_bytes]
    if not _crc_holds(engine):
        raise UserError(f"image '{name}' is damaged: the CRC-32 of its engine part is wrong; compile it again")
    return ImageParts(engine, _host_content(content[len(engine):], name), config_hash, int(header.input_words))


def _host_content(content, name):
    length = int.from_bytes(content[4:8], "little")
    if len(content) < 12 or content[:4] != HOST_MAGIC or length > LARGEST_HOST_BYTES or len(content) != length + 12:
        raise UserError(f"image '{name}' is truncated: its host part is missing or has another length than it says")
    if not _crc_holds(content):
        raise UserError(f"image '{name}' is damaged: the CRC-32 of its host part is wrong; compile it again")
    return content[8:-CRC_BYTES]
