// What a score has beside similarity: scales[b] * similarity + <weights[b], features[r]> + extras[b][r], as in fusion.py.
#pragma once

#include "common.cuh"

struct Fused {
    const float* const* features;  // segments of SEGMENT_ROWS rows, n_features values each
    const float* weights;          // [n_queries, n_features]
    const float* scales;           // [n_queries]
    const float* const* extras;    // one for each query: a value for each row from 0 on, null where it has none; or null
    unsigned n_features;
};

// Null where there are no features.
__device__ __forceinline__ const float* features_of(const Fused& fused, unsigned row) {
    if (fused.n_features == 0) return nullptr;
    return fused.features[row / SEGMENT_ROWS] + static_cast<size_t>(row % SEGMENT_ROWS) * fused.n_features;
}
