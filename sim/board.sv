// SPDX-License-Identifier: Apache-2.0
// A board's top level as its synthesis gets it, with the FPGA's primitives around it. OSCILLATOR is the name of the
// oscillator's pin.
module board (
    input clk,
    input rx,
    output tx,
    output led
);
    wire rx_pin = rx;   // a pin may go both ways
    top top (.`OSCILLATOR(clk), .uart_0__rx__io(rx_pin), .uart_0__tx__io(tx), .led_0__io(led));
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

// The same for an iCE40.
module SB_PLL40_PAD #(
    parameter DIVR = 0, parameter DIVF = 0, parameter DIVQ = 0, parameter FILTER_RANGE = 0, parameter FEEDBACK_PATH = ""
) (
    input PACKAGEPIN, RESETB, BYPASS,
    output PLLOUTGLOBAL, LOCK
);
    reg [3:0] cycles;
    initial cycles = 0;
    always @(posedge PACKAGEPIN) if (!LOCK) cycles <= cycles + 1;
    assign PLLOUTGLOBAL = PACKAGEPIN;
    assign LOCK = &cycles;
endmodule

// Input or output pin.
module SB_IO #(
    parameter [5:0] PIN_TYPE = 0, parameter IO_STANDARD = "", parameter PULLUP = 0
) (
    inout PACKAGE_PIN,
    input D_OUT_0, OUTPUT_ENABLE,
    output D_IN_0
);
    assign D_IN_0 = PACKAGE_PIN;
    generate
        if (PIN_TYPE[5:2] != 0) assign PACKAGE_PIN = OUTPUT_ENABLE ? D_OUT_0 : 1'bz;
    endgenerate
endmodule
