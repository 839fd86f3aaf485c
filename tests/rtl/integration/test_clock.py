# SPDX-License-Identifier: Apache-2.0
"""The dividers of each family's PLL."""


import pytest

from rtl.integration.clock import ecp5_dividers, gowin_dividers, ice40_dividers, xilinx_dividers


@pytest.mark.parametrize("output", [50, 80, 100, 62.5])
def test_ecp5_dividers_give_the_clock(output):
    input_divider, feedback, output_divider = ecp5_dividers(25, output)
    assert 25 * feedback / input_divider == output
    assert 400 <= output * output_divider <= 800


@pytest.mark.parametrize("output", [24, 27, 30, 48])
def test_ice40_dividers_give_the_clock(output):
    divr, divf, divq = ice40_dividers(12, output)
    vco = 12 / (divr + 1) * (divf + 1)
    assert vco / 2**divq == output
    assert 533 <= vco <= 1066 and 12 / (divr + 1) >= 10 and divf <= 127


@pytest.mark.parametrize("output", [54, 81, 108])
def test_gowin_dividers_give_the_clock(output):
    input_divider, feedback, oscillator_divider = gowin_dividers(27, output)
    assert 27 * feedback / input_divider == output
    assert 500 <= output * oscillator_divider <= 1250


@pytest.mark.parametrize("output", [80, 100, 120])
def test_xilinx_dividers_give_the_clock(output):
    input_divider, multiplier, output_divider = xilinx_dividers(100, output)
    assert 100 * multiplier / input_divider / output_divider == output
    assert 800 <= 100 * multiplier / input_divider <= 1600


@pytest.mark.parametrize("dividers", [ecp5_dividers, ice40_dividers, gowin_dividers, xilinx_dividers])
def test_clocks_that_no_pll_makes_are_refused(dividers):
    with pytest.raises(ValueError, match=r"from 25 MHz, not 81\.37 MHz"):
        dividers(25, 81.37)
