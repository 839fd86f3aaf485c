// SPDX-License-Identifier: Apache-2.0
// Notes what is written to the engine's activation memory, in order: lines of cycle (0: no inference runs), address and
// word, the latter two in hexadecimal.
module act_recorder (input clk);
    integer file, cycle = 0;
    initial file = $fopen("acts.txt", "w");
    always @(posedge clk) begin
        cycle <= engine.running ? cycle + 1 : 0;
        if (engine.acts.write__enable)
            $fwrite(file, "%0d %h %h\n", cycle, engine.acts.write__address, engine.acts.write__word);
    end
    final $fclose(file);
endmodule

bind engine act_recorder recorder (.clk(clk));
