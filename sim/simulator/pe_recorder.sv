// SPDX-License-Identifier: Apache-2.0
// Records what the PEs of an engine do during inferences, summed over bins of +bin_cycles cycles; a bin also ends with
// its pass. Bound into the engine by sim/simulator/link.py.
//
// A line for each bin, numbers with spaces between them: pass, cycles, beats, broadcasts, cycles in which the scan was
// stopped, cycles of drain; then for each PE the cycles in each state, dropped slices, and of the level of its queue sum
// and maximum. An empty line ends an inference. In each cycle a PE is in the first of these states that holds:
//   0 multiplies        1 held: its walker waits for a drain or for tables
//   2 walks: it has slices or entries under way, but no multiplication comes of it
//   3 stalled: it has nothing to do, and the scan is stopped because some PE's queue is full
//   4 waits: it has nothing to do, and the scan goes on      5 ended: likewise, and the scan is over
module pe_recorder #(parameter pes = 2, parameter level_bits = 5) (
    input clk, running, start, beat, broadcast, stalled, drain, scanned,
    input [pes-1:0] useful, held, walks, dropped,
    input [pes*level_bits-1:0] level
);
    localparam states = 6;
    integer file, bin_cycles, pe, state, pass = 0, cycles = 0, beats, broadcasts, stalls, drains, now;
    integer spent [0:pes*states-1];
    integer drops [0:pes-1], sums [0:pes-1], tops [0:pes-1];
    reg ran = 0;

    initial begin
        if (!$value$plusargs("bin_cycles=%d", bin_cycles)) bin_cycles = 1;
        file = $fopen("pes.txt", "w");
    end

    task flush;
        $fwrite(file, "%0d %0d %0d %0d %0d %0d", pass, cycles, beats, broadcasts, stalls, drains);
        for (pe = 0; pe < pes; pe = pe + 1) begin
            for (state = 0; state < states; state = state + 1) $fwrite(file, " %0d", spent[pe*states + state]);
            $fwrite(file, " %0d %0d %0d", drops[pe], sums[pe], tops[pe]);
        end
        $fwrite(file, "\n");
        cycles = 0;
    endtask

    // Everything is read as it was before the edge, and only this block writes what it keeps.
    always @(posedge clk) begin
        if (running) begin
            if (cycles == 0) begin
                beats = 0; broadcasts = 0; stalls = 0; drains = 0;
                for (pe = 0; pe < pes * states; pe = pe + 1) spent[pe] = 0;
                for (pe = 0; pe < pes; pe = pe + 1) begin drops[pe] = 0; sums[pe] = 0; tops[pe] = 0; end
            end
            cycles = cycles + 1;
            beats = beats + beat;
            broadcasts = broadcasts + broadcast;
            stalls = stalls + stalled;
            drains = drains + drain;
            for (pe = 0; pe < pes; pe = pe + 1) begin
                state = useful[pe] ? 0 : held[pe] ? 1 : walks[pe] ? 2 : stalled ? 3 : scanned ? 5 : 4;
                spent[pe*states + state] = spent[pe*states + state] + 1;
                drops[pe] = drops[pe] + dropped[pe];
                now = level[pe*level_bits +: level_bits];
                sums[pe] = sums[pe] + now;
                if (now > tops[pe]) tops[pe] = now;
            end
            if (cycles == bin_cycles || start) flush;
            if (start) pass = pass + 1;
        end else if (ran) begin
            if (cycles != 0) flush;
            $fwrite(file, "\n");
            pass = 0;
        end
        ran = running;
    end
    final $fclose(file);
endmodule
