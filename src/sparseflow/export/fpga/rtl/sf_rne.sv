// Divides by a power of two, halves to even: y = p / 2^s.
module sf_rne #(
    parameter int WIDTH = 64,
    parameter int SHIFT = 6
) (
    input  logic signed [WIDTH-1:0] p,
    input  logic [SHIFT-1:0] s,
    output logic signed [WIDTH-1:0] y
);
  logic signed [WIDTH-1:0] whole;
  logic [WIDTH-1:0] rest, half;
  logic up;
  always_comb begin
    whole = p >>> s;
    rest  = p & ~({WIDTH{1'b1}} << s);
    half  = {{(WIDTH - 1) {1'b0}}, 1'b1} << s >> 1;
    up    = (s != 0) && ((rest > half) || (rest == half && whole[0]));
    y     = whole + $signed({{(WIDTH - 1) {1'b0}}, up});
  end
endmodule
