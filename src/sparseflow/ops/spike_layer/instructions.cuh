// The instructions of sm_90a that spike_layer.cu and spike_pairs.cu need, as functions: barriers, bulk copies, votes,
// loads, products.

__device__ __forceinline__ u32 shared(const void* p) { return (u32)__cvta_generic_to_shared(p); }

__device__ __forceinline__ void barrier_init(u32 at, u32 count) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(at), "r"(count) : "memory");
}

__device__ __forceinline__ void barrier_wait(u32 at, u32 parity) {
  asm volatile(
      "{\n"
      ".reg .pred p;\n"
      "W: mbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1;\n"
      "@p bra D;\n"
      "bra W;\n"
      "D:\n"
      "}\n" ::"r"(at), "r"(parity) : "memory");
}

// By a predicate, since compilers put products one after the other around a branch.
__device__ __forceinline__ void barrier_arrive(u32 at, bool go) {
  asm volatile(
      "{\n"
      ".reg .pred p;\n"
      "setp.ne.u32 p, %1, 0;\n"
      "@p mbarrier.arrive.shared::cta.b64 _, [%0];\n"
      "}\n" ::"r"(at), "r"((u32)go) : "memory");
}

__device__ __forceinline__ void barrier_expect(u32 at, u32 bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(at), "r"(bytes) : "memory");
}

__device__ __forceinline__ void copy(u32 to, const u8* from, u32 bytes, u32 barrier) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to),
               "l"(from), "r"(bytes), "r"(barrier)
               : "memory");
}

// Copies the columns of one chunk that this tile needs.
__device__ __forceinline__ void fetch(u32 to, const u8* chunk, int half, u32 barrier) {
  barrier_expect(barrier, CHUNK);
  if (BN == 64) {
    copy(to, chunk, CHUNK, barrier);
  } else {
    for (int i = 0; i < STEPS * HALVES; ++i) copy(to + i * STEP, chunk + i * 2048 + half * 1024, STEP, barrier);
  }
}

// Whether any thread of `threads` says so. The vote of the warp shows the compiler that all its lanes agree.
__device__ __forceinline__ bool vote(int id, int threads, bool mine) {
  u32 any;
  asm volatile(
      "{\n"
      ".reg .pred p, q;\n"
      "setp.ne.u32 p, %3, 0;\n"
      "barrier.cta.red.or.pred q, %1, %2, p;\n"
      "selp.u32 %0, 1, 0, q;\n"
      "}\n"
      : "=r"(any)
      : "r"(id), "r"(threads), "r"((u32)mine)
      : "memory");
  return __any_sync(0xffffffffu, any);
}

__device__ __forceinline__ u32 load(const u32* at, bool go) {
  u32 x;
  asm volatile(
      "{\n"
      ".reg .pred p;\n"
      "setp.ne.u32 p, %2, 0;\n"
      "mov.u32 %0, 0;\n"
      "@p ld.global.nc.u32 %0, [%1];\n"
      "}\n"
      : "=&r"(x)
      : "l"(at), "r"((u32)go));
  return x;
}

__device__ __forceinline__ void load2(u32& x, u32& y, const u32* at, bool go, bool second) {
#if VEC
  asm volatile(
      "{\n"
      ".reg .pred p;\n"
      "setp.ne.u32 p, %3, 0;\n"
      "mov.u32 %0, 0;\n"
      "mov.u32 %1, 0;\n"
      "@p ld.global.nc.v2.u32 {%0, %1}, [%2];\n"
      "}\n"
      : "=&r"(x), "=&r"(y)
      : "l"(at), "r"((u32)go));
#else
  x = load(at, go);
  y = load(at + 1, go && second);
#endif
}

__device__ __forceinline__ void mma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void mma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int N>
__device__ __forceinline__ void mma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
}

#if INT8
#define KIND "k32.s32.u8.s8 "
#define SUM "+r"
#define TERMS "d, p;\n"
#else
#define KIND "k16.f32.f16.f16 "
#define SUM "+f"
#define TERMS "d, p, 1, 1, 0;\n"
#endif

// Adds to the sums, or begins them.
template <bool ADDS = true>
__device__ __forceinline__ void mma(Sum (&d)[BN / 2], const u32 (&a)[4], u32 b) {
#if BN == 64
  asm volatile(
      "{\n"
      ".reg .pred p;\n"
      ".reg .b64 d;\n"
      "setp.ne.u32 p, %37, 0;\n"
      // 256 bytes from 8 columns to the next.
      "mov.b64 d, {%36, 16};\n"
      "wgmma.mma_async.sync.aligned.m64n64" KIND
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, "
      "{%32, %33, %34, %35}, " TERMS
      "}\n"
      : SUM(d[0]), SUM(d[1]), SUM(d[2]), SUM(d[3]), SUM(d[4]), SUM(d[5]), SUM(d[6]), SUM(d[7]), SUM(d[8]),
        SUM(d[9]), SUM(d[10]), SUM(d[11]), SUM(d[12]), SUM(d[13]), SUM(d[14]), SUM(d[15]), SUM(d[16]),
        SUM(d[17]), SUM(d[18]), SUM(d[19]), SUM(d[20]), SUM(d[21]), SUM(d[22]), SUM(d[23]), SUM(d[24]),
        SUM(d[25]), SUM(d[26]), SUM(d[27]), SUM(d[28]), SUM(d[29]), SUM(d[30]), SUM(d[31])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b), "n"(ADDS));
#else
  asm volatile(
      "{\n"
      ".reg .pred p;\n"
      ".reg .b64 d;\n"
      "setp.ne.u32 p, %21, 0;\n"
      // 256 bytes from 8 columns to the next.
      "mov.b64 d, {%20, 16};\n"
      "wgmma.mma_async.sync.aligned.m64n32" KIND
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15}, "
      "{%16, %17, %18, %19}, " TERMS
      "}\n"
      : SUM(d[0]), SUM(d[1]), SUM(d[2]), SUM(d[3]), SUM(d[4]), SUM(d[5]), SUM(d[6]), SUM(d[7]), SUM(d[8]),
        SUM(d[9]), SUM(d[10]), SUM(d[11]), SUM(d[12]), SUM(d[13]), SUM(d[14]), SUM(d[15])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b), "n"(ADDS));
#endif
}

__device__ __forceinline__ u32 half2(float low, float high) {
  u32 x;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(x) : "f"(high), "f"(low));
  return x;
}

// 1 where x >= y, else 0.
__device__ __forceinline__ float reaches(float x, float y) {
  float s;
  asm("set.ge.f32.f32 %0, %1, %2;" : "=f"(s) : "f"(x), "f"(y));
  return s;
}
