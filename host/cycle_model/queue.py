# SPDX-License-Identifier: Apache-2.0
"""A cycle of `rtl.engine.queue`: of the slices in a PE, and of the beats in a cluster."""

import numba

__all__ = ["step_queue"]


@numba.njit
def step_queue(queue, items, item, put, take, block_ram):  # type: ignore[no-untyped-def]
    """Writes an item, takes one, or both.

    Parameters
    ----------
    queue : QUEUE
    items : array, shape ``[depth]``
    item : element of ``items``
        The item that ``put`` writes; there is room for it.
    put, take : bool
        Only an offered item may be taken, or the item that is put if the queue is empty.
    block_ram : bool
        An item is offered two cycles after it was written; one otherwise.

    Returns
    -------
    element of ``items``
        The item that is taken.
    """
    before = queue.level
    if put:
        items[(queue.front + before) % len(items)] = item
    taken = items[queue.front]
    if take:
        queue.front = (queue.front + 1) % len(items)
    queue.level = before + (1 if put else 0) - (1 if take else 0)
    queue.offered = (before if block_ram else before + (1 if put else 0)) > (1 if take else 0)
    return taken
