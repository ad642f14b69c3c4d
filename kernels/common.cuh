// What all kernels share. Rows are numbered from 0 to below 2^32; a larger key is a better hit.
#pragma once

#ifdef EBR_HOST
#include "host_shim.h"
#endif

// What a vector's values are stored as.
enum Kind { FLOAT16 = 0, BFLOAT16 = 1, FLOAT32 = 2 };

typedef unsigned long long Key;

constexpr unsigned WARP_LANES = 32;
constexpr unsigned ALL_LANES = 0xffffffffu;
constexpr Key NOTHING = 0;
constexpr unsigned SEGMENT_ROWS = 65536;

// A score and its row in one number that orders as hits do: larger scores first, ties to the smaller row. What is not a
// number ranks as -inf, and -0 as 0.
__device__ __forceinline__ Key key_of(float score, unsigned row) {
    const float ranked = score == score ? score + 0.0f : __uint_as_float(0xff800000u);
    const unsigned bits = __float_as_uint(ranked);
    const unsigned ordered = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
    return static_cast<Key>(ordered) << 32 | static_cast<unsigned>(~row);
}

__device__ __forceinline__ unsigned row_of(Key key) { return ~static_cast<unsigned>(key); }

__device__ __forceinline__ float score_of(Key key) {
    const unsigned ordered = static_cast<unsigned>(key >> 32);
    return __uint_as_float(ordered & 0x80000000u ? ordered & 0x7fffffffu : ~ordered);
}

__device__ __forceinline__ float from_float16(unsigned bits) {
#ifdef EBR_HOST
    const unsigned sign = (bits & 0x8000u) << 16, exponent = bits >> 10 & 31u, fraction = bits & 0x3ffu;
    if (exponent == 0) return __uint_as_float(sign | __float_as_uint(fraction * 0x1p-24f));
    if (exponent == 31) return __uint_as_float(sign | 0x7f800000u | fraction << 13);
    return __uint_as_float(sign | (exponent + 112u) << 23 | fraction << 13);
#else
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(static_cast<unsigned short>(bits)));
    return value;
#endif
}

__device__ __forceinline__ float from_bfloat16(unsigned bits) { return __uint_as_float(bits << 16); }

// The largest value of a warp's lanes, in each of them.
__device__ __forceinline__ Key largest_of_warp(Key mine) {
    for (int distance = WARP_LANES / 2; distance > 0; distance /= 2) {
        const Key theirs = __shfl_xor_sync(ALL_LANES, mine, distance);
        mine = theirs > mine ? theirs : mine;
    }
    return mine;
}

#ifdef EBR_HOST
#define HOST_ENTRY(kernel, Arguments)                                                                   \
    extern "C" void host_##kernel(const Arguments* arguments, unsigned x, unsigned y, unsigned threads) { \
        shim::launch(kernel, *arguments, dim3{x, y, 1}, threads);                                        \
    }
#else
#define HOST_ENTRY(kernel, Arguments)
#endif
