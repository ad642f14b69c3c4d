// CUDA's execution model in C++20, so that a kernel's own text runs where there is no GPU: a context of its own for each
// thread of a block, which runs as far as its next barrier; blocks one after another. For tests on tiny inputs.
//
// A kernel must not return in some threads of a block alone, nor may a warp's threads part before a warp-wide exchange.
#pragma once

// Whose check of jumps does not know of stacks other than the system's.
#undef _FORTIFY_SOURCE

#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
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
constexpr std::size_t STACK_BYTES = 256 << 10;

struct Barrier {
    explicit Barrier(unsigned all) : size(all) {}
    unsigned size, arrived = 0;
    std::uint64_t phase = 0;
};

constexpr std::size_t MOST_LEFT_BYTES = 32;

// One warp's exchange: every lane leaves a value, then all read; the next one uses the other half.
struct Warp {
    explicit Warp(unsigned lanes) : all(lanes) {}
    Barrier all;
    alignas(16) char left[2][WARP * MOST_LEFT_BYTES] = {};
};

// 16 bytes on their way to shared memory.
struct Copy {
    uint4* to;
    const uint4* from;
};

struct Thread {
    ucontext_t context = {};
    jmp_buf place = {};
    bool has_begun = false;
    std::unique_ptr<char[]> stack{new char[STACK_BYTES]};
    const Barrier* waits_at = nullptr;
    std::uint64_t waits_for = 0;
    bool is_done = false;
    std::vector<Copy> copies;

    bool may_run() const { return !is_done && (waits_at == nullptr || waits_at->phase >= waits_for); }
};

struct Block {
    explicit Block(unsigned n_threads) : all(n_threads), threads(n_threads) {
        for (unsigned first = 0; first < n_threads; first += WARP)
            warps.push_back(std::make_unique<Warp>(std::min(WARP, n_threads - first)));
    }
    Barrier all;
    std::vector<std::unique_ptr<Warp>> warps;
    std::vector<Thread> threads;
};

inline dim3 thread_idx, block_idx, block_dim, grid_dim;
inline Block* block = nullptr;
inline jmp_buf scheduler;
inline void (*body)(const void*) = nullptr;
inline const void* body_arguments = nullptr;

inline Warp& warp() { return *block->warps[thread_idx.x / WARP]; }

// On with a thread until it waits or ends. Contexts begin threads; what changes between them later are jumps, which do
// not ask the system for the signals that are blocked.
inline void go_on(Thread& thread) {
    if (_setjmp(scheduler) != 0) return;
    if (thread.has_begun) _longjmp(thread.place, 1);
    thread.has_begun = true;
    setcontext(&thread.context);
}

inline void give_way(Thread& own) {
    if (_setjmp(own.place) == 0) _longjmp(scheduler, 1);
}

inline void wait(Barrier& barrier) {
    if (++barrier.arrived == barrier.size) {
        barrier.arrived = 0;
        ++barrier.phase;
        return;
    }
    Thread& own = block->threads[thread_idx.x];
    own.waits_at = &barrier;
    own.waits_for = barrier.phase + 1;
    give_way(own);
}

// What each lane of the warp gives, until the caller's next exchange.
template <typename T>
const T* exchange_all(const T& mine) {
    static_assert(sizeof(T) <= MOST_LEFT_BYTES);
    Warp& own = warp();
    T* left = reinterpret_cast<T*>(own.left[own.all.phase % 2]);
    left[thread_idx.x % WARP] = mine;
    wait(own.all);
    return left;
}

template <typename T>
T exchange(T mine, unsigned lane) {
    return exchange_all(mine)[lane % WARP];
}

// As asynchronous copies may: nothing arrives before it is waited for.
inline void copy_later(uint4* to, const uint4* from) { block->threads[thread_idx.x].copies.push_back({to, from}); }

inline void wait_for_copies() {
    std::vector<Copy>& copies = block->threads[thread_idx.x].copies;
    for (const Copy& one : copies) *one.to = *one.from;
    copies.clear();
}

inline void start() {
    block->threads[thread_idx.x].copies.clear();
    body(body_arguments);
    block->threads[thread_idx.x].is_done = true;
    _longjmp(scheduler, 1);
}

// Threads [first, end) as far as they get by themselves; false where none could run. How many are left is counted down.
inline bool run_warp(unsigned first, unsigned end, unsigned& left) {
    bool has_run = false;
    for (bool goes_on = true, is_back = false; goes_on; is_back = !is_back) {
        goes_on = false;
        for (unsigned turn = first; turn < end; ++turn) {
            const unsigned thread = is_back ? end - 1 - (turn - first) : turn;
            Thread& next = block->threads[thread];
            if (!next.may_run()) continue;
            goes_on = has_run = true;
            thread_idx = {thread, 0, 0};
            go_on(next);
            left -= next.is_done;
        }
    }
    return has_run;
}

// Until all threads are through: warp after warp, each as far as the next barrier of the block, forwards and backwards by
// turns, so that a barrier that is missing shows whoever writes and whoever reads.
inline void run_block(unsigned n_threads) {
    for (unsigned thread = 0; thread < n_threads; ++thread) {
        Thread& own = block->threads[thread];
        getcontext(&own.context);
        own.context.uc_stack.ss_sp = own.stack.get();
        own.context.uc_stack.ss_size = STACK_BYTES;
        own.has_begun = false;
        own.waits_at = nullptr;
        own.is_done = false;
        makecontext(&own.context, start, 0);
    }
    const unsigned n_warps = (n_threads + WARP - 1) / WARP;
    for (unsigned left = n_threads, sweep = 0; left > 0; ++sweep) {
        bool has_run = false;
        for (unsigned turn = 0; turn < n_warps; ++turn) {
            const unsigned warp = sweep % 2 ? n_warps - 1 - turn : turn;
            has_run |= run_warp(warp * WARP, std::min(n_threads, (warp + 1) * WARP), left);
        }
        if (!has_run) {
            std::fprintf(stderr, "a barrier is not reached by all threads\n");
            std::abort();
        }
    }
}

template <typename Kernel, typename Arguments>
void launch(Kernel kernel, const Arguments& arguments, dim3 grid, unsigned threads) {
    static Kernel* started = nullptr;
    started = &kernel;
    body = [](const void* given) { (*started)(*static_cast<const Arguments*>(given)); };
    body_arguments = &arguments;
    Block shared(threads);
    block = &shared;
    block_dim = {threads, 1, 1};
    grid_dim = grid;
    for (unsigned y = 0; y < grid.y; ++y)
        for (unsigned x = 0; x < grid.x; ++x) {
            block_idx = {x, y, 0};
            run_block(threads);
        }
}

}  // namespace shim

#define threadIdx shim::thread_idx
#define blockIdx shim::block_idx
#define blockDim shim::block_dim
#define gridDim shim::grid_dim

inline void __syncthreads() { shim::wait(shim::block->all); }
inline void __syncwarp() { shim::wait(shim::warp().all); }

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
T atomicAdd(T* at, T value) {
    const T before = *at;
    *at += value;
    return before;
}
template <typename T>
T atomicMax(T* at, T value) {
    const T before = *at;
    *at = std::max(before, value);
    return before;
}

inline unsigned __float_as_uint(float value) { return std::bit_cast<unsigned>(value); }
inline float __uint_as_float(unsigned bits) { return std::bit_cast<float>(bits); }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fsqrt_rn(float a) { return std::sqrt(a); }
// Four bytes out of eight, by the lower three bits of each of the selector's nibbles.
inline unsigned __byte_perm(unsigned low, unsigned high, unsigned selector) {
    const std::uint64_t bytes = static_cast<std::uint64_t>(high) << 32 | low;
    unsigned picked = 0;
    for (unsigned i = 0; i < 4; ++i) {
        const unsigned nibble = selector >> 4 * i & 7u;
        picked |= static_cast<unsigned>(bytes >> 8 * nibble & 255u) << 8 * i;
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
