// SPDX-License-Identifier: Apache-2.0
// A whole packet at a time between Python and the engine's byte link, since a Python step for each byte would take
// longer than the simulation. The engine's module must be called "engine".
//
// To exchange: set request and request_bytes, then invert start. When done has become equal to start, response holds
// response_bytes bytes, truncated to its size. Byte 0 is in the lowest bits of block 0;
// blocks spare Python the time to convert what is not used. What Python sees is no port but marked: Verilator copies
// ports in each cycle.
module link_port #(
    parameter blocks = 8,
    parameter block_bytes = 256     // a power of two
) (
    input clk /*verilator public_flat_rw*/,
    input rst /*verilator public_flat_rw*/
);
    reg [8 * block_bytes - 1:0] request [0:blocks - 1] /*verilator public_flat_rw*/;
    reg [31:0] request_bytes /*verilator public_flat_rw*/;
    reg start /*verilator public_flat_rw*/;
    reg [8 * block_bytes - 1:0] response [0:blocks - 1] /*verilator public_flat_rd*/;
    reg [31:0] response_bytes /*verilator public_flat_rd*/;
    reg done /*verilator public_flat_rd*/;
    reg [63:0] cycles /*verilator public_flat_rd*/;             // since the simulation began
    reg [31:0] patience_cycles /*verilator public_flat_rw*/;    // give up when so long no byte passed
    reg [7:0] rx_idle /*verilator public_flat_rw*/;     // probability in 1/256 of offering no byte in a cycle
    reg [7:0] tx_stall /*verilator public_flat_rw*/;    // probability in 1/256 of taking no byte in a cycle
    reg [31:0] seed /*verilator public_flat_rw*/;       // of the probabilities, not 0

    // A cycle later, from a register: what depends on an input is evaluated twice in a cycle.
    reg reset;
    always @(posedge clk) reset <= rst;

    wire rx_ready, tx_valid, busy;
    wire [7:0] tx_payload;
    reg rx_valid, tx_ready;
    reg [7:0] rx_payload;
    reg [31:0] place, noise, waited;
    reg active;

    wire rx_passes = rx_valid && rx_ready;
    wire tx_passes = tx_valid && tx_ready;
    wire complete = place == request_bytes && !rx_valid && !tx_valid && !busy;
    wire ends = active && (complete || (waited >= patience_cycles && !rx_passes && !tx_passes));

    engine engine (
        .clk(clk), .rst(reset), .busy(busy),
        .rx__payload(rx_payload), .rx__valid(rx_valid), .rx__ready(rx_ready),
        .tx__payload(tx_payload), .tx__valid(tx_valid), .tx__ready(tx_ready)
    );

    function automatic [31:0] scrambled(input [31:0] bits);
        // Marsaglia, "Xorshift RNGs", 2003
        bits = bits ^ (bits << 13);
        bits = bits ^ (bits >> 17);
        scrambled = bits ^ (bits << 5);
    endfunction

    always @(posedge clk) begin
        cycles <= cycles + 1;
        noise <= scrambled(noise);
        waited <= rx_passes || tx_passes ? 0 : waited + 1;

        if (rx_passes || !rx_valid) begin
            rx_valid <= 0;
            if (active && !ends && place != request_bytes && noise[7:0] >= rx_idle) begin
                rx_valid <= 1;
                rx_payload <= request[place / block_bytes][8 * (place % block_bytes) +: 8];
                place <= place + 1;
            end
        end

        tx_ready <= active && !ends && noise[15:8] >= tx_stall;
        if (tx_passes) begin
            if (response_bytes < blocks * block_bytes)
                response[response_bytes / block_bytes][8 * (response_bytes % block_bytes) +: 8] <= tx_payload;
            response_bytes <= response_bytes + 1;
        end

        if (ends) begin
            active <= 0;
            done <= start;
        end
        if (!active && start != done) begin
            active <= 1;
            place <= 0;
            waited <= 0;
            response_bytes <= 0;
        end
        if (reset) begin
            active <= 0;
            done <= start;
            rx_valid <= 0;
            tx_ready <= 0;
            noise <= seed;
            response_bytes <= 0;
        end
    end

    initial cycles = 0;
endmodule
