# SPDX-License-Identifier: Apache-2.0
"""The part of a report that compares the compiled network with floats."""

from host.reporting.html_page import table
from host.reporting.number_text import hundredths_text, number_text, safe, share_text, show, tenths_text
from host.reporting.report_values import Report
from nonzero.errors import printable

__all__ = ["CAPTION", "check_tables"]

CAPTION = ("The ratios compare a layer's outputs before and after a step; a dash: nothing has changed. Clipped: values "
           "of the float network beyond the integers' range.")


def check_tables(report: Report) -> str:
    """What ``report`` has of the comparison (``check``), as HTML: a sentence, a table of steps and one of layers."""
    check = report.get("check") or {}
    steps, layers = check.get("steps") or [], check.get("layers") or []
    told = [show(check.get("agreement"), share_text, "the greatest output is the same on {} of the inputs", ""),
            show(check.get("relative_error"), share_text, "relative error {}", "")]
    beside = show(check.get("inputs"), number_text, " on {} inputs", "")
    sentence = f"<p>Beside {safe(check['reference'])}{beside}: {', '.join(filter(None, told))}.</p>" \
        if check.get("reference") else ""
    rows = [[printable(step.get("name", "")), show(step.get("points"), hundredths_text),
             printable(step.get("unit", "")), show(step.get("change"), share_text)] for step in steps]
    names = list(dict.fromkeys(name for layer in layers for name in layer.get("snr_db") or {}))
    ratios = [[printable(layer.get("name", "")), *(show((layer.get("snr_db") or {}).get(name), tenths_text)
                                                  for name in names), show(layer.get("clipped"), share_text)]
              for layer in layers]
    return (sentence + table([["step", "points lost", "of", "change of the outputs"], *rows], "lost")
            + table([["layer", *(f"signal to noise, dB: {printable(name)}" for name in names), "clipped"], *ratios],
                    "ratios"))
