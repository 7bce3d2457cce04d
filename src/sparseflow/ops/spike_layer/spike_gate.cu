// Counts the set bits of a layer's words, and writes which of two kernels is to run: 1 above a share of bits, else 0.
//
// Whole numbers are added, so the order of the blocks changes nothing: the same words give the same answer.
// Defined in front: VEC, 1 if words are aligned to 16 bytes.

struct Params {
    const unsigned* words;
    const double* share;
    unsigned long long* state;  // zeroed: set bits, blocks that are done, and the answer
    unsigned long long count;   // words
    double bits;                // bits that could be set
};

extern "C" __global__ void __launch_bounds__(512) spike_gate(const __grid_constant__ Params p) {
    __shared__ unsigned long long total;
    if (threadIdx.x == 0) total = 0;
    __syncthreads();
    const unsigned long long first = blockIdx.x * 512ull + threadIdx.x, step = gridDim.x * 512ull;
    unsigned found = 0;
#if VEC
    const unsigned long long quads = p.count / 4;
    const uint4* wide = reinterpret_cast<const uint4*>(p.words);
#pragma unroll 4
    for (unsigned long long i = first; i < quads; i += step) {
        const uint4 q = wide[i];
        found += __popc(q.x) + __popc(q.y) + __popc(q.z) + __popc(q.w);
    }
    if (first < p.count % 4) found += __popc(p.words[4 * quads + first]);
#else
#pragma unroll 4
    for (unsigned long long i = first; i < p.count; i += step) found += __popc(p.words[i]);
#endif
    found = __reduce_add_sync(0xffffffffu, found);
    if (threadIdx.x % 32 == 0) atomicAdd(&total, (unsigned long long)found);
    __syncthreads();
    if (threadIdx.x != 0) return;
    atomicAdd(p.state, total);
    __threadfence();
    if (atomicAdd(p.state + 1, 1ull) + 1 == gridDim.x) {
        const unsigned long long all = atomicAdd(p.state, 0ull);
        p.state[2] = double(all) > *p.share * p.bits;
    }
}
