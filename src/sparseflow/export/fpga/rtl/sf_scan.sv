// The selective scan, one channel of one step a cycle, all STATES states of it at once.
//
//     a[n], delta = tables at p;   w = saturate((delta * x) / 2^t)
//     h[n] <- saturate((a[n] * h[n] + ((w * B[n]) << j)) / 2^15)
//     y = saturate((sum h[n] C[n] * M_h + D * x * M_D) / 2^s_y);   out = saturate(y * gate[z] * M_o / 2^s_o)
//
// Every division rounds halves to even. A step is one beat of {first, C, B}, then a beat of {z, D, x, p} for each channel;
// `first` makes the states before it 0. Tables lie at code + 128, a set of them for each layer. The constants `set_*` may
// change while no step is under way.
module sf_scan #(
    parameter int STATES = 16,
    parameter int CHANNELS = 128,  // most
    parameter int SETS = 4,        // layers whose tables are held
    parameter int CA = $clog2(CHANNELS),
    parameter int TA = 8 + $clog2(SETS)
) (
    input  logic clk,
    input  logic rst,
    // tables: {a[STATES-1..0] (15 fraction bits), delta (unsigned)}, 16 bits each; and gates
    input  logic t_we,
    input  logic [TA-1:0] t_addr,
    input  logic [16*STATES+15:0] t_data,
    input  logic g_we,
    input  logic [TA-1:0] g_addr,
    input  logic [7:0] g_data,
    // constants of a layer
    input  logic [TA-9:0] set_table,
    input  logic [CA-1:0] set_channels,  // less 1
    input  logic [3:0] set_t, set_j,
    input  logic signed [31:0] set_m_h, set_m_d, set_m_o,
    input  logic [5:0] set_s_y, set_s_o,
    input  logic [4:0] set_bits,  // of what comes out, see sf_clamp
    // steps and channels
    input  logic b_valid,
    output logic b_ready,
    input  logic [16*STATES:0] b_data,
    input  logic s_valid,
    output logic s_ready,
    input  logic [31:0] s_data,
    // out, and y before the gate
    output logic m_valid,
    input  logic m_ready,
    output logic m_last,
    output logic [7:0] m_data,
    output logic [15:0] m_y
);
  localparam int LAST = 14;
  localparam int SUM = 24 + $clog2(STATES);

  logic [16*STATES+15:0] tables[1 << TA];
  logic [7:0] gates[1 << TA];
  logic [16*STATES-1:0] states[CHANNELS];
  always_ff @(posedge clk) if (t_we) tables[t_addr] <= t_data;
  always_ff @(posedge clk) if (g_we) gates[g_addr] <= g_data;

  // B, C and `first` of two steps: of the one whose channels come in, and of the next.
  logic [16*STATES:0] steps[2];
  logic [1:0] loaded;
  logic write_step, read_step;

  // Issue: a channel a cycle. With few channels a step waits until the states before it are written.
  logic en, fire, ended, written;
  logic [CA-1:0] channel;
  logic [LAST:1] valid, last;
  logic [5:1] step;
  logic [CA-1:0] at[1:4];
  assign en = !m_valid || m_ready;
  assign written = set_channels > 3 || channel != 0 || valid[4:1] == 0;
  assign s_ready = en && loaded[read_step] && written;
  assign fire = s_valid && s_ready;
  assign ended = channel == set_channels;
  assign b_ready = !loaded[write_step];

  always_ff @(posedge clk) if (b_valid && b_ready) steps[write_step] <= b_data;
  always_ff @(posedge clk)
    if (rst) begin
      loaded <= '0;
      write_step <= 1'b0;
      read_step <= 1'b0;
      channel <= '0;
      valid <= '0;
    end else begin
      if (en && valid[5] && last[5]) loaded[step[5]] <= 1'b0;
      if (b_valid && b_ready) begin
        loaded[write_step] <= 1'b1;
        write_step <= !write_step;
      end
      if (en) valid <= {valid[LAST-1:1], fire};
      if (fire) begin
        channel <= ended ? '0 : channel + 1'b1;
        if (ended) read_step <= !read_step;
      end
    end

  logic [TA-1:0] index_p, index_z;
  assign index_p = {set_table, s_data[7:0] + 8'd128};
  assign index_z = {set_table, s_data[31:24] + 8'd128};

  // What all states share.
  logic first_1;
  logic [16*STATES-1:0] h_1;
  logic [16*STATES+15:0] table_1;
  logic signed [7:0] x_1, d_1, g[1:10];
  logic signed [24:0] dx_2;
  logic signed [31:0] scaled;
  logic signed [15:0] skip[2:7];
  logic signed [15:0] w_3;
  logic signed [26:0] w_clamped, y_clamped, out_y;
  logic [16*STATES:0] step_3, step_5;
  logic signed [SUM-1:0] sum, sum_7;
  logic signed [63:0] y_h_8, y_d_8, y_9, y_rounded;
  logic signed [15:0] y[10:LAST];
  logic signed [31:0] gated_11;

  assign step_3 = steps[step[3]];
  assign step_5 = steps[step[5]];
  sf_rne #(.WIDTH(32), .SHIFT(4)) rne_w (.p(32'(dx_2)), .s(set_t), .y(scaled));
  sf_clamp #(.WIDTH(32)) clamp_w (.p(scaled), .bits(5'd15), .y(w_clamped));
  sf_rne #(.WIDTH(64), .SHIFT(6)) rne_y (.p(y_9), .s(set_s_y), .y(y_rounded));
  sf_clamp #(.WIDTH(64)) clamp_y (.p(y_rounded), .bits(5'd15), .y(y_clamped));
  sf_requant requant (
      .clk(clk), .en(en), .sum(gated_11), .multiplier(set_m_o), .shift(set_s_o), .bits(set_bits), .y(out_y)
  );

  always_ff @(posedge clk)
    if (en) begin
      last <= {last[LAST-1:1], ended};
      step <= {step[4:1], read_step};
      at[1] <= channel;
      for (int k = 2; k <= 4; k++) at[k] <= at[k-1];
      first_1 <= steps[read_step][16*STATES];
      h_1 <= states[channel];
      table_1 <= tables[index_p];
      x_1 <= s_data[15:8];
      d_1 <= s_data[23:16];
      g[1] <= gates[index_z];
      for (int k = 2; k <= 10; k++) g[k] <= g[k-1];
      dx_2 <= $signed({1'b0, table_1[15:0]}) * x_1;
      skip[2] <= x_1 * d_1;
      for (int k = 3; k <= 7; k++) skip[k] <= skip[k-1];
      w_3 <= w_clamped[15:0];
      sum_7 <= sum;
      y_h_8 <= 64'(sum_7) * 64'(set_m_h);
      y_d_8 <= 64'(skip[7]) * 64'(set_m_d);
      y_9 <= y_h_8 + y_d_8;
      y[10] <= y_clamped[15:0];
      for (int k = 11; k <= LAST; k++) y[k] <= y[k-1];
      gated_11 <= 32'(y[10]) * 32'(g[10]);
    end

  // The states.
  logic [16*STATES-1:0] h_next;
  logic signed [23:0] read_6[STATES];
  genvar n;
  generate
    for (n = 0; n < STATES; n++) begin : state
      logic signed [15:0] h, h_5;
      logic signed [31:0] kept_2, kept_3, kept_4, input_4, rounded;
      logic signed [26:0] clamped;
      assign h = first_1 ? 16'sd0 : $signed(h_1[16*n+:16]);
      sf_rne #(.WIDTH(32), .SHIFT(4)) rne (.p(kept_4 + input_4), .s(4'd15), .y(rounded));
      sf_clamp #(.WIDTH(32)) clamp (.p(rounded), .bits(5'd15), .y(clamped));
      assign h_next[16*n+:16] = clamped[15:0];
      always_ff @(posedge clk)
        if (en) begin
          kept_2 <= $signed({1'b0, table_1[16*n+16+:15]}) * h;
          kept_3 <= kept_2;
          kept_4 <= kept_3;
          input_4 <= 32'(w_3 * $signed(step_3[8*n+:8])) <<< set_j;
          h_5 <= clamped[15:0];
          read_6[n] <= h_5 * $signed(step_5[8*STATES+8*n+:8]);
        end
    end
  endgenerate
  always_ff @(posedge clk) if (en && valid[4]) states[at[4]] <= h_next;

  always_comb begin
    sum = '0;
    for (int k = 0; k < STATES; k++) sum = sum + {{(SUM - 24) {read_6[k][23]}}, read_6[k]};
  end

  assign m_valid = valid[LAST];
  assign m_last = last[LAST];
  assign m_data = out_y[7:0];
  assign m_y = y[LAST];
endmodule
