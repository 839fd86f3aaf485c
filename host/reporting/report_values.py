# SPDX-License-Identifier: Apache-2.0
"""Values that a report shows, and how it writes numbers and names."""

from typing import Any

from host.reporting.number_text import (
    ABSENT,
    hundredths_text,
    kib_text,
    number_text,
    ratio,
    share_text,
    show,
    tenths_text,
)
from host.training.metrics import METRICS, Metric
from nonzero.errors import printable

__all__ = ["Report", "layers_of", "main_figures", "metric_of", "rtl_figures", "storage_bits"]

Report = dict[str, Any]
"""The schema is in `host.reporting.report`."""

FURTHER = ("r2", "auc")
"""Metrics that stand beside the error."""


def layers_of(report: Report) -> list[Report]:
    """The layers of ``report``, with ``ideal`` and ``limit`` cycles where they are known."""
    layers = []
    for layer in report.get("layers") or []:
        pes = (report.get("config") or {}).get("pes") or len(layer.get("pe_entries") or [])
        ideal, broadcasts = ratio(layer.get("useful_macs"), pes), layer.get("broadcasts")
        limit = None if ideal is None or broadcasts is None else max(ideal, broadcasts)
        layers.append({**layer, "ideal": ideal, "limit": limit})
    return layers


def storage_bits(report: Report) -> dict[str, int]:
    """Bits on the chip by purpose, as ``report`` has them, without purposes that take none."""
    return {printable(name): bits for name, bits in (report.get("storage_bits") or {}).items() if bits}


def metric_of(report: Report) -> Metric:
    """The metric of the errors in ``report``, or in the figures of a run."""
    return METRICS.get(str(report.get("metric")), METRICS["error"])


def main_figures(report: Report) -> list[tuple[str, str, str]]:
    """The figures of the whole network in ``report``: name, value and what it compares with (or an empty text)."""
    get, cycles = report.get, report.get("cycles_per_image") or {}
    metric = metric_of(report)
    errors = [show(get(f"test_error_{stage}"), metric.text, f"{stage} {{}}", "")
              for stage in ("dense", "pruned", "shared")]
    smaller = [show(ratio(get("dense_bytes"), get("onchip_bytes")), "{:.1f}".format, "{} times less", ""),
               show(get("dense_bytes"), kib_text, "dense float32 {}", "")]
    times_ideal = ratio(cycles.get("predicted"), cycles.get("ideal"))
    compared = [show(times_ideal, hundredths_text, "{} times the ideal", ""),
                show(cycles.get("ideal"), number_text, "ideal {}", ""),
                show(cycles.get("limit"), number_text, "limit {}", "")]
    figures = [
        ("weights kept", show(ratio(get("weights_kept"), get("weights_total")), share_text),
         [f"{show(get('weights_kept'), number_text)} of {show(get('weights_total'), number_text)}"]),
        (f"test {metric.title}", show(get("test_error_engine"), metric.text), errors),
        *_further_metrics(get("test_metrics") or {}),
        _beside_floats(get("check") or {}),
        ("on the chip", show(get("onchip_bytes"), kib_text), smaller),
        ("bits per weight kept", show(get("bits_per_weight"), hundredths_text),
         [show(get("bound_bits_per_weight"), hundredths_text, "bound of code and position {}", "")]),
        ("on disk (Huffman)", show(get("disk_bytes"), kib_text), [
            show(ratio(get("dense_bytes"), get("disk_bytes")), "{:.1f}".format, "{} times less than dense", "")]),
        ("memory image", show(get("image_bytes"), number_text, "{} bytes"), []),
        ("cycles per image", show(cycles.get("predicted"), number_text), compared),
    ]
    return [(name, value, ", ".join(filter(None, details)))
            for name, value, details in figures if value != ABSENT]


def _beside_floats(check: Report) -> tuple[str, str, list[str]]:
    """The comparison with floats, as `main_figures`."""
    error = show(check.get("relative_error"), share_text)
    inputs = show(check.get("inputs"), number_text, "{} inputs", "")
    if check.get("agreement") is None:
        return "relative error", error, [inputs]
    return "agreement", share_text(check["agreement"]), [f"relative error {error}", inputs]


def _further_metrics(found: dict[str, dict[str, float]]) -> list[tuple[str, str, list[str]]]:
    """R2 and area under the curve of the engine, as `main_figures`, beside those of the float networks."""
    return [(f"test {metric.title}", show((found.get("engine") or {}).get(name), metric.text),
             [show((found.get(stage) or {}).get(name), metric.text, f"{stage} {{}}", "")
              for stage in ("dense", "pruned", "shared")])
            for name, metric in ((name, METRICS[name]) for name in FURTHER)]


def rtl_figures(rtl: Report) -> list[tuple[str, str]]:
    """The figures of a run, the part ``rtl`` of a report: name and value."""
    cycles, latency, metric = rtl.get("cycles_per_image"), rtl.get("latency_ms") or {}, metric_of(rtl)

    def compared(name: str, key: str) -> tuple[str, str]:
        times = show(ratio(cycles, rtl.get(key)), hundredths_text, " (x {})", "")
        return name, show(rtl.get(key), tenths_text) + times
    figures = [
        ("images run", show(rtl.get("images"), number_text)),
        ("images that differ from golden, any layer", show(rtl.get("mismatches"), number_text)),
        ("images whose cycles differ from the prediction", show(rtl.get("cycle_mismatches"), number_text)),
        (f"test {metric.title} on these images", show(rtl.get("test_error"), metric.text)),
        *((f"test {METRICS[name].title} on these images",
           show((rtl.get("test_metrics") or {}).get(name), METRICS[name].text)) for name in FURTHER),
        ("cycles per image", show(cycles, tenths_text)),
        compared("predicted", "predicted_cycles_per_image"),
        compared("limit with broadcasts", "limit_cycles_per_image"),
        compared("ideal: useful MACs / PEs", "ideal_cycles_per_image"),
        ("seconds", show(rtl.get("seconds"), tenths_text)),
        ("latency, ms: median, 99 %, worst",
         ", ".join(hundredths_text(value) for value in latency.values()) or ABSENT),
        ("images a second", show(rtl.get("images_per_second"), tenths_text)),
        ("... the engine alone", show(rtl.get("engine_images_per_second"), number_text)),
        ("... the link's bits alone", show(rtl.get("link_images_per_second"), tenths_text)),
        ("bytes on the link per image", show(rtl.get("link_bytes_per_image"), number_text)),
        ("packets sent again", show(rtl.get("packets_repeated") or None, number_text)),
    ]
    return [(name, value) for name, value in figures if value != ABSENT]
