// What a call of spike_layer.cu consists of, and the sizes that its defines fix.

typedef unsigned int u32;
typedef unsigned long long u64;
typedef unsigned short u16;
typedef unsigned char u8;

struct Source {
  const u32* words;
  int height, width, count, pitch, planes;  // count: words of one plane; pitch: words of one pixel
  int kh, kw, sh, sw, ph, pw, dh, dw;
  int step;      // words of one time step
  int chunks;    // of all taps
  int linear;    // one tap, no stride, no padding
  int identity;  // reads the tile's own channels
};

struct Params {
  Source source[3];  // the last may be an identity; with IDENT it is not among the `sources`
  const u8* weights;
  // keep, threshold, reset, scale, 1/scale, identity, 0, 0, then the bias of every column, then (INT8) its scale.
  const float* constants;
  const float* v0;
  float* v;
  void* out;
  const u8* add;
  int sources, chunks, stages;
  int pixels, height, width;  // pixels: N * height * width
  int steps, channels, words;
  int tiles, columns;  // tiles of 64 pixels, tiles of BN channels
  const int* gate;     // null, or where `open` must stand for the kernel to run
  int open;
};

constexpr int THREADS = 128 * WGS + (RESIDENT ? 0 : 128);
constexpr int VOTERS = 128 * WGS + 32;                // the consumers and the warp that fetches
constexpr int STEPS = INT8 ? 2 : 4;                   // products of a chunk, each of 32 bytes of inputs
constexpr int FULL = 2048 * STEPS * HALVES;           // bytes of a chunk, 64 inputs by 64 outputs
constexpr int STEP = BN * 32;                         // bytes of one product
constexpr int HALF = STEP * STEPS;                    // bytes from the high to the low weights
constexpr int CHUNK = HALF * HALVES;                  // bytes of it that this tile needs
[[maybe_unused]] constexpr int TOP = 8 - PLANES;                       // place of a bit in its byte
constexpr int PER = BN / 4;                           // channels that one lane holds of a pixel
constexpr int HELD = TC * (SPLIT ? WGS : 1);          // time steps of a tile held at once
constexpr int ROWS = SPLIT ? 1 : 2;                   // pixels that a thread finishes
constexpr int DEPTH = TC > 1 ? 1 : PLANES * HALVES == 1 ? 4 : 2;  // chunks whose words are under way; steps give depth
constexpr int NEAR = 8;                               // loads under way in search of a spike
constexpr int EARLY = 4;                              // chunks of resident weights fetched before a spike is seen
constexpr bool QUIET = !V0 && !KEEPV && !MULTI;       // without input, all pixels of a channel do the same

#if INT8
typedef int Sum;
#else
typedef float Sum;
#endif

typedef u32 Words[TC * DEPTH][PLANES][2][2];

// A chunk: 64 channels of one tap of one source.
struct Entry {
  int offset, dy, dx, flags;  // flags: source, 4 if it is the source's first, 8 if the second word exists
};

// Fills the table of chunks, with all threads of the block.
__device__ __forceinline__ void tabulate(const Params& p, Entry* table) {
  int first = 0;
  for (int i = 0; i < p.sources; ++i) {
    const Source& s = p.source[i];
    int pairs = (s.count + 1) / 2;
    if (s.identity) pairs = 1;
    for (int j = threadIdx.x; j < s.chunks; j += THREADS) {
      int tap = j / pairs, word = 2 * (j - tap * pairs), ky = tap / s.kw;
      Entry e;
      e.dy = ky * s.dh;
      e.dx = (tap - ky * s.kw) * s.dw;
      e.offset = (e.dy * s.width + e.dx) * s.pitch + word;
      e.flags = i | (j == 0 ? 4 : 0) | (word + 1 < s.count ? 8 : 0);
      table[first + j] = e;
    }
    first += s.chunks;
  }
}
