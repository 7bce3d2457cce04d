// Saturates to +-(2^bits - 1): 7 for int8, 15 for int16, 26 for a forecast with 20 fraction bits.
module sf_clamp #(
    parameter int WIDTH = 64
) (
    input  logic signed [WIDTH-1:0] p,
    input  logic [4:0] bits,
    output logic signed [26:0] y
);
  logic [26:0] high;
  logic signed [WIDTH-1:0] most;
  always_comb begin
    high = ~({27{1'b1}} << bits);
    most = $signed({{(WIDTH - 27) {1'b0}}, high});
    if (p > most) y = $signed(high);
    else if (p < -most) y = -$signed(high);
    else y = p[26:0];
  end
endmodule
