// One step of an exponential average whose rates depend on the data (SIZE channels):
//     rate = sigmoid(W u + b),   state <- rate * state + (1 - rate) * u
// The matrix goes through sf_matvec, whose 8-bit outputs pick a rate of 15 fraction bits from a table. States are 16 bits;
// u counts 2^U_SHIFT of them. state' = saturate((rate * state + (32768 - rate) * (u << U_SHIFT)) / 2^15), halves to even.
// Inputs of the next step are taken while this one ends, so they lie in two banks; SIZE >= 64 keeps these apart.
module sf_slim_step #(
    parameter int SIZE = 256,
    parameter int ROWS = 8,
    parameter int COLS = 8,
    parameter int LANES = 4,
    parameter int U_SHIFT = 7,
    parameter int W_DEPTH = SIZE * SIZE / (ROWS * COLS),
    parameter int P_DEPTH = SIZE / LANES,
    parameter int WA = $clog2(W_DEPTH),
    parameter int PA = $clog2(P_DEPTH)
) (
    input  logic clk,
    input  logic rst,
    input  logic w_we,
    input  logic [WA-1:0] w_addr,
    input  logic [8*ROWS*COLS-1:0] w_data,
    input  logic p_we,
    input  logic [PA-1:0] p_addr,
    input  logic [72*LANES-1:0] p_data,
    input  logic t_we,  // table of rates, at code + 128
    input  logic [7:0] t_addr,
    input  logic [15:0] t_data,
    input  logic cmd_valid,
    output logic cmd_ready,
    input  logic cmd_first,  // the state before this step is 0
    input  logic s_valid,
    output logic s_ready,
    input  logic [8*COLS-1:0] s_data,
    output logic m_valid,
    input  logic m_ready,
    output logic m_last,
    output logic [16*LANES-1:0] m_data
);
  localparam int TILES = SIZE / COLS;
  localparam int XA = $clog2(TILES);
  localparam int PARTS = COLS / LANES;  // a power of two, at least 2
  localparam int LOW = $clog2(PARTS);
  localparam int TOP = TILES - 1;
  localparam int ROW_BLOCKS = SIZE / ROWS - 1;

  // The matrix.
  logic v_valid, v_ready, v_last;
  logic [4:0] v_bits;
  logic [32*LANES-1:0] v_data;
  sf_matvec #(
      .ROWS(ROWS), .COLS(COLS), .LANES(LANES), .W_DEPTH(W_DEPTH), .P_DEPTH(P_DEPTH), .X_DEPTH(TILES)
  ) matvec (
      .clk(clk), .rst(rst),
      .w_we(w_we), .w_addr(w_addr), .w_data(w_data), .p_we(p_we), .p_addr(p_addr), .p_data(p_data),
      .cmd_valid(cmd_valid), .cmd_ready(cmd_ready), .cmd_w('0), .cmd_p('0), .cmd_tiles(TOP[XA-1:0]),
      .cmd_blocks(ROW_BLOCKS[WA-1:0]), .cmd_bits(5'd7),
      .s_valid(s_valid), .s_ready(s_ready), .s_data(s_data),
      .m_valid(v_valid), .m_ready(v_ready), .m_last(v_last), .m_bits(v_bits), .m_data(v_data)
  );

  // Inputs and the mark of a first step, in two banks.
  logic [8*COLS-1:0] inputs[2*TILES];
  logic [1:0] start;
  logic in_bank, cmd_bank;
  logic [XA-1:0] in_at;
  always_ff @(posedge clk) if (s_valid && s_ready) inputs[{in_bank, in_at}] <= s_data;
  always_ff @(posedge clk)
    if (rst) begin
      in_bank <= 1'b0;
      in_at <= '0;
      cmd_bank <= 1'b0;
    end else begin
      if (cmd_valid && cmd_ready) begin
        start[cmd_bank] <= cmd_first;
        cmd_bank <= !cmd_bank;
      end
      if (s_valid && s_ready) begin
        in_at <= in_at + 1'b1;
        if (in_at == TOP[XA-1:0]) begin
          in_at <= '0;
          in_bank <= !in_bank;
        end
      end
    end

  // Rates, states, update.
  logic [15:0] rates[256];
  logic [16*LANES-1:0] states[P_DEPTH];
  always_ff @(posedge clk) if (t_we) rates[t_addr] <= t_data;

  logic en, out_bank;
  logic [PA-1:0] out_at, at_1, at_2;
  logic [3:1] valid, last;
  logic first_1;
  logic [8*COLS-1:0] u_word;
  logic [16*LANES-1:0] s_q, next;
  logic [LOW-1:0] part;
  assign en = !m_valid || m_ready;
  assign v_ready = en;

  always_ff @(posedge clk)
    if (rst) begin
      valid <= '0;
      out_at <= '0;
      out_bank <= 1'b0;
    end else if (en) begin
      valid <= {valid[2:1], v_valid};
      if (v_valid) begin
        out_at <= v_last ? '0 : out_at + 1'b1;
        if (v_last) out_bank <= !out_bank;
      end
    end

  always_ff @(posedge clk)
    if (en) begin
      last <= {last[2:1], v_last};
      at_1 <= out_at;
      at_2 <= at_1;
      first_1 <= start[out_bank];
      part <= out_at[LOW-1:0];
      u_word <= inputs[{out_bank, out_at[PA-1:LOW]}];
      s_q <= states[out_at];
      m_data <= next;
      if (valid[2]) states[at_2] <= next;
    end

  genvar i;
  generate
    for (i = 0; i < LANES; i++) begin : lane
      logic signed [15:0] u, state;
      logic signed [16:0] rate, rest;
      logic signed [33:0] kept, added, rounded;
      logic signed [26:0] clamped;
      assign u = 16'($signed(u_word[8*(32'(part)*LANES+i)+:8])) <<< U_SHIFT;
      assign rest = 17'sd32768 - rate;
      assign state = first_1 ? 16'sd0 : $signed(s_q[16*i+:16]);
      sf_rne #(.WIDTH(34), .SHIFT(5)) rne (.p(kept + added), .s(5'd15), .y(rounded));
      sf_clamp #(.WIDTH(34)) clamp (.p(rounded), .bits(5'd15), .y(clamped));
      assign next[16*i+:16] = clamped[15:0];
      always_ff @(posedge clk)
        if (en) begin
          rate <= {1'b0, rates[8'(v_data[32*i+:8]+8'd128)]};
          kept <= 34'(rate) * 34'(state);
          added <= 34'(rest) * 34'(u);
        end
    end
  endgenerate
  assign m_valid = valid[3];
  assign m_last = last[3];
endmodule
