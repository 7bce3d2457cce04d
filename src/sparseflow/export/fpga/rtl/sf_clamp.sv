// Saturates to +-(2^(bits-1) - 1): kind 0 is 8 bits, 1 is 16, 2 is 27 (a forecast with 20 fraction bits).
module sf_clamp #(
    parameter int WIDTH = 64
) (
    input  logic signed [WIDTH-1:0] p,
    input  logic [1:0] kind,
    output logic signed [26:0] y
);
  logic signed [26:0] high;
  logic signed [WIDTH-1:0] most;
  always_comb begin
    case (kind)
      2'd0: high = 27'sd127;
      2'd1: high = 27'sd32767;
      default: high = 27'sd67108863;
    endcase
    most = {{(WIDTH - 27) {high[26]}}, high};
    if (p > most) y = high;
    else if (p < -most) y = -high;
    else y = p[26:0];
  end
endmodule
