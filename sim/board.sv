// SPDX-License-Identifier: Apache-2.0
// A board's top level as its synthesis gets it, with the FPGA's primitives around it. OSCILLATOR is the name of the
// oscillator's pin.
module board (
    input clk,
    input rx,
    output tx,
    output led
);
    top top (.`OSCILLATOR(clk), .uart_0__rx__io(rx), .uart_0__tx__io(tx), .led_0__io(led));
endmodule

// Input pin.
module IB (input I, output O);
    assign O = I;
endmodule

// Output pin; nothing here ever lets it float.
module OBZ (input I, input T, output O);
    assign O = I && !T;
endmodule

// A PLL whose frequency is its input's, since only cycles count. It locks after some of them.
module EHXPLLL #(
    parameter CLKI_DIV = 1, parameter CLKFB_DIV = 1, parameter CLKOP_DIV = 1, parameter CLKOP_CPHASE = 0,
    parameter CLKOP_ENABLE = "", parameter FEEDBK_PATH = "", parameter PLLRST_ENA = "", parameter INTFB_WAKE = "",
    parameter STDBY_ENABLE = "", parameter DPHASE_SOURCE = ""
) (
    input CLKI, CLKFB, RST, STDBY, ENCLKOP, PLLWAKESYNC, PHASESEL0, PHASESEL1, PHASEDIR, PHASESTEP, PHASELOADREG,
    output CLKOP, LOCK
);
    reg [3:0] cycles;
    initial cycles = 0;
    always @(posedge CLKI) if (!LOCK) cycles <= cycles + 1;
    assign CLKOP = CLKI;
    assign LOCK = &cycles;
endmodule
