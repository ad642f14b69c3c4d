// The k-th largest of many keys, by all threads of a block: its digits one after another, each counted over the keys that
// share those before it, until one alone does.
#pragma once

#include "common.cuh"

constexpr unsigned DIGITS = 256;
constexpr unsigned DIGITS_PER_LANE = DIGITS / WARP_LANES;

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
        for (unsigned long long i = threadIdx.x; i < n; i += blockDim.x)
            if ((shift == 56 ? 0 : keys[i] >> (shift + 8)) == above)
                atomicAdd(&counts[keys[i] >> shift & (DIGITS - 1)], 1u);
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
            for (unsigned long long i = threadIdx.x; i < n; i += blockDim.x)
                if (keys[i] >> shift == digits) found = keys[i] >> LOW << LOW;
            __syncthreads();
            break;
        }
    }
    const Key result = found;
    __syncthreads();
    return result;
}
