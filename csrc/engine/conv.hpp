#pragma once
// Convolution of codes. Included once per instruction set, so everything here has internal linkage.
#include <algorithm>

#include "engine/kernels.hpp"

namespace sparseflow {
namespace {

// Tiles that share one pass over a block of weights; of those of a single pixel more, for weights from the first cache.
constexpr int64_t kTiles = 8, kSingles = 24;
// Quads of a block's weights in one slab: with the sums of the tiles they stay in the first cache.
constexpr int64_t kSlab = 72;

template <int P>
constexpr int64_t kMost = P == 1 ? kSingles : kTiles;

// Walks over the output pixels of a batch: along the rows, or over all images at one place before the next place.
struct Cursor {
  const ConvArgs& a;
  const bool across;
  int64_t n, y, x;

  Cursor(const ConvArgs& args, bool across_images) : a(args), across(across_images), n(0), y(0), x(0) {}
  void move(int64_t at) {
    const int64_t size = a.ho * a.wo, place = across ? at / a.images : at % size;
    n = across ? at % a.images : at / size;
    y = place / a.wo;
    x = place % a.wo;
  }
  void next() {
    if (across) {
      ++n;
      return;
    }
    if (++x < a.wo) return;
    x = 0;
    if (++y == a.ho) y = 0, ++n;
  }
  const uint8_t* in() const { return a.in.at + n * a.in.image + y * a.sh * a.in.row + x * a.sw * a.in.pixel; }
  int64_t out() const {
    return a.real != nullptr ? ((n * a.ho + y) * a.wo + x) * a.cout : n * a.out.image + y * a.out.row + x * a.out.pixel;
  }
};

// Neighbouring quads of bytes under one kernel row: from the first tap, and in the packed weight.
struct Run {
  int64_t place, number, quads;
};

// P pixels. What is left over behind the last one repeats it, and is written again with the same values.
template <int P>
struct Tile {
  const uint8_t* in[P];
  int64_t out[P];
  int64_t y0, y1, x0, x1;  // output pixels that it lies between
};

// The taps of a tile's window that meet the image; those beside it count if their code is not 0.
template <int P>
int64_t clip(const ConvArgs& a, const Tile<P>& tile, Run* runs) {
  const auto first = [&](int64_t at, int64_t stride, int64_t pad, int64_t dil) {
    return a.clip ? std::max<int64_t>(0, (pad - at * stride + dil - 1) / dil) : 0;
  };
  const auto last = [&](int64_t at, int64_t stride, int64_t pad, int64_t dil, int64_t size, int64_t taps) {
    const int64_t room = size - 1 - at * stride + pad;
    return a.clip ? (room < 0 ? 0 : std::min(taps, room / dil + 1)) : taps;
  };
  const int64_t ky0 = first(tile.y1, a.sh, a.ph, a.dh), ky1 = last(tile.y0, a.sh, a.ph, a.dh, a.in.h, a.kh);
  const int64_t kx0 = first(tile.x1, a.sw, a.pw, a.dw), kx1 = last(tile.x0, a.sw, a.pw, a.dw, a.in.w, a.kw);
  const int64_t quads = a.in.pixel / 4;
  int64_t count = 0;
  for (int64_t ky = ky0; ky < ky1; ++ky) {
    for (int64_t kx = kx0; kx < kx1; kx = a.dw == 1 ? kx1 : kx + 1) {
      const int64_t place = (ky * a.dh - a.ph) * a.in.row + (kx * a.dw - a.pw) * a.in.pixel;
      runs[count++] = {place, (ky * a.kw + kx) * quads, a.dw == 1 ? (kx1 - kx0) * quads : quads};
    }
  }
  return count;
}

template <class V, int P, int NV>
inline void start(typename V::Sum (&sum)[P][NV], const int32_t* offset) {
  for (int v = 0; v < NV; ++v) {
    const auto first = V::load(offset + v * V::lanes);
    for (int p = 0; p < P; ++p) sum[p][v] = first;
  }
}

template <class V, int P, int NV>
inline void quad(typename V::Sum (&sum)[P][NV], const uint8_t* const (&in)[P], int64_t at, const int8_t* w) {
  typename V::Weights weights[NV];
#pragma GCC unroll 4
  for (int v = 0; v < NV; ++v) weights[v] = V::weights(w + v * V::lanes * 4);
#pragma GCC unroll 6
  for (int p = 0; p < P; ++p) {
    const auto x = V::broadcast(in[p] + at);
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) V::dot(sum[p][v], x, weights[v]);
  }
}

// All quads of one tile and one group of NV vectors; `step` bytes of weights a quad.
// A function of its own, so that its sums alone fill the registers.
template <class V, int P, int NV>
[[gnu::noinline]] void dense(const ConvArgs& a, const Tile<P>& tile, const int8_t* weight, int64_t step,
                             int64_t channel, const Run* runs, int64_t count) {
  typename V::Sum sum[P][NV];
  start<V, P, NV>(sum, a.offset + channel);
  const uint8_t* in[P];
  for (int64_t r = 0; r < count; ++r) {
    for (int p = 0; p < P; ++p) in[p] = tile.in[p] + runs[r].place;
    const int8_t* w = weight + runs[r].number * step;
    for (int64_t q = 0; q < runs[r].quads; ++q, w += step) quad<V, P, NV>(sum, in, 4 * q, w);
  }
  for (int p = 0; p < P; ++p) V::template finish<NV>(sum[p], a, tile.out[p], channel);
}

// The listed quads only: numbers[i] of a quad in the weight, places[i] in bytes from the first tap.
// Goes up to a quad's number and returns how far it came; sums wait in `sums` unless this is the first or the last part.
template <class V, int P, int NV>
[[gnu::noinline]] int64_t listed(const ConvArgs& a, const Tile<P>& tile, const int8_t* w, int64_t step,
                                 int64_t channel, const int32_t* numbers, const int32_t* places, int64_t from,
                                 int64_t count, int64_t below, int32_t* sums, bool first, bool last) {
  typename V::Sum sum[P][NV];
  if (first) {
    start<V, P, NV>(sum, a.offset + channel);
  } else {
    for (int p = 0; p < P; ++p) {
      for (int v = 0; v < NV; ++v) sum[p][v] = V::load(sums + (p * NV + v) * V::lanes);
    }
  }
  const uint8_t* in[P];
  for (int p = 0; p < P; ++p) in[p] = tile.in[p];
  int64_t i = from;
  if (last) {
    for (; i < count; ++i) quad<V, P, NV>(sum, in, places[i], w + numbers[i] * step);
    for (int p = 0; p < P; ++p) V::template finish<NV>(sum[p], a, tile.out[p], channel);
    return i;
  }
  for (; i < count && numbers[i] < below; ++i) quad<V, P, NV>(sum, in, places[i], w + numbers[i] * step);
  for (int p = 0; p < P; ++p) {
    for (int v = 0; v < NV; ++v) V::store(sums + (p * NV + v) * V::lanes, sum[p][v]);
  }
  return i;
}

template <class V, int P>
int64_t list(const Tile<P>& tile, const Run* runs, int64_t run_count, int32_t* numbers, int32_t* places) {
  int64_t count = 0;
  for (const Run* r = runs; r < runs + run_count; ++r) {
    for (int64_t q = 0; q < r->quads; q += 16) {
      uint32_t some = V::template not_zero<P>(tile.in, r->place + 4 * q);
      if (r->quads - q < 16) some &= (1u << (r->quads - q)) - 1;
      const auto number = static_cast<int32_t>(r->number + q), place = static_cast<int32_t>(r->place + 4 * q);
      count += V::compress(numbers + count, places + count, some, number, place);
    }
  }
  return count;
}

// Some tiles, and which of their quads to multiply: runs, or lists of `room` numbers and as many places.
template <int P>
struct Group {
  Tile<P> tile[kMost<P>];
  const Run* runs[kMost<P>];
  const int32_t *numbers[kMost<P>], *places[kMost<P>];
  int64_t counts[kMost<P>];
  int64_t tiles;
};

template <class V, int P, int NV, bool kList>
void block(const ConvArgs& a, const Group<P>& g, int64_t b) {
  const int64_t from = b * kBlock, quads = a.kh * a.kw * a.in.pixel / 4;
  const int64_t wide = std::min(kBlock, (a.cout - from + kLane - 1) / kLane * kLane), step = wide * 4;
  for (int64_t c = 0; c < wide; c += NV * V::lanes) {
    const int8_t* const w = a.weight + from * quads * 4 + c * 4;
    if constexpr (!kList) {
      for (int64_t t = 0; t < g.tiles; ++t) dense<V, P, NV>(a, g.tile[t], w, step, from + c, g.runs[t], g.counts[t]);
    } else {
      // A single pixel reads each weight once: slab by slab for all tiles, they come from the first cache.
      const int64_t slab = P == 1 && g.tiles > 4 && quads > kSlab * 4 / 3 ? kSlab : quads;
      alignas(64) int32_t sums[kMost<P>][P * NV * V::lanes];
      int64_t at[kMost<P>] = {};
      for (int64_t q = 0; q < quads; q += slab) {
        for (int64_t t = 0; t < g.tiles; ++t) {
          at[t] = listed<V, P, NV>(a, g.tile[t], w, step, from + c, g.numbers[t], g.places[t], at[t], g.counts[t],
                                   q + slab, sums[t], q == 0, q + slab >= quads);
        }
      }
    }
  }
}

template <class V, int P, bool kList>
void any_block(const ConvArgs& a, const Group<P>& g, int64_t b) {
  if constexpr (V::most * V::lanes < kBlock) {
    block<V, P, V::most, kList>(a, g, b);
  } else {
    switch (std::min<int64_t>(4, (a.cout - b * kBlock + kLane - 1) / kLane)) {
      case 1: return block<V, P, 1, kList>(a, g, b);
      case 2: return block<V, P, 2, kList>(a, g, b);
      case 3: return block<V, P, 3, kList>(a, g, b);
      default: return block<V, P, 4, kList>(a, g, b);
    }
  }
}

// The tiles of a layer; where they go over all images at one place, none holds two places.
template <int P>
struct Tiling {
  const ConvArgs& a;
  const bool across;
  const int64_t line = across ? a.images : a.images * a.ho * a.wo, lines = across ? a.ho * a.wo : 1;
  const int64_t tiles_a_line = (line + P - 1) / P, tiles = tiles_a_line * lines;

  void fill(int64_t number, Tile<P>& tile) const {
    Cursor c(a, across);
    const int64_t first = number / tiles_a_line * line, from = number % tiles_a_line * P;
    c.move(first + from);
    for (int p = 0; p < P; ++p) {
      if (p > 0 && from + p < line) c.next();
      tile.in[p] = c.in();
      tile.out[p] = c.out();
      tile.y0 = p == 0 ? c.y : std::min(tile.y0, c.y);
      tile.y1 = p == 0 ? c.y : std::max(tile.y1, c.y);
      tile.x0 = p == 0 ? c.x : std::min(tile.x0, c.x);
      tile.x1 = p == 0 ? c.x : std::max(tile.x1, c.x);
    }
  }
};

template <class V, int P, bool kList>
void conv_by(const ConvArgs& a, bool across, int64_t part, int64_t parts, Lists& lists) {
  const Tiling<P> tiling{a, across};
  const int64_t groups = (tiling.tiles + kMost<P> - 1) / kMost<P>, blocks = (a.cout + kBlock - 1) / kBlock;
  const int64_t room = a.kh * a.kw * a.in.pixel / 4 + 16, most_runs = a.kh * a.kw;
  lists.places.resize(static_cast<size_t>(kList ? 2 * kMost<P> * room : 0));
  lists.runs.resize(static_cast<size_t>(kMost<P> * most_runs * 3));
  // Few pixels are shared out by blocks, many by groups of tiles.
  const bool by_blocks = groups < 2 * parts && blocks >= parts;
  const int64_t g0 = by_blocks ? 0 : groups * part / parts, g1 = by_blocks ? groups : groups * (part + 1) / parts;
  const int64_t b0 = by_blocks ? blocks * part / parts : 0, b1 = by_blocks ? blocks * (part + 1) / parts : blocks;
  Group<P> group;
  for (int64_t g = g0; g < g1; ++g) {
    group.tiles = std::min(kMost<P>, tiling.tiles - g * kMost<P>);
    for (int64_t t = 0; t < group.tiles; ++t) {
      Tile<P>& tile = group.tile[t];
      Run* const runs = reinterpret_cast<Run*>(lists.runs.data()) + t * most_runs;
      tiling.fill(g * kMost<P> + t, tile);
      group.runs[t] = runs;
      group.counts[t] = clip<P>(a, tile, runs);
      if constexpr (kList) {
        int32_t* const numbers = lists.places.data() + 2 * t * room;
        group.numbers[t] = numbers;
        group.places[t] = numbers + room;
        group.counts[t] = list<V, P>(tile, runs, group.counts[t], numbers, numbers + room);
      }
    }
    for (int64_t b = b0; b < b1; ++b) any_block<V, P, kList>(a, group, b);
  }
}

inline int64_t quads_of(const Run* runs, int64_t count) {
  int64_t quads = 0;
  for (int64_t r = 0; r < count; ++r) quads += runs[r].quads;
  return quads;
}

// Of the quads that a loop which does not look would multiply, the share that is not zero in P pixels at once.
template <class V, int P>
double share(const ConvArgs& a, bool across, Lists& lists) {
  constexpr int64_t kSamples = P == 1 ? 8 : 12 / P;
  const Tiling<P> tiling{a, across};
  const int64_t quads = a.kh * a.kw * a.in.pixel / 4, samples = std::min(kSamples, tiling.tiles);
  lists.places.resize(static_cast<size_t>(2 * (quads + 16)));
  lists.runs.resize(static_cast<size_t>(a.kh * a.kw * 3));
  Run* const runs = reinterpret_cast<Run*>(lists.runs.data());
  double found = 0, seen = 0;
  for (int64_t s = 0; s < samples; ++s) {
    Tile<P> tile;
    tiling.fill((2 * s + 1) * tiling.tiles / (2 * samples), tile);
    found += static_cast<double>(
        list<V, P>(tile, runs, clip<P>(a, tile, runs), lists.places.data(), lists.places.data() + quads + 16));
    // Its own taps only: a tile of neighbours at an edge multiplies some that lie beside one of its pixels.
    const int64_t middle = (tile.x0 + tile.x1) / 2;
    const Tile<1> first{{tile.in[0]}, {0}, tile.y0, tile.y0, tile.x0, tile.x0};
    const Tile<1> between{{tile.in[0]}, {0}, tile.y1, tile.y1, middle, middle};
    seen += 0.5 * static_cast<double>(quads_of(runs, clip<1>(a, first, runs)));
    seen += 0.5 * static_cast<double>(quads_of(runs, clip<1>(a, between, runs)));
  }
  return found / std::max(seen, 1.0);
}

// A few tiles tell roughly: skipping has to promise more than their scatter.
constexpr double kGain = 0.88;

template <class V>
Skip choose(const ConvArgs& a, Lists& lists) {
  const int64_t quads = a.kh * a.kw * a.in.pixel / 4, pixels = a.images * a.ho * a.wo;
  if (quads < 64) return Skip::never;
  const double look = V::look / static_cast<double>((a.cout + kBlock - 1) / kBlock);
  // Weights of a block that fill more than the first cache come slower, and few pixels do not make up for it.
  const double(&rate)[3] = quads * kBlock * 4 <= V::first_cache ? V::near : V::far;
  Skip best = Skip::never;
  double least = pixels == 1 ? V::far[0] : pixels == 2 ? V::far[1] : 1.0;
  least *= kGain;
  const auto offer = [&](Skip skip, double cost) {
    if (cost < least) best = skip, least = cost;
  };
  const double alone = share<V, 1>(a, false, lists);
  // Of several pixels at once no fewer quads are left than of one, so that often one look is enough.
  if (std::min(rate[0], std::min(rate[1], rate[2])) * alone + look / 4 > least) return best;
  offer(Skip::one, rate[0] * alone + look);
  offer(Skip::two, rate[1] * share<V, 2>(a, false, lists) + look / 2);
  offer(Skip::four, rate[2] * share<V, 4>(a, false, lists) + look / 4);
  if (a.images < 4) return best;
  offer(Skip::two_across, rate[1] * share<V, 2>(a, true, lists) + look / 2);
  offer(Skip::four_across, rate[2] * share<V, 4>(a, true, lists) + look / 4);
  return best;
}

// What a thread chose for a layer it keeps for some chunks. Threads that share a layer must choose alike, so they look
// anew each time: they see the same codes.
template <class V>
Skip chosen(const ConvArgs& a, int64_t parts, Lists& lists) {
  constexpr int64_t kKept = 8;
  if (parts > 1) return choose<V>(a, lists);
  lists.choices.resize(std::max(lists.choices.size(), static_cast<size_t>(a.number + 1)));
  Lists::Choice& kept = lists.choices[static_cast<size_t>(a.number)];
  if (kept.left-- <= 0 || kept.images != a.images) kept = {choose<V>(a, lists), a.images, kKept};
  return kept.skip;
}

template <class V>
void conv(const ConvArgs& a, int64_t part, int64_t parts, Lists& lists) {
  const int64_t pixels = a.images * a.ho * a.wo;
  if (pixels == 0) return;
  switch (a.skip == Skip::best ? chosen<V>(a, parts, lists) : a.skip) {
    case Skip::one: return conv_by<V, 1, true>(a, false, part, parts, lists);
    case Skip::two: return conv_by<V, 2, true>(a, false, part, parts, lists);
    case Skip::four: return conv_by<V, 4, true>(a, false, part, parts, lists);
    case Skip::two_across: return conv_by<V, 2, true>(a, true, part, parts, lists);
    case Skip::four_across: return conv_by<V, 4, true>(a, true, part, parts, lists);
    default: break;
  }
  if (pixels == 1) return conv_by<V, 1, false>(a, false, part, parts, lists);
  if (pixels == 2) return conv_by<V, 2, false>(a, false, part, parts, lists);
  // Tiles at one place of many images leave all taps out that lie beside the image.
  const bool across = a.images >= 4;
  const int64_t line = across ? a.images : pixels;
  const int64_t sixes = (line + 5) / 6 * 6, fours = (line + 3) / 4 * 4;
  if (fours < sixes) return conv_by<V, 4, false>(a, across, part, parts, lists);
  conv_by<V, 6, false>(a, across, part, parts, lists);
}

}  // namespace
}  // namespace sparseflow
