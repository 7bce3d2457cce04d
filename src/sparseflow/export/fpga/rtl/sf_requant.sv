// One lane of requantisation, three cycles: y = saturate(round(sum * multiplier / 2^shift)), halves to even.
module sf_requant (
    input  logic clk,
    input  logic en,
    input  logic signed [31:0] sum,
    input  logic signed [31:0] multiplier,
    input  logic [5:0] shift,
    input  logic [4:0] bits,
    output logic signed [26:0] y
);
  logic signed [63:0] product, rounded, rounded_q;
  logic [5:0] shift_1;
  logic [4:0] bits_1, bits_2;
  logic signed [26:0] clamped;

  sf_rne #(.WIDTH(64), .SHIFT(6)) rne (.p(product), .s(shift_1), .y(rounded));
  sf_clamp #(.WIDTH(64)) clamp (.p(rounded_q), .bits(bits_2), .y(clamped));

  always_ff @(posedge clk)
    if (en) begin
      product   <= 64'(sum) * 64'(multiplier);
      shift_1   <= shift;
      bits_1    <= bits;
      rounded_q <= rounded;
      bits_2    <= bits_1;
      y         <= clamped;
    end
endmodule
