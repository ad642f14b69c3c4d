// Scores of stored rows for QUERIES queries, which stay in registers.
//
// A row is read by LANES lanes, 16 bytes each and CHUNKS times; where scores are fused its features too, one each and
// FEATURE_ROUNDS times. Macros as in exact.cu.
#pragma once

#include "fused.cuh"
#include "stored.cuh"

constexpr unsigned ROWS_AT_ONCE = WARP_LANES / LANES;
constexpr bool IS_FUSED = FEATURE_ROUNDS > 0;
constexpr int FEATURE_SLOTS = IS_FUSED ? FEATURE_ROUNDS : 1;

// What this lane holds of the queries from ``first`` on: zeros beyond the last.
struct Queries {
    float values[QUERIES][CHUNKS * VALUES];
    float weights[QUERIES][FEATURE_SLOTS];
    float scales[QUERIES];
    unsigned first;
    unsigned n;

    __device__ __forceinline__ void load(
        const Stored& stored, const Fused& fused, const float* queries, unsigned first_query, unsigned n_queries) {
        const unsigned lane = threadIdx.x % LANES;
        first = first_query;
        n = n_queries;
#pragma unroll
        for (unsigned q = 0; q < QUERIES; ++q)
#pragma unroll
            for (unsigned i = 0; i < CHUNKS * VALUES; ++i) {
                const unsigned at = (i / VALUES * LANES + lane) * VALUES + i % VALUES;
                const bool is_there = first + q < n && at < stored.width;
                values[q][i] = is_there ? queries[static_cast<size_t>(first + q) * stored.width + at] : 0.0f;
            }
        if (IS_FUSED) load_weights(fused);
    }

    __device__ __forceinline__ void load_weights(const Fused& fused) {
#pragma unroll
        for (unsigned q = 0; q < QUERIES; ++q) {
            scales[q] = first + q < n ? fused.scales[first + q] : 0.0f;
#pragma unroll
            for (int i = 0; i < FEATURE_SLOTS; ++i) {
                const unsigned at = i * LANES + threadIdx.x % LANES;
                const bool is_there = first + q < n && at < fused.n_features;
                weights[q][i] = is_there ? fused.weights[static_cast<size_t>(first + q) * fused.n_features + at] : 0.0f;
            }
        }
    }

    // What this lane has of a row's similarities becomes its part of the scores.
    __device__ __forceinline__ void fuse(const float* features, float* scores) const {
#pragma unroll
        for (unsigned q = 0; q < QUERIES; ++q) {
            // Not to be rounded otherwise in one build than in another: a row has one score.
            scores[q] = __fmul_rn(scales[q], scores[q]);
#pragma unroll
            for (int i = 0; i < FEATURE_SLOTS; ++i) scores[q] += features[i] * weights[q][i];
        }
    }

    // Adds what the row itself gets from each query.
    __device__ __forceinline__ void add_extras(const Fused& fused, unsigned row, float* scores) const {
#pragma unroll
        for (unsigned q = 0; q < QUERIES; ++q) {
            const float* extra = first + q < n ? fused.extras[first + q] : nullptr;
            if (extra != nullptr) scores[q] += __ldg(extra + row);
        }
    }
};

// This lane's part of a row's features; zeros where there are no more.
__device__ __forceinline__ void read_features(const Fused& fused, unsigned row, bool is_read, float* features) {
    const float* from = is_read ? features_of(fused, row) : nullptr;
#pragma unroll
    for (int i = 0; i < FEATURE_SLOTS; ++i) {
        const unsigned at = i * LANES + threadIdx.x % LANES;
        features[i] = from != nullptr && at < fused.n_features ? __ldg(from + at) : 0.0f;
    }
}

// Scores of a row for all queries, in each of its lanes; the whole warp takes part. ``is_read``: of this lane's row.
__device__ __forceinline__ void score_row(
    const Stored& stored, const Fused& fused, const Queries& queries, unsigned row, bool is_read, float* scores) {
    const unsigned lane = threadIdx.x % LANES;
    const uint4* at = nullptr;
    if (is_read) at = stored.segments[row / SEGMENT_ROWS] + static_cast<size_t>(row % SEGMENT_ROWS) * stored.row_chunks;
    uint4 chunks[CHUNKS];
#pragma unroll
    for (unsigned c = 0; c < CHUNKS; ++c) {
        const unsigned place = c * LANES + lane;
        chunks[c] = is_read && place < stored.row_chunks ? __ldg(at + place) : uint4{0, 0, 0, 0};
    }
    float features[FEATURE_SLOTS];
    if (IS_FUSED) read_features(fused, row, is_read, features);
#pragma unroll
    for (unsigned q = 0; q < QUERIES; ++q) scores[q] = 0.0f;
#pragma unroll
    for (unsigned c = 0; c < CHUNKS; ++c) {
        float values[VALUES];
        widen(chunks[c], values);
#pragma unroll
        for (unsigned q = 0; q < QUERIES; ++q)
#pragma unroll
            for (unsigned i = 0; i < VALUES; ++i) {
                const float asked = queries.values[q][c * VALUES + i];
                const float difference = values[i] - asked;
                scores[q] += IS_L2 ? -difference * difference : values[i] * asked;
            }
    }
    if (IS_FUSED) queries.fuse(features, scores);
#pragma unroll
    for (unsigned q = 0; q < QUERIES; ++q)
#pragma unroll
        for (unsigned distance = LANES / 2; distance > 0; distance /= 2)
            scores[q] += __shfl_xor_sync(ALL_LANES, scores[q], distance);
    if (IS_FUSED && is_read && fused.extras != nullptr) queries.add_extras(fused, row, scores);
}
