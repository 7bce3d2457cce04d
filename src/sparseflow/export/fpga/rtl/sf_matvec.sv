// INT8 matrix times vector, ROWS x COLS products a cycle, with requantised outputs.
//
// A command names a matrix that lies in the weight memory as tiles of ROWS outputs by COLS inputs, row blocks one after
// the other. The first row block takes the input from its stream, later ones from a copy, so no cycle goes to loading.
// A word of the weight memory holds a tile, byte [r * COLS + c]; a word of the parameter memory holds LANES channels of
// {shift[7:0], multiplier[31:0], bias[31:0]}. Handshakes: a beat moves where valid and ready are both high.
module sf_matvec #(
    parameter int ROWS = 8,
    parameter int COLS = 8,
    parameter int LANES = 4,
    parameter int W_DEPTH = 8192,
    parameter int P_DEPTH = 1024,
    parameter int X_DEPTH = 256,
    parameter int WA = $clog2(W_DEPTH),
    parameter int PA = $clog2(P_DEPTH),
    parameter int XA = $clog2(X_DEPTH)
) (
    input  logic clk,
    input  logic rst,
    // memories
    input  logic w_we,
    input  logic [WA-1:0] w_addr,
    input  logic [8*ROWS*COLS-1:0] w_data,
    input  logic p_we,
    input  logic [PA-1:0] p_addr,
    input  logic [72*LANES-1:0] p_data,
    // commands
    input  logic cmd_valid,
    output logic cmd_ready,
    input  logic [WA-1:0] cmd_w,       // first tile
    input  logic [PA-1:0] cmd_p,       // first word of parameters
    input  logic [XA-1:0] cmd_tiles,   // tiles across, less 1
    input  logic [WA-1:0] cmd_blocks,  // row blocks, less 1
    input  logic [4:0] cmd_bits,       // of the outputs, see sf_clamp
    // input vector, COLS codes a beat
    input  logic s_valid,
    output logic s_ready,
    input  logic [8*COLS-1:0] s_data,
    // output vector, LANES numbers a beat
    output logic m_valid,
    input  logic m_ready,
    output logic m_last,
    output logic [4:0] m_bits,
    output logic [32*LANES-1:0] m_data
);
  localparam int BEATS = ROWS / LANES;
  localparam int BA = BEATS > 1 ? $clog2(BEATS) : 1;
  localparam int SUM = 16 + $clog2(COLS);
  localparam logic [BA-1:0] FINAL = BEATS[BA-1:0] - 1'b1;

  logic [8*ROWS*COLS-1:0] weights[W_DEPTH];
  logic [72*LANES-1:0] parameters[P_DEPTH];
  logic [8*COLS-1:0] inputs[X_DEPTH];

  always_ff @(posedge clk) if (w_we) weights[w_addr] <= w_data;
  always_ff @(posedge clk) if (p_we) parameters[p_addr] <= p_data;

  // Issue: one tile a cycle.
  logic busy, go, fire, fresh, end_row, end_all;
  logic [4:0] bits;
  logic [WA-1:0] tile_at, blocks_left;
  logic [PA-1:0] block_p;
  logic [XA-1:0] tile, tiles;

  assign end_row = tile == tiles;
  assign end_all = end_row && blocks_left == 0;
  assign fire = go && busy && (s_valid || !fresh);
  assign s_ready = go && busy && fresh;
  assign cmd_ready = !busy || (fire && end_all);

  always_ff @(posedge clk)
    if (rst) busy <= 1'b0;
    else if (cmd_ready) begin
      busy <= cmd_valid;
      tile_at <= cmd_w;
      block_p <= cmd_p;
      tiles <= cmd_tiles;
      blocks_left <= cmd_blocks;
      bits <= cmd_bits;
      tile <= '0;
      fresh <= 1'b1;
    end else if (fire) begin
      tile_at <= tile_at + 1'b1;
      tile <= end_row ? '0 : tile + 1'b1;
      if (end_row) begin
        fresh <= 1'b0;
        blocks_left <= blocks_left - 1'b1;
        block_p <= block_p + BEATS[PA-1:0];
      end
    end

  // Operands, products, sums of rows, accumulators.
  logic [8*ROWS*COLS-1:0] w_q;
  logic [8*COLS-1:0] x_q;
  logic signed [15:0] products[ROWS*COLS];
  logic signed [SUM-1:0] sums[ROWS], sums_q[ROWS];
  logic signed [31:0] acc[ROWS], hold[ROWS];
  logic [3:1] valid, first, last, final_;
  logic [4:0] bits_1, bits_2, bits_3, hold_bits;
  logic [PA-1:0] p_1, p_2, p_3;
  logic taken, hold_valid, hold_final;
  logic [PA-1:0] hold_p;

  assign go = !(valid[3] && last[3]) || !hold_valid || taken;

  always_ff @(posedge clk)
    if (rst) valid <= '0;
    else if (go) valid <= {valid[2:1], fire};

  always_ff @(posedge clk)
    if (go) begin
      first <= {first[2:1], tile == 0};
      last <= {last[2:1], end_row};
      final_ <= {final_[2:1], end_all};
      bits_1 <= bits;
      bits_2 <= bits_1;
      bits_3 <= bits_2;
      p_1 <= block_p;
      p_2 <= p_1;
      p_3 <= p_2;
      w_q <= weights[tile_at];
      x_q <= fresh ? s_data : inputs[tile];
    end

  always_ff @(posedge clk) if (fire && fresh) inputs[tile] <= s_data;

  always_comb
    for (int r = 0; r < ROWS; r++) begin
      sums[r] = '0;
      for (int c = 0; c < COLS; c++) sums[r] = sums[r] + {{(SUM - 16) {products[r*COLS+c][15]}}, products[r*COLS+c]};
    end

  always_ff @(posedge clk)
    if (go)
      for (int r = 0; r < ROWS; r++) begin
        for (int c = 0; c < COLS; c++)
          products[r*COLS+c] <= $signed(w_q[8*(r*COLS+c)+:8]) * $signed(x_q[8*c+:8]);
        sums_q[r] <= sums[r];
        if (valid[3]) begin
          acc[r] <= (first[3] ? 32'sd0 : acc[r]) + 32'(sums_q[r]);
          if (last[3]) hold[r] <= (first[3] ? 32'sd0 : acc[r]) + 32'(sums_q[r]);
        end
      end

  // A finished row block waits in `hold` and leaves in BEATS beats.
  logic en;
  logic [BA-1:0] beat;
  assign en = !m_valid || m_ready;
  assign taken = en && hold_valid && beat == FINAL;

  always_ff @(posedge clk)
    if (rst) begin
      hold_valid <= 1'b0;
      beat <= '0;
    end else begin
      if (en && hold_valid) beat <= taken ? '0 : beat + 1'b1;
      if (go && valid[3] && last[3]) hold_valid <= 1'b1;
      else if (taken) hold_valid <= 1'b0;
    end

  always_ff @(posedge clk)
    if (go && valid[3] && last[3]) begin
      hold_p <= p_3;
      hold_bits <= bits_3;
      hold_final <= final_[3];
    end

  // Bias, then requantisation.
  logic [72*LANES-1:0] p_q;
  logic [37:0] scale_q[LANES];
  logic signed [31:0] a_q[LANES], sum_q[LANES];
  logic [5:1] out_valid, out_last;
  logic [4:0] out_bits[1:5];

  always_ff @(posedge clk)
    if (rst) out_valid <= '0;
    else if (en) out_valid <= {out_valid[4:1], hold_valid};

  always_ff @(posedge clk)
    if (en) begin
      out_last <= {out_last[4:1], hold_final && beat == FINAL};
      out_bits[1] <= hold_bits;
      for (int k = 2; k <= 5; k++) out_bits[k] <= out_bits[k-1];
      p_q <= parameters[hold_p+{{(PA - BA) {1'b0}}, beat}];
      for (int i = 0; i < LANES; i++) begin
        a_q[i] <= hold[32'(beat)*LANES+i];
        sum_q[i] <= a_q[i] + $signed(p_q[72*i+:32]);
        scale_q[i] <= {p_q[72*i+64+:6], p_q[72*i+32+:32]};
      end
    end

  genvar i;
  generate
    for (i = 0; i < LANES; i++) begin : lane
      logic signed [26:0] y;
      sf_requant requant (
          .clk(clk), .en(en), .sum(sum_q[i]), .multiplier(scale_q[i][31:0]), .shift(scale_q[i][37:32]),
          .bits(out_bits[2]), .y(y)
      );
      assign m_data[32*i+:32] = 32'(y);
    end
  endgenerate
  assign m_valid = out_valid[5];
  assign m_last = out_last[5];
  assign m_bits = out_bits[5];
endmodule
