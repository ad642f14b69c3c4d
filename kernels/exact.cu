// Exact scores of stored rows for queries, each with its own mask: the best of each tile, or of every row that is asked
// for. Rows that no query of a block wants are not read.
//
// Compiled for one shape at a time, by these macros: KIND (of Kind), IS_L2, LANES (a power of two to 32), CHUNKS, QUERIES,
// FEATURE_ROUNDS (0 where scores are similarities alone). See scored.cuh.
#include "scored.cuh"

constexpr unsigned WARPS = 4;

struct TileBest {
    Stored stored;
    Fused fused;
    const float* queries;
    const unsigned* const* masks;  // one for each query: bits from row 0 on; null where every row passes
    Key* best;                     // [n_queries, n_tiles]: the best key of each tile, NOTHING where none passes
    unsigned n_queries;
    unsigned first_row;
    unsigned end_row;
    unsigned first_tile;
    unsigned n_tiles;
};

// The best key of each tile of rows [first_row, end_row), for QUERIES queries: grid (tiles, groups of queries).
extern "C" __global__ void __launch_bounds__(WARPS * WARP_LANES) tile_best(const TileBest given) {
    __shared__ Key of_warps[WARPS][QUERIES];
    const unsigned warp = threadIdx.x / WARP_LANES, first = blockIdx.y * QUERIES;
    Queries queries;
    queries.load(given.stored, given.fused, given.queries, first, given.n_queries);
    Key best[QUERIES];
#pragma unroll
    for (unsigned q = 0; q < QUERIES; ++q) best[q] = NOTHING;
    const unsigned tile_row = (given.first_tile + blockIdx.x) * TILE_ROWS;
    const unsigned own = threadIdx.x % WARP_LANES / LANES;
    for (unsigned word = warp; word < TILE_ROWS / 32; word += WARPS) {
        const unsigned word_row = tile_row + 32 * word;
        unsigned wanted[QUERIES], any = 0;
#pragma unroll
        for (unsigned q = 0; q < QUERIES; ++q) {
            wanted[q] = first + q < given.n_queries
                ? wanted_rows(given.masks[first + q], word_row, given.first_row, given.end_row) : 0;
            any |= wanted[q];
        }
        if (any == 0) continue;
        for (unsigned i = 0; i < 32; i += ROWS_AT_ONCE) {
            const unsigned bit = i + own;
            float scores[QUERIES];
            score_row(given.stored, given.fused, queries, word_row + bit, any >> bit & 1u, scores);
#pragma unroll
            for (unsigned q = 0; q < QUERIES; ++q) {
                const Key key = wanted[q] >> bit & 1u ? key_of(scores[q], word_row + bit) : NOTHING;
                best[q] = key > best[q] ? key : best[q];
            }
        }
    }
#pragma unroll
    for (unsigned q = 0; q < QUERIES; ++q) {
        const Key largest = largest_of_warp(best[q]);
        if (threadIdx.x % WARP_LANES == 0) of_warps[warp][q] = largest;
    }
    __syncthreads();
    if (threadIdx.x < QUERIES && first + threadIdx.x < given.n_queries) {
        Key largest = NOTHING;
        for (unsigned w = 0; w < WARPS; ++w)
            largest = of_warps[w][threadIdx.x] > largest ? of_warps[w][threadIdx.x] : largest;
        given.best[static_cast<size_t>(first + threadIdx.x) * given.n_tiles + blockIdx.x] = largest;
    }
}
HOST_ENTRY(tile_best, TileBest)

struct ScoreAll {
    Stored stored;
    Fused fused;
    const float* queries;
    const unsigned* const* masks;
    Key* keys;  // [n_queries, end_row - first_row]: of each row that passes, else NOTHING
    unsigned n_queries;
    unsigned first_row;
    unsigned end_row;
};

// Every row of [first_row, end_row), for QUERIES queries: grid (tiles from first_row on, groups of queries).
extern "C" __global__ void __launch_bounds__(WARPS * WARP_LANES) score_all(const ScoreAll given) {
    const unsigned warp = threadIdx.x / WARP_LANES, first = blockIdx.y * QUERIES;
    const unsigned n_rows = given.end_row - given.first_row;
    Queries queries;
    queries.load(given.stored, given.fused, given.queries, first, given.n_queries);
    for (unsigned i = warp * ROWS_AT_ONCE; i < TILE_ROWS; i += WARPS * ROWS_AT_ONCE) {
        const unsigned place = blockIdx.x * TILE_ROWS + i + threadIdx.x % WARP_LANES / LANES;
        const unsigned row = given.first_row + place;
        bool wanted[QUERIES], any = false;
#pragma unroll
        for (unsigned q = 0; q < QUERIES; ++q) {
            const unsigned* mask = first + q < given.n_queries ? given.masks[first + q] : nullptr;
            wanted[q] = place < n_rows && first + q < given.n_queries;
            if (wanted[q] && mask != nullptr) wanted[q] = __ldg(mask + row / 32) >> row % 32 & 1u;
            any = any || wanted[q];
        }
        float scores[QUERIES];
        score_row(given.stored, given.fused, queries, row, any, scores);
        if (threadIdx.x % LANES != 0 || place >= n_rows) continue;
#pragma unroll
        for (unsigned q = 0; q < QUERIES; ++q)
            if (first + q < given.n_queries)
                given.keys[static_cast<size_t>(first + q) * n_rows + place] =
                    wanted[q] ? key_of(scores[q], row) : NOTHING;
    }
}
HOST_ENTRY(score_all, ScoreAll)

struct ScoreTiles {
    Stored stored;
    Fused fused;
    const float* queries;
    const unsigned* const* masks;
    const Key* tiles;  // [n_queries, n_chosen]: keys of rows whose tiles are scored, NOTHING for none
    Key* keys;         // [n_queries, n_chosen * TILE_ROWS]: of each row that passes, else NOTHING
    unsigned n_chosen;
    unsigned first_row;
    unsigned end_row;
};

// Every row of chosen tiles for one query each: grid (n_chosen, n_queries). QUERIES is 1.
extern "C" __global__ void __launch_bounds__(WARPS * WARP_LANES) score_tiles(const ScoreTiles given) {
    const unsigned warp = threadIdx.x / WARP_LANES, query = blockIdx.y;
    const size_t place = static_cast<size_t>(query) * given.n_chosen + blockIdx.x;
    const Key chosen = given.tiles[place];
    Key* keys = given.keys + place * TILE_ROWS;
    Queries queries;
    queries.load(given.stored, given.fused, given.queries, query, query + 1);
    const unsigned* mask = given.masks[query];
    const unsigned tile_row = row_of(chosen) / TILE_ROWS * TILE_ROWS;
    for (unsigned i = warp * ROWS_AT_ONCE; i < TILE_ROWS; i += WARPS * ROWS_AT_ONCE) {
        const unsigned at = i + threadIdx.x % WARP_LANES / LANES, row = tile_row + at;
        bool is_wanted = chosen != NOTHING && row >= given.first_row && row < given.end_row;
        if (is_wanted && mask != nullptr) is_wanted = __ldg(mask + row / 32) >> row % 32 & 1u;
        float scores[QUERIES];
        score_row(given.stored, given.fused, queries, row, is_wanted, scores);
        if (threadIdx.x % LANES == 0) keys[at] = is_wanted ? key_of(scores[0], row) : NOTHING;
    }
}
HOST_ENTRY(score_tiles, ScoreTiles)

struct BestOfTiles {
    Stored stored;
    Fused fused;
    const float* queries;
    const unsigned* const* masks;
    Key* keys;                        // query b's are keys[starts[b]] to keys[ends[b]]: of any row of a tile, overwritten
    const unsigned long long* starts;
    const unsigned long long* ends;
    unsigned first_row;
    unsigned end_row;
};

// The best key of each tile that a query names: grid (blocks, n_queries), of which a block takes every gridDim.x-th tile.
// QUERIES is 1.
extern "C" __global__ void __launch_bounds__(WARPS * WARP_LANES) best_of_tiles(const BestOfTiles given) {
    __shared__ Key of_warps[WARPS];
    const unsigned warp = threadIdx.x / WARP_LANES, query = blockIdx.y;
    const unsigned long long first = given.starts[query] + blockIdx.x, end = given.ends[query];
    if (first >= end) return;
    Queries queries;
    queries.load(given.stored, given.fused, given.queries, query, query + 1);
    const unsigned* mask = given.masks[query];
    for (unsigned long long at = first; at < end; at += gridDim.x) {
        const unsigned word_row = row_of(given.keys[at]) / TILE_ROWS * TILE_ROWS + 32 * warp;
        const unsigned wanted = wanted_rows(mask, word_row, given.first_row, given.end_row);
        Key best = NOTHING;
        for (unsigned i = 0; i < 32; i += ROWS_AT_ONCE) {
            const unsigned bit = i + threadIdx.x % WARP_LANES / LANES;
            float scores[QUERIES];
            score_row(given.stored, given.fused, queries, word_row + bit, wanted >> bit & 1u, scores);
            const Key key = wanted >> bit & 1u ? key_of(scores[0], word_row + bit) : NOTHING;
            best = key > best ? key : best;
        }
        best = largest_of_warp(best);
        if (threadIdx.x % WARP_LANES == 0) of_warps[warp] = best;
        __syncthreads();
        if (threadIdx.x == 0) {
            for (unsigned w = 0; w < WARPS; ++w) best = of_warps[w] > best ? of_warps[w] : best;
            given.keys[at] = best;
        }
        __syncthreads();
    }
}
HOST_ENTRY(best_of_tiles, BestOfTiles)

struct ScoreRows {
    Stored stored;
    Fused fused;
    const float* queries;
    const unsigned* rows;              // query b's are rows[starts[b]] to rows[starts[b + 1]]; any order
    const unsigned long long* starts;  // [n_queries + 1]
    Key* keys;                         // of each row that lies below end_row, else NOTHING
    unsigned end_row;
};

// The rows that each query lists: grid (blocks, n_queries), of which a block takes every gridDim.x-th part. QUERIES is 1.
extern "C" __global__ void __launch_bounds__(WARPS * WARP_LANES) score_rows(const ScoreRows given) {
    const unsigned warp = threadIdx.x / WARP_LANES, query = blockIdx.y;
    const unsigned long long start = given.starts[query], end = given.starts[query + 1];
    Queries queries;
    queries.load(given.stored, given.fused, given.queries, query, query + 1);
    const unsigned long long step = static_cast<unsigned long long>(gridDim.x) * WARPS * ROWS_AT_ONCE;
    for (unsigned long long i = start + (blockIdx.x * WARPS + warp) * ROWS_AT_ONCE; i < end; i += step) {
        const unsigned long long at = i + threadIdx.x % WARP_LANES / LANES;
        const unsigned row = at < end ? given.rows[at] : ALL_LANES;
        const bool is_wanted = row < given.end_row;
        float scores[QUERIES];
        score_row(given.stored, given.fused, queries, is_wanted ? row : 0, is_wanted, scores);
        if (threadIdx.x % LANES == 0 && at < end) given.keys[at] = is_wanted ? key_of(scores[0], row) : NOTHING;
    }
}
HOST_ENTRY(score_rows, ScoreRows)

struct ScoreKeys {
    Stored stored;
    Fused fused;
    const float* queries;
    Key* keys;  // [n_queries, width]: of rows by some other score, in any order, or NOTHING; overwritten
    unsigned width;
    unsigned end_row;
};

// The rows that each query has keys of, scored exactly: grid (blocks, n_queries) as for score_rows. QUERIES is 1.
extern "C" __global__ void __launch_bounds__(WARPS * WARP_LANES) score_keys(const ScoreKeys given) {
    const unsigned warp = threadIdx.x / WARP_LANES, query = blockIdx.y;
    Key* keys = given.keys + static_cast<size_t>(query) * given.width;
    Queries queries;
    queries.load(given.stored, given.fused, given.queries, query, query + 1);
    const unsigned step = gridDim.x * WARPS * ROWS_AT_ONCE;
    for (unsigned i = (blockIdx.x * WARPS + warp) * ROWS_AT_ONCE; i < given.width; i += step) {
        const unsigned at = i + threadIdx.x % WARP_LANES / LANES;
        const Key key = at < given.width ? keys[at] : NOTHING;
        const unsigned row = row_of(key);
        const bool is_wanted = key != NOTHING && row < given.end_row;
        float scores[QUERIES];
        score_row(given.stored, given.fused, queries, row, is_wanted, scores);
        // Every lane of the row has read its key before one of them writes it: they exchanged their sums in between.
        if (threadIdx.x % LANES == 0 && at < given.width) keys[at] = is_wanted ? key_of(scores[0], row) : NOTHING;
    }
}
HOST_ENTRY(score_keys, ScoreKeys)
