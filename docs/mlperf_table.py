# SPDX-License-Identifier: Apache-2.0
"""The table of MLPerf Tiny's networks in ``docs/results.md``."""

from figure_tables import ABSENT, SOURCES, Figures, command_block, count, markdown_table, percent

__all__ = ["mlperf_tiny"]


def mlperf_tiny() -> str:
    sources = ("mlperf-kws", "mlperf-ic", "mlperf-vww", "mlperf-ad")

    def cells(row: Figures) -> list[str]:
        def of(form: str, name: str) -> str:
            value = (row[form] or {}).get(name)
            return "" if value is None else percent(100 * value)
        rtl = row["rtl"]
        return [row["name"], count(row["weights_kept"]), of("float", "accuracy"), of("engine", "accuracy"),
                of("official_int8", "accuracy"), of("engine", "agreement"), of("engine", "agreement_near"),
                of("engine", "relative_error"), of("official_int8", "relative_error"), count(row["cycles"]),
                f"{rtl['inputs']}; {rtl['outputs_differ']}; {rtl['counters_differ']}" if rtl else ""]
    header = ["network", "weights", "accuracy, float", "engine", "int8 file", "agreement with float", "near", "error",
              "error, int8 file", "cycles, 16 PEs", "in RTL; outputs differ; counters differ", "from"]
    rows = []
    for source in sources:
        found = SOURCES[source].read()
        rows += [[*cells(row), source] for row in found["rows"]] if found else \
            [[source, ABSENT, *[""] * (len(header) - 3), source]]
    return f"{markdown_table(header, rows)}\n\n{command_block(sources)}"
