# SPDX-License-Identifier: Apache-2.0
"""The picture of a learning curve."""

import io

from matplotlib.figure import Figure

__all__ = ["curve_picture"]


def curve_picture(curve: list[dict[str, float]], title: str) -> bytes:
    """A learning curve as PNG below ``title``: loss and held-out error of each epoch of ``curve``, on logarithmic axes.
    """
    figure = Figure(figsize=(7, 4))
    figure.subplots_adjust(left=0.1, right=0.88, bottom=0.13, top=0.92)
    axes = figure.subplots()
    epochs = [point["epoch"] for point in curve]
    axes.semilogy(epochs, [point["loss"] for point in curve], label="training loss", color="tab:blue")
    axes.set(xlabel="epoch", ylabel="training loss", title=title)
    right = axes.twinx()
    right.semilogy(epochs, [max(point["held_out_error"], 0.01) for point in curve], label="held-out error",
                   color="tab:orange")
    right.set_ylabel("held-out error, %")
    figure.legend(loc="upper right", bbox_to_anchor=(0.88, 0.9))
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()
