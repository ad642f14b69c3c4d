// The k-th largest of many keys, by all threads of a block: its digits one after another, each counted over the keys that
// share those before it, until one alone does.
#pragma once

#include "common.cuh"

constexpr unsigned DIGITS = 256;
constexpr unsigned DIGITS_PER_LANE = DIGITS / WARP_LANES;

constexpr unsigned KEYS_AT_ONCE = 4;

// Calls ``visit`` with each of this thread's part of n keys, of which several are on their way from memory at a time.
template <typename Visit>
__device__ __forceinline__ void visit_keys(const Key* keys, unsigned long long n, Visit visit) {
    const unsigned long long step = blockDim.x;
    unsigned long long first = threadIdx.x;
    for (; first + (KEYS_AT_ONCE - 1) * step < n; first += KEYS_AT_ONCE * step) {
        Key own[KEYS_AT_ONCE];
#pragma unroll
        for (unsigned i = 0; i < KEYS_AT_ONCE; ++i) own[i] = keys[first + i * step];
#pragma unroll
        for (unsigned i = 0; i < KEYS_AT_ONCE; ++i) visit(own[i]);
    }
    for (; first < n; first += step) visit(keys[first]);
}

// The bits from LOW on of the k-th largest of n keys, the others 0; NOTHING where there are fewer than k.
template <int LOW>
__device__ __forceinline__ Key kth_largest(const Key* keys, unsigned long long n, unsigned k) {
    __shared__ unsigned counts[DIGITS];
    __shared__ Key found;
    __shared__ unsigned wanted, n_alike;
    if (threadIdx.x == 0) {
        found = NOTHING;
        wanted = k;
    }
    for (int shift = 56; shift >= LOW; shift -= 8) {
        for (unsigned digit = threadIdx.x; digit < DIGITS; digit += blockDim.x) counts[digit] = 0;
        __syncthreads();
        const Key above = shift == 56 ? 0 : found >> (shift + 8);
        visit_keys(keys, n, [&](Key key) {
            if ((shift == 56 ? 0 : key >> (shift + 8)) == above) atomicAdd(&counts[key >> shift & (DIGITS - 1)], 1u);
        });
        __syncthreads();
        if (threadIdx.x < WARP_LANES) {
            // Lane l has the l-th eight digits from the highest on.
            const unsigned highest = DIGITS - 1 - threadIdx.x * DIGITS_PER_LANE, still = wanted;
            unsigned own = 0;
            for (unsigned i = 0; i < DIGITS_PER_LANE; ++i) own += counts[highest - i];
            unsigned upto = own;
            for (unsigned distance = 1; distance < WARP_LANES; distance *= 2) {
                const unsigned before = __shfl_up_sync(ALL_LANES, upto, distance);
                if (threadIdx.x >= distance) upto += before;
            }
            const bool is_last = threadIdx.x == WARP_LANES - 1;
            if (upto - own < still && (still <= upto || is_last)) {
                unsigned digit = highest, left = still - (upto - own);
                for (unsigned i = 1; i < DIGITS_PER_LANE && counts[digit] < left; ++i) left -= counts[digit--];
                found |= static_cast<Key>(digit) << shift;
                wanted = left;
                n_alike = counts[digit];
            }
        }
        __syncthreads();
        if (n_alike == 1 && wanted == 1 && shift > LOW) {
            const Key digits = found >> shift;
            __syncthreads();
            visit_keys(keys, n, [&](Key key) {
                if (key >> shift == digits) found = key >> LOW << LOW;
            });
            __syncthreads();
            break;
        }
    }
    const Key result = found;
    __syncthreads();
    return result;
}
