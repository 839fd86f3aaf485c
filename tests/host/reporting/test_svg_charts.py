# SPDX-License-Identifier: Apache-2.0
"""Charts as SVG."""

import pytest

from host.reporting.svg_charts import xy_chart


def test_a_chart_has_its_points_to_scale():
    chart = xy_chart("a", "x", "y", [("<one>", [(1, 0), (10, 2), (100, 9)]), ("two", [(100, -1)])], logarithmic=True,
                     highest=5)
    assert chart.count("<circle") == 3 and "&lt;one&gt;: 10, 2" in chart and "<one>" not in chart
    at = [float(part.split('"')[0]) for part in chart.split('<circle cx="')[1:]]
    assert at[1] - at[0] == pytest.approx(at[2] - at[1])
    assert xy_chart("a", "x", "y", [("one", [])]) == ""
