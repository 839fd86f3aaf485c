# SPDX-License-Identifier: Apache-2.0
"""A module as a ``.pt2`` file: the graph that torch.export makes of it."""

import io

import torch
from torch import nn

from nonzero.errors import UserError

__all__ = ["exported"]


def exported(module: nn.Module, example: torch.Tensor) -> bytes:
    """The content of a ``.pt2`` file with ``module``, which is not changed.

    Parameters
    ----------
    module : nn.Module
        Is exported as it is for inference.
    example : tensor, shape ``[1, ...]``
        An input.

    Raises
    ------
    UserError
        If torch cannot export it.
    """
    training, buffer = module.training, io.BytesIO()
    try:
        torch.export.save(torch.export.export(module.eval(), (example,)), buffer)
    except Exception as error:  # torch raises many kinds
        first = str(error).strip().partition("\n")[0]
        raise UserError(f"the module cannot be exported by torch.export ({type(error).__name__}: {first}); its "
                        "forward() must take one tensor and have no branches that depend on values") from None
    finally:
        module.train(training)
    return buffer.getvalue()
