// Stored rows as kernels read them, and which of a tile's rows a query wants. KIND (of Kind) is a macro.
#pragma once

#include "common.cuh"

constexpr unsigned TILE_ROWS = 128;
constexpr unsigned VALUES = KIND == FLOAT32 ? 4 : 8;

// Rows in segments of SEGMENT_ROWS, of ``row_chunks`` * 16 bytes each: vectors are padded to whole chunks with zeros, and
// queries float32 likewise to ``width`` values. A tile lies in one segment.
struct Stored {
    const uint4* const* segments;
    unsigned row_chunks;
    unsigned width;
};

__device__ __forceinline__ void widen(const uint4 chunk, float* values) {
    const unsigned words[4] = {chunk.x, chunk.y, chunk.z, chunk.w};
#pragma unroll
    for (unsigned i = 0; i < 4; ++i) {
        if (KIND == FLOAT32) {
            values[i] = __uint_as_float(words[i]);
        } else if (KIND == FLOAT16) {
            values[2 * i] = from_float16(words[i] & 0xffffu);
            values[2 * i + 1] = from_float16(words[i] >> 16);
        } else {
            values[2 * i] = from_bfloat16(words[i] & 0xffffu);
            values[2 * i + 1] = from_bfloat16(words[i] >> 16);
        }
    }
}

// Which of the 32 rows from ``word_row`` on pass a mask, null where every row does, and lie in [first_row, end_row).
__device__ __forceinline__ unsigned wanted_rows(
    const unsigned* mask, unsigned word_row, unsigned first_row, unsigned end_row) {
    if (word_row >= end_row) return 0;
    unsigned wanted = mask == nullptr ? ALL_LANES : __ldg(mask + word_row / 32);
    if (word_row + 32 > end_row) wanted &= ALL_LANES >> (word_row + 32 - end_row);
    if (word_row < first_row) wanted &= first_row - word_row < 32 ? ALL_LANES << (first_row - word_row) : 0;
    return wanted;
}
