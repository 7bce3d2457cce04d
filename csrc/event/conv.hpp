#pragma once
// Event-driven convolution. Included once per instruction set, after its vec_*.hpp.
#include "nouns/layout.hpp"
#include "event/accumulate.hpp"
#include "event/kernels.hpp"
#include "event/lif.hpp"
#include "event/scratch.hpp"

namespace sparseflow {
namespace {

// Output rows [y0, y1) of one image.
struct Tile {
  int64_t image, y0, y1;
};

// The non-zero channels [c0, c0 + channels) of the input pixels that a tile reads.
struct Events {
  uint16_t* row;      // x * channels * spread + channel, modulo 2^16
  float* value;       // or null
  uint32_t* start;    // [input rows * w + 1]
  int64_t iy0, rows;  // first input row held, number of rows held
};

// Input pixels that follow each other under the kernel.
struct Segment {
  const uint32_t* start;  // of the input row
  int64_t left;           // first input column for output column 0
  uint16_t offset;        // row number minus event for output column 0
};

// Whole panels, that is a range of output channels.
struct Columns {
  int64_t panel, first, count;  // first panel, its first channel, channels
};

struct Workspace {
  Scratch<uint16_t> events, rows;
  Scratch<float> event_values, row_values, pixels, sums, bias;
  Scratch<uint32_t> starts, ends;
  Scratch<Segment> segments;
};

inline Workspace& workspace() {
  static thread_local Workspace w;
  return w;
}

constexpr int64_t kL2Budget = 1280 * 1024;
constexpr double kShortList = 16;  // events, up to which panels share a walk; beyond, their weights crowd the L1 cache

class Conv {
 public:
  Conv(const ConvArgs& args, const ConvGeometry& geometry)
      : a(args),
        g(geometry),
        depthwise(is_depthwise(g.cout_g(), g.cin_g())),
        layout(g.cout_g(), g.cin_g(), g.kh * g.kw),
        direct(g.kh * g.kw == 1 && g.stride.w == 1 && g.padding.w == 0),
        density(a.x ? 0 : measure()) {}

  // Output channels are split so that the weights of one slab of one part stay in the L2 cache.
  int64_t column_groups() const {
    if (g.groups > 1 || depthwise) return 1;
    return (layout.panels() + panels_a_pass() - 1) / panels_a_pass();
  }
  Columns columns(int64_t i) const {
    if (g.groups > 1 || depthwise) return {0, 0, g.cout};
    const int64_t panel = i * panels_a_pass(), first = panel * RowLayout::kPanel;
    return {panel, first, least(panels_a_pass() * RowLayout::kPanel, g.cout - first)};
  }

  int64_t tile_rows(int64_t ld) const {
    const int64_t pixels = most(16, least(512, (int64_t{1} << 16) / ld));
    int64_t rows = most(1, pixels / g.wo);
    const int64_t images = most(1, g.m / most(1, a.steps)) * column_groups();
    while (rows > 1 && images * ((g.ho + rows - 1) / rows) < 16) rows = (rows + 1) / 2;
    return least(rows, g.ho);
  }
  static int64_t padded_columns(int64_t count) { return (count + 15) / 16 * 16; }

  // Whether one pass over the lists writes the sums for good.
  bool once() const {
    const Blocks blocks = choose(layout.cin);
    return !depthwise && layout.slabs() == 1 && blocks.channels >= layout.cin && blocks.kernel_rows >= g.kh;
  }

  // sums[pixel * ld + column] = convolution + bias for the tile and the columns; ld >= padded columns.
  // `past`: around the caches, which needs `once()` and whole, aligned lines.
  void fill(const Tile& tile, const Columns& cols, float* sums, int64_t ld, bool past = false) const {
    const int64_t pixels = (tile.y1 - tile.y0) * g.wo;
    if (depthwise) return fill_depthwise(tile, sums, ld);
    Workspace& ws = workspace();
    const bool all = g.groups > 1;
    float* bias = ws.bias.get(layout.padded);
    for (int64_t group = 0; group < g.groups; ++group) {
      for (int64_t o = 0; o < layout.padded; ++o)
        bias[o] = a.bias && o < g.cout_g() ? a.bias[group * g.cout_g() + o] : 0.f;
      for (int64_t s = 0; s < layout.slabs(); ++s) {
        const int64_t channels = layout.slab_channels(s), panel_size = RowLayout::kPanel * layout.taps * channels;
        const float* rows = a.rows + group * layout.size();
        const Blocks blocks = choose(channels);
        const bool wide = !a.x && static_cast<double>(blocks.kernel_rows * g.kw * blocks.channels) * density <= kShortList;
        for (int64_t c = 0; c < channels; c += blocks.channels) {
          const Events events = decode(tile, group * g.cin_g() + s * layout.slab, c, least(blocks.channels, channels - c), channels);
          for (int64_t ky = 0; ky < g.kh; ky += blocks.kernel_rows) {
            const Lists lists = gather(tile, events, channels, ky, least(g.kh, ky + blocks.kernel_rows));
            const bool more = s > 0 || c > 0 || ky > 0;
            // With groups, padding columns spill into the next group's, which comes later and writes them anew.
            add_up(more, past, wide, all ? layout.padded : Conv::padded_columns(cols.count),
                   rows + layout.panel_start(s, cols.panel), panel_size, lists, pixels, bias + cols.first,
                   sums + (all ? group * g.cout_g() : 0), ld);
          }
        }
      }
    }
  }

  const ConvArgs& a;
  const ConvGeometry& g;
  const bool depthwise;
  const RowLayout layout;

 private:
  const bool direct;  // an output pixel's list is an input pixel's list
  const double density;
  int64_t panels_a_pass() const {
    const int64_t bytes = RowLayout::kPanel * layout.taps * layout.slab * 4;
    return most(1, least(layout.panels(), kL2Budget / bytes));
  }

  // What one pass over the output pixels of a tile adds up.
  struct Blocks {
    int64_t channels, kernel_rows;
  };

  // Long lists pay for a weight block that stays in the L1 cache, short ones for few passes. Passes over one
  // kernel row that see about 32 events are a good trade (see README). Depends on the density of the whole
  // input, never on the tiles, so that the order of a sum does not depend on how the work is split.
  Blocks choose(int64_t channels) const {
    if (a.x) return {channels, g.kh};
    const double events = static_cast<double>(g.kw * channels) * density;
    if (events < 16) return {channels, g.kh};
    if (g.ho * g.wo < 64) return {channels, 1};
    const auto wanted = static_cast<int64_t>(32 / (static_cast<double>(g.kw) * density));
    return {least(channels, (wanted + 31) / 32 * 32), 1};
  }

  // Fraction of set bits, from up to 128 evenly spread runs of 64 words.
  double measure() const {
    const int64_t words = g.m * g.h * g.w * words_of(g.c), runs = least(128, (words + 63) / 64);
    int64_t bits = 0, seen = 0;
    for (int64_t i = 0; i < runs; ++i) {
      const int64_t first = words * i / runs, last = least(words, first + 64);
      for (int64_t k = first; k < last; ++k) bits += __builtin_popcount(static_cast<uint32_t>(a.words[k]));
      seen += last - first;
    }
    return seen ? static_cast<double>(bits) * static_cast<double>(words_of(g.c)) /
                      (static_cast<double>(seen) * static_cast<double>(g.c))
                : 0;
  }

  // Panels share the lists, and where `wide` the walk over them, with the sums of several panels in registers.
  void add_up(bool more, bool past, bool wide, int64_t columns, const float* rows, int64_t panel_size, const Lists& lists,
              int64_t pixels, const float* bias, float* sums, int64_t ld) const {
    const auto run = a.x ? (more ? accumulate_some<true, true, false> : accumulate_some<true, false, false>)
                    : more ? accumulate_some<false, true, false>
                    : past ? accumulate_some<false, false, true>
                           : accumulate_some<false, false, false>;
    while (columns > 0) {
      const int64_t done = run(wide, columns / 16, rows, panel_size, lists, pixels, bias, sums, ld) * 16;
      rows += done / RowLayout::kPanel * panel_size;
      columns -= done, bias += done, sums += done;
    }
  }

  bool reads(const Tile& tile, int64_t iy) const {
    for (int64_t ky = 0; ky < g.kh; ++ky) {
      const int64_t y = iy + g.padding.h - ky * g.dilation.h;
      if (y % g.stride.h == 0 && y >= tile.y0 * g.stride.h && y < tile.y1 * g.stride.h) return true;
    }
    return false;
  }

  // Channels [slab + c, slab + c + channels) of the input pixels that a tile reads; rows count from the slab.
  Events decode(const Tile& tile, int64_t slab, int64_t c, int64_t channels, int64_t slab_channels) const {
    Workspace& ws = workspace();
    const int64_t top = tile.y0 * g.stride.h - g.padding.h;
    const int64_t bottom = (tile.y1 - 1) * g.stride.h - g.padding.h + (g.kh - 1) * g.dilation.h;
    const int64_t iy0 = least(g.h, most(0, top)), iy1 = most(iy0, least(g.h, bottom + 1));
    Events e{nullptr, nullptr, ws.starts.get((iy1 - iy0) * g.w + 1), iy0, iy1 - iy0};
    const int64_t room = e.rows * g.w * channels + kSlack;
    e.row = ws.events.get(room);
    if (a.x) e.value = ws.event_values.get(room);
    const int64_t spread = direct ? 0 : slab_channels;
    uint32_t n = 0, *start = e.start;
    for (int64_t iy = iy0; iy < iy1; ++iy) {
      if (!reads(tile, iy)) {
        for (int64_t x = 0; x < g.w; ++x) *start++ = n;
      } else if (a.x) {
        n = decode_values(tile.image, iy, slab + c, channels, c, spread, e, start, n);
        start += g.w;
      } else {
        n = decode_words(tile.image, iy, slab + c, channels, c, spread, e, start, n);
        start += g.w;
      }
    }
    *start = n;
    return e;
  }

  uint32_t decode_words(int64_t image, int64_t iy, int64_t c0, int64_t channels, int64_t offset, int64_t spread,
                        const Events& e, uint32_t* start, uint32_t n) const {
    const int64_t wp = words_of(g.c);
    const int64_t full = channels / 32, rest = channels % 32;
    const uint32_t rest_mask = (1u << rest) - 1;
    const int32_t* pixel = a.words + (image * g.h + iy) * g.w * wp;
    if (c0 % 32 == 0) {
      pixel += c0 / 32;
      for (int64_t x = 0; x < g.w; ++x, pixel += wp) {
        start[x] = n;
        n += static_cast<uint32_t>(expand_words(e.row + n, pixel, full, rest_mask, static_cast<uint16_t>(x * spread + offset)));
      }
      return n;
    }
    for (int64_t x = 0; x < g.w; ++x, pixel += wp) {
      start[x] = n;
      for (int64_t i = 0; i < channels; i += 32) {
        const int64_t at = (c0 + i) / 32, shift = (c0 + i) % 32;
        uint64_t bits = static_cast<uint32_t>(pixel[at]);
        if (at + 1 < wp) bits |= static_cast<uint64_t>(static_cast<uint32_t>(pixel[at + 1])) << 32;
        uint32_t word = static_cast<uint32_t>(bits >> shift);
        if (channels - i < 32) word &= rest_mask;
        n += static_cast<uint32_t>(expand_bits(e.row + n, word, static_cast<uint16_t>(x * spread + offset + i)));
      }
    }
    return n;
  }

  uint32_t decode_values(int64_t image, int64_t iy, int64_t c0, int64_t channels, int64_t offset, int64_t spread,
                         const Events& e, uint32_t* start, uint32_t n) const {
    const int64_t hw = g.h * g.w;
    const float* from = a.x + (image * hw + iy * g.w) * g.c + c0;
    int64_t ld = g.c;
    if (!a.x_channels_last) {
      ld = padded_columns(channels);
      float* pixels = workspace().pixels.get((g.w + 15) / 16 * 16 * ld);
      for (int64_t c = 0; c < channels; c += 16)
        for (int64_t x = 0; x < g.w; x += 16) {
          F block[16];
          const int lanes_here = static_cast<int>(least(16, g.w - x));
          for (int64_t k = 0; k < 16; ++k)
            block[k] = c + k < channels
                           ? load_up_to(a.x + (image * g.c + c0 + c + k) * hw + iy * g.w + x, lanes_here)
                           : f_zero();
          transpose(block);
          for (int64_t k = 0; k < 16; ++k) f_store(pixels + (x + k) * ld + c, block[k]);
        }
      from = pixels;
    }
    const F zero = f_zero();
    for (int64_t x = 0; x < g.w; ++x, from += ld) {
      start[x] = n;
      const auto base = static_cast<uint16_t>(x * spread + offset);
      for (int64_t c = 0; c < channels; c += 16) {
        const F v = load_up_to(from + c, static_cast<int>(least(16, channels - c)));
        n += expand_values(e.row + n, e.value + n, v, m_ne(v, zero), static_cast<uint16_t>(base + c));
      }
    }
    return n;
  }

  // Lists of row numbers for every output pixel: the input pixels under one kernel row follow each other
  // in `events`, and a row number is an event plus a constant of the output pixel, so one copy does them all.
  Lists gather(const Tile& tile, const Events& e, int64_t channels, int64_t ky0, int64_t ky1) const {
    Workspace& ws = workspace();
    const int64_t pixels = (tile.y1 - tile.y0) * g.wo;
    if (direct && g.stride.h == 1 && g.padding.h == 0) return {e.row, e.value, e.start + 1};
    const int64_t room = e.start[e.rows * g.w] * layout.taps + kSlack;
    uint16_t* rows = ws.rows.get(room);
    float* values = e.value ? ws.row_values.get(room) : nullptr;
    uint32_t* ends = ws.ends.get(pixels + 1);
    const int64_t spread = direct ? 0 : channels;
    uint32_t n = 0;
    *ends++ = 0;
    const Lists lists{rows, values, ends};
    for (int64_t oy = tile.y0; oy < tile.y1; ++oy) {
      // Kernel rows inside the image, as the events of their input row and the constant for output column 0.
      Segment* segments = ws.segments.get(g.kh * g.kw);
      int64_t count = 0;
      const int64_t span = g.dilation.w == 1 ? g.kw : 1;
      for (int64_t ky = ky0; ky < ky1; ++ky) {
        const int64_t iy = oy * g.stride.h - g.padding.h + ky * g.dilation.h;
        if (iy < 0 || iy >= g.h) continue;
        for (int64_t kx = 0; kx < g.kw; kx += span) {
          const int64_t left = kx * g.dilation.w - g.padding.w;
          segments[count++] = {e.start + (iy - e.iy0) * g.w, left,
                               static_cast<uint16_t>((ky * g.kw + kx) * channels - left * spread)};
        }
      }
      const auto advance = static_cast<uint16_t>(g.stride.w * spread);
      for (int64_t ox = 0; ox < g.wo; ++ox) {
        for (int64_t i = 0; i < count; ++i) {
          const Segment& segment = segments[i];
          const int64_t left = segment.left + ox * g.stride.w;
          const int64_t x0 = least(g.w, most(0, left)), x1 = most(0, least(g.w, left + span));
          const uint32_t from = segment.start[x0];
          const int length = x1 > x0 ? static_cast<int>(segment.start[x1] - from) : 0;
          copy_list(rows + n, e.row + from, length, static_cast<uint16_t>(segment.offset - ox * advance));
          if (values) copy_values(values + n, e.value + from, length);
          n += static_cast<uint32_t>(length);
        }
        *ends++ = n;
      }
    }
    return lists;
  }

  void fill_depthwise(const Tile& tile, float* sums, int64_t ld) const {
    const int64_t wp = words_of(g.c), padded = padded_columns(g.c), hw = g.h * g.w;
    for (int64_t oy = tile.y0; oy < tile.y1; ++oy)
      for (int64_t ox = 0; ox < g.wo; ++ox, sums += ld)
        for (int64_t c = 0; c < g.c; c += 16) {
          const int n = static_cast<int>(least(16, g.c - c));
          F sum = a.bias ? load_up_to(a.bias + c, n) : f_zero();
          for (int64_t ky = 0; ky < g.kh; ++ky) {
            const int64_t iy = oy * g.stride.h - g.padding.h + ky * g.dilation.h;
            if (iy < 0 || iy >= g.h) continue;
            for (int64_t kx = 0; kx < g.kw; ++kx) {
              const int64_t ix = ox * g.stride.w - g.padding.w + kx * g.dilation.w;
              if (ix < 0 || ix >= g.w) continue;
              const F w = f_load(a.rows + (ky * g.kw + kx) * padded + c);
              const int64_t pixel = iy * g.w + ix;
              if (!a.x) {
                const auto word = static_cast<uint32_t>(a.words[(tile.image * hw + pixel) * wp + c / 32]);
                sum = f_add_masked(sum, m_from_bits(word >> (c % 32) & 0xffff), w);
              } else {
                F x;
                if (a.x_channels_last) {
                  x = load_up_to(a.x + (tile.image * hw + pixel) * g.c + c, n);
                } else {
                  alignas(64) float lane[16] = {};
                  for (int k = 0; k < n; ++k) lane[k] = a.x[(tile.image * g.c + c + k) * hw + pixel];
                  x = f_load(lane);
                }
                sum = f_fma(x, w, sum);
              }
            }
          }
          f_store(sums + c, sum);
        }
  }
};

// sums[pixel][column] -> rows of out in NHWC.
inline void write_last(const Conv& k, const Tile& tile, const Columns& cols, const float* sums, int64_t ld) {
  const int64_t pixels = (tile.y1 - tile.y0) * k.g.wo;
  const int64_t first = ((tile.image * k.g.ho + tile.y0) * k.g.wo) * k.g.cout + cols.first;
  for (int64_t p = 0; p < pixels; ++p)
    for (int64_t c = 0; c < cols.count; c += 16) {
      const int n = static_cast<int>(least(16, cols.count - c));
      const int64_t at = first + p * k.g.cout + c;
      F x = f_load(sums + p * ld + c);
      if (k.a.residual) x = f_add(x, load_up_to(k.a.residual + at, n));
      store_up_to(k.a.out + at, x, n);
    }
}

// sums[pixel][column] -> planes of out in NCHW, 16x16 at a time.
inline void write_planes(const Conv& k, const Tile& tile, const Columns& cols, const float* sums, int64_t ld) {
  const int64_t pixels = (tile.y1 - tile.y0) * k.g.wo, hw = k.g.ho * k.g.wo;
  for (int64_t c = 0; c < cols.count; c += 16) {
    const int64_t first = (tile.image * k.g.cout + cols.first + c) * hw + tile.y0 * k.g.wo;
    const int64_t channels = least(16, cols.count - c);
    for (int64_t p = 0; p < pixels; p += 16) {
      const int n = static_cast<int>(least(16, pixels - p));
      F block[16];
      for (int64_t i = 0; i < 16; ++i) block[i] = i < n ? f_load(sums + (p + i) * ld + c) : f_zero();
      transpose(block);
      for (int64_t i = 0; i < channels; ++i) {
        const int64_t at = first + i * hw + p;
        const F x = k.a.residual ? f_add(block[i], load_up_to(k.a.residual + at, n)) : block[i];
        store_up_to(k.a.out + at, x, n);
      }
    }
  }
}

void conv(const ConvArgs& args, const ConvGeometry& geometry, int threads) {
  const Conv k(args, geometry);
  const ConvGeometry& g = k.g;
  const int64_t column_groups = k.column_groups();
  const bool in_place = args.channels_last && !args.residual && (k.depthwise ? g.cout : g.cout_g()) % 16 == 0;
  const int64_t widest = Conv::padded_columns(k.columns(0).count) + 16;
  const int64_t rows = k.tile_rows(widest), bands = (g.ho + rows - 1) / rows;
  const bool past = in_place && !args.x && g.groups == 1 && g.m * g.cout * g.ho * g.wo > kCached && k.once() &&
                    reinterpret_cast<uintptr_t>(args.out) % 64 == 0;
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
  for (int64_t item = 0; item < column_groups * g.m * bands; ++item) {
    const Columns cols = k.columns(item / (g.m * bands));
    const int64_t image = item / bands % g.m, y0 = item % bands * rows;
    const Tile tile{image, y0, least(g.ho, y0 + rows)};
    if (in_place) {
      k.fill(tile, cols, args.out + (image * g.ho + y0) * g.wo * g.cout + cols.first, g.cout, past);
      if (past) fence();
      continue;
    }
    float* sums = workspace().sums.get(rows * g.wo * widest);
    k.fill(tile, cols, sums, widest);
    args.channels_last ? write_last(k, tile, cols, sums, widest) : write_planes(k, tile, cols, sums, widest);
  }
}

void conv_lif(const ConvArgs& args, const ConvGeometry& geometry, int threads) {
  const Conv k(args, geometry);
  const ConvGeometry& g = k.g;
  const int64_t samples = g.m / most(1, args.steps), column_groups = k.column_groups(), wp = words_of(g.cout);
  const int64_t ld = Conv::padded_columns(k.columns(0).count) + 16;
  const int64_t rows = k.tile_rows(ld), bands = (g.ho + rows - 1) / rows;
  with_neuron(args.config, [&](const auto& neuron) {
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
    for (int64_t item = 0; item < column_groups * samples * bands; ++item) {
      const Columns cols = k.columns(item / (samples * bands));
      const int64_t sample = item / bands % samples, y0 = item % bands * rows;
      float* sums = workspace().sums.get(rows * g.wo * ld);
      for (int64_t t = 0; t < args.steps; ++t) {
        const int64_t image = t * samples + sample;
        const Tile tile{image, y0, least(g.ho, y0 + rows)};
        k.fill(tile, cols, sums, ld);
        for (int64_t p = 0; p < (tile.y1 - tile.y0) * g.wo; ++p) {
          const int64_t out_pixel = image * g.ho * g.wo + y0 * g.wo + p;
          const int64_t state = (sample * g.ho * g.wo + y0 * g.wo + p) * g.cout + cols.first;
          float* x = sums + p * ld;
          if (args.residual)
            for (int64_t c = 0; c < cols.count; c += 16)
              f_store(x + c, f_add(f_load(x + c), load_up_to(args.residual + out_pixel * g.cout + cols.first + c,
                                                             static_cast<int>(least(16, cols.count - c)))));
          if (args.residual_words)
            for (int64_t c = 0; c < cols.count; c += 16) {
              const auto word = static_cast<uint32_t>(args.residual_words[out_pixel * wp + (cols.first + c) / 32]);
              f_store(x + c, f_add_masked(f_load(x + c), m_from_bits(word >> (c % 32) & 0xffff), f_set(1.f)));
            }
          const float* from = t ? args.v : args.v0;
          lif_run(neuron, x, 0, from ? from + state : nullptr, args.v + state,
                  args.words_out + out_pixel * wp + cols.first / 32, 0, 1, cols.count);
        }
      }
    }
  });
}

}  // namespace

const Kernels SF_KERNELS{SF_NAME, pack, unpack, lif, lif_pack, conv, conv_lif};

}  // namespace sparseflow
