# SPDX-License-Identifier: Apache-2.0
"""Errors of the engine or of the link to it."""

from nonzero.errors import UserError
from rtl.protocol import STATUS_HELP, Status

__all__ = ["DeviceError"]


class DeviceError(UserError):
    """The engine refused a request, or could not be asked; the message has the cause and the way out.

    Parameters
    ----------
    what : str
        Beginning of the message: what happened.
    status : Status
        The engine's answer, or what the host found. It is kept as an attribute.
    """

    def __init__(self, what: str, status: Status) -> None:
        self.status = status
        cause, way_out = STATUS_HELP[status]
        super().__init__(f"{what} ({status.name}): {cause}; {way_out}")
