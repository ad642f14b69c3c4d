// CUDA's execution model in C++20, so that a kernel's own text runs where there is no GPU: a thread for each CUDA thread
// of a block, blocks one after another, a barrier for __syncthreads. For tests on tiny inputs; nothing here is fast.
//
// A kernel must not return in some threads of a block alone, nor may a warp's threads part before a warp-wide exchange.
#pragma once

#include <algorithm>
#include <atomic>
#include <barrier>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#define __global__
#define __device__
#define __forceinline__ inline
#define __restrict__
#define __launch_bounds__(...)
// Blocks run one after another, so a block's shared memory may be the program's.
#define __shared__ static

struct dim3 {
    unsigned x = 1, y = 1, z = 1;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};

namespace shim {

constexpr unsigned WARP = 32;

// One warp's exchange: every lane leaves a value, then all read.
struct Warp {
    explicit Warp(unsigned lanes) : all(lanes) {}
    std::barrier<> all;
    std::uint64_t left[WARP] = {};
};

struct Block {
    explicit Block(unsigned threads) : all(threads) {
        for (unsigned first = 0; first < threads; first += WARP)
            warps.push_back(std::make_unique<Warp>(std::min(WARP, threads - first)));
    }
    std::barrier<> all;
    std::vector<std::unique_ptr<Warp>> warps;
};

inline thread_local dim3 thread_idx, block_idx, block_dim, grid_dim;
inline thread_local Block* block = nullptr;

inline Warp& warp() { return *block->warps[thread_idx.x / WARP]; }

template <typename T>
T exchange(T mine, unsigned lane) {
    static_assert(sizeof(T) <= 8);
    Warp& own = warp();
    std::uint64_t bits = 0;
    std::memcpy(&bits, &mine, sizeof(T));
    own.left[thread_idx.x % WARP] = bits;
    own.all.arrive_and_wait();
    T theirs;
    std::memcpy(&theirs, &own.left[lane % WARP], sizeof(T));
    own.all.arrive_and_wait();
    return theirs;
}

template <typename Kernel, typename Arguments>
void launch(Kernel kernel, const Arguments& arguments, dim3 grid, unsigned threads) {
    Block shared(threads);
    auto run = [&](unsigned thread) {
        block = &shared;
        thread_idx = {thread, 0, 0};
        block_dim = {threads, 1, 1};
        grid_dim = grid;
        for (unsigned y = 0; y < grid.y; ++y)
            for (unsigned x = 0; x < grid.x; ++x) {
                block_idx = {x, y, 0};
                kernel(arguments);
                shared.all.arrive_and_wait();
            }
    };
    std::vector<std::jthread> running;
    for (unsigned thread = 0; thread < threads; ++thread) running.emplace_back(run, thread);
}

}  // namespace shim

#define threadIdx shim::thread_idx
#define blockIdx shim::block_idx
#define blockDim shim::block_dim
#define gridDim shim::grid_dim

inline void __syncthreads() { shim::block->all.arrive_and_wait(); }
inline void __syncwarp() { shim::warp().all.arrive_and_wait(); }

template <typename T>
T __shfl_xor_sync(unsigned, T mine, int mask, int = 32) {
    return shim::exchange(mine, shim::thread_idx.x ^ static_cast<unsigned>(mask));
}
template <typename T>
T __shfl_sync(unsigned, T mine, int lane, int = 32) {
    return shim::exchange(mine, static_cast<unsigned>(lane));
}
template <typename T>
T __shfl_up_sync(unsigned, T mine, unsigned distance, int = 32) {
    const unsigned lane = shim::thread_idx.x % shim::WARP;
    return shim::exchange(mine, lane >= distance ? lane - distance : lane);
}
inline unsigned __ballot_sync(unsigned, bool mine) {
    unsigned ballot = 0;
    for (unsigned lane = 0; lane < shim::WARP; ++lane) ballot |= shim::exchange<unsigned>(mine, lane) << lane;
    return ballot;
}

template <typename T>
T atomicAdd(T* at, T value) { return std::atomic_ref<T>(*at).fetch_add(value); }
template <typename T>
T atomicMax(T* at, T value) {
    std::atomic_ref<T> held(*at);
    T seen = held.load();
    while (seen < value && !held.compare_exchange_weak(seen, value)) {
    }
    return seen;
}

inline unsigned __float_as_uint(float value) { return std::bit_cast<unsigned>(value); }
inline float __uint_as_float(unsigned bits) { return std::bit_cast<float>(bits); }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fsqrt_rn(float a) { return std::sqrt(a); }
// Four bytes out of eight, by the low nibbles of a selector; with its highest bit a nibble takes the sign of its byte.
inline unsigned __byte_perm(unsigned low, unsigned high, unsigned selector) {
    const std::uint64_t bytes = static_cast<std::uint64_t>(high) << 32 | low;
    unsigned picked = 0;
    for (unsigned i = 0; i < 4; ++i) {
        const unsigned nibble = selector >> 4 * i & 15u;
        unsigned byte = bytes >> 8 * (nibble & 7u) & 255u;
        if (nibble & 8u) byte = byte & 128u ? 255u : 0u;
        picked |= byte << 8 * i;
    }
    return picked;
}
inline double __longlong_as_double(long long bits) { return std::bit_cast<double>(bits); }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __dadd_rn(double a, double b) { return a + b; }
inline int __popc(unsigned bits) { return std::popcount(bits); }
inline int __popcll(unsigned long long bits) { return std::popcount(bits); }
inline int __clz(int bits) { return std::countl_zero(static_cast<unsigned>(bits)); }
inline int __ffs(int bits) { return bits == 0 ? 0 : std::countr_zero(static_cast<unsigned>(bits)) + 1; }
template <typename T>
T __ldg(const T* at) { return *at; }
using std::max;
using std::min;
