// SPDX-License-Identifier: Apache-2.0
// A board's top level as its synthesis gets it, with the FPGA's primitives around it. OSCILLATOR is the name of the
// oscillator's pin, LOADED, BUSY and ERROR are those of the LEDs.
module board (
    input clk,
    input rx,
    output tx,
    output loaded, busy, error
);
    wire rx_pin = rx;   // a pin may go both ways
    top top (
        .`OSCILLATOR(clk), .uart_0__rx__io(rx_pin), .uart_0__tx__io(tx),
        .`LOADED(loaded), .`BUSY(busy), .`ERROR(error));
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

// A GW2A's pins.
module IBUF (input I, output O);
    assign O = I;
endmodule

module TBUF (input I, OEN, output O);
    assign O = I && !OEN;
endmodule

// Its PLL.
module rPLL #(
    parameter FCLKIN = "", parameter DEVICE = "", parameter IDIV_SEL = 0, parameter FBDIV_SEL = 0,
    parameter ODIV_SEL = 0, parameter DYN_IDIV_SEL = "", parameter DYN_FBDIV_SEL = "", parameter DYN_ODIV_SEL = "",
    parameter DYN_DA_EN = "", parameter PSDA_SEL = "", parameter DUTYDA_SEL = "", parameter CLKFB_SEL = "",
    parameter CLKOUT_BYPASS = "", parameter CLKOUTP_BYPASS = "", parameter CLKOUTD_BYPASS = "",
    parameter DYN_SDIV_SEL = 0, parameter CLKOUTD_SRC = "", parameter CLKOUTD3_SRC = "", parameter CLKOUT_FT_DIR = 0,
    parameter CLKOUTP_FT_DIR = 0, parameter CLKOUT_DLY_STEP = 0, parameter CLKOUTP_DLY_STEP = 0
) (
    input CLKIN, CLKFB, RESET, RESET_P,
    input [5:0] FBDSEL, IDSEL, ODSEL,
    input [3:0] PSDA, DUTYDA, FDLY,
    output CLKOUT, LOCK
);
    reg [3:0] cycles;
    initial cycles = 0;
    always @(posedge CLKIN) if (!LOCK) cycles <= cycles + 1;
    assign CLKOUT = CLKIN;
    assign LOCK = &cycles;
endmodule

// A 7-series FPGA's pins beside IBUF, its PLL and its clock net.
module OBUFT (input I, T, output O);
    assign O = I && !T;
endmodule

module PLLE2_BASE #(
    parameter real CLKIN1_PERIOD = 0, parameter DIVCLK_DIVIDE = 1, parameter CLKFBOUT_MULT = 1,
    parameter CLKOUT0_DIVIDE = 1
) (
    input CLKIN1, CLKFBIN, RST, PWRDWN,
    output CLKFBOUT, CLKOUT0, LOCKED
);
    reg [3:0] cycles;
    initial cycles = 0;
    always @(posedge CLKIN1) if (!LOCKED) cycles <= cycles + 1;
    assign CLKOUT0 = CLKIN1;
    assign CLKFBOUT = CLKIN1;
    assign LOCKED = &cycles;
endmodule

module BUFG (input I, output O);
    assign O = I;
endmodule

// A flip-flop that is set at once.
module FDPE #(parameter INIT = 1) (input C, CE, D, PRE, output reg Q);
    always @(posedge C or posedge PRE)
        if (PRE) Q <= 1;
        else if (CE) Q <= D;
endmodule
