// The k largest keys of each query, best first: a radix select finds the k-th, then those that are no less are sorted. And
// the tiles that may have one of the k best, where only bounds of their best are known.
#include "radix.cuh"

constexpr unsigned THREADS = 1024;
constexpr unsigned SORTED_IN_BLOCK = 2048;

struct SelectBest {
    const Key* keys;                   // query b's are keys[starts[b]] to keys[ends[b]]: NOTHING, or none twice
    const unsigned long long* starts;  // [n_queries]
    const unsigned long long* ends;    // [n_queries]
    Key* kept;                         // [n_queries, width]: working memory, width the power of two from k on
    Key* best;                         // [n_queries, k], padded with NOTHING
    unsigned k;
    unsigned width;
};

// Descending, by all threads of the block; ``width`` is a power of two.
__device__ __forceinline__ void sort_keys(Key* keys, unsigned width) {
    for (unsigned run = 2; run <= width; run *= 2)
        for (unsigned distance = run / 2; distance > 0; distance /= 2) {
            for (unsigned i = threadIdx.x; i < width; i += blockDim.x) {
                const unsigned other = i ^ distance;
                const Key mine = keys[i], theirs = keys[other];
                if (other > i && (i & run ? mine > theirs : mine < theirs)) {
                    keys[i] = theirs;
                    keys[other] = mine;
                }
            }
            __syncthreads();
        }
}

// A block for each query: grid (n_queries).
extern "C" __global__ void __launch_bounds__(THREADS) select_best(const SelectBest given) {
    __shared__ Key in_block[SORTED_IN_BLOCK];
    __shared__ unsigned n_kept;
    const unsigned query = blockIdx.x;
    const Key* keys = given.keys + given.starts[query];
    const unsigned long long n = given.ends[query] - given.starts[query];
    const Key kth = kth_largest<0>(keys, n, given.k);
    const Key least = kth == NOTHING ? 1 : kth;
    Key* kept = given.width <= SORTED_IN_BLOCK ? in_block : given.kept + static_cast<size_t>(query) * given.width;
    if (threadIdx.x == 0) n_kept = 0;
    for (unsigned i = threadIdx.x; i < given.width; i += blockDim.x) kept[i] = NOTHING;
    __syncthreads();
    visit_keys(keys, n, [&](Key key) {
        if (key >= least) kept[atomicAdd(&n_kept, 1u)] = key;
    });
    __syncthreads();
    sort_keys(kept, given.width);
    for (unsigned i = threadIdx.x; i < given.k; i += blockDim.x)
        given.best[static_cast<size_t>(query) * given.k + i] = kept[i];
}
HOST_ENTRY(select_best, SelectBest)

struct NearTiles {
    Key* keys;                  // [n_queries, n_tiles]: of the least that a tile's best may score, NOTHING for no row
    const float* slacks;        // [n_queries]
    const float* lengths;       // [parts of ``part_queries``, n_tiles]: the best scores no more than the least plus twice
    unsigned long long* ends;   // [n_queries]           both multiplied
    unsigned n_tiles;
    unsigned k;
    unsigned part_queries;
};

// Moves the keys of tiles that may be among the k best to the front of each query's: grid (n_queries). ``ends``: behind
// their last.
//
// Of k tiles the best is no less than the k-th largest key. A tile whose best can only be less than that has k before it.
// Ties are kept: keys order them by row, in which the tiles are ordered too.
extern "C" __global__ void __launch_bounds__(THREADS) near_tiles(const NearTiles given) {
    __shared__ unsigned n_near;
    const unsigned query = blockIdx.x;
    Key* keys = given.keys + static_cast<size_t>(query) * given.n_tiles;
    const float* lengths = given.lengths + static_cast<size_t>(query / given.part_queries) * given.n_tiles;
    const float twice = 2 * given.slacks[query];
    const Key kth = kth_largest<0>(keys, given.n_tiles, given.k);
    if (threadIdx.x == 0) n_near = 0;
    for (unsigned first = threadIdx.x; first - threadIdx.x < given.n_tiles; first += KEYS_AT_ONCE * blockDim.x) {
        Key near[KEYS_AT_ONCE];
#pragma unroll
        for (unsigned i = 0; i < KEYS_AT_ONCE; ++i) {
            const unsigned tile = first + i * blockDim.x;
            const Key key = tile < given.n_tiles ? keys[tile] : NOTHING;
            const float most = key == NOTHING ? 0.0f : score_of(key) + twice * lengths[tile];
            // Where nothing is known, which is where sums have no bounds, a tile is near.
            near[i] = most != most || key_of(most, row_of(key)) >= kth ? key : NOTHING;
        }
        // All have read theirs: one that is near moves to the front of these or further.
        __syncthreads();
#pragma unroll
        for (unsigned i = 0; i < KEYS_AT_ONCE; ++i)
            if (near[i] != NOTHING) keys[atomicAdd(&n_near, 1u)] = near[i];
    }
    __syncthreads();
    if (threadIdx.x == 0) given.ends[query] = static_cast<unsigned long long>(query) * given.n_tiles + n_near;
}
HOST_ENTRY(near_tiles, NearTiles)

struct HitsOfKeys {
    const Key* keys;
    long long* rows;  // -1 where there is NOTHING
    float* scores;    // -inf where there is NOTHING
    unsigned long long n;
};

// Keys as rows and scores: grid (blocks), of which each takes every gridDim.x-th part.
extern "C" __global__ void __launch_bounds__(THREADS) hits_of_keys(const HitsOfKeys given) {
    const unsigned long long step = static_cast<unsigned long long>(gridDim.x) * blockDim.x;
    for (unsigned long long i = blockIdx.x * blockDim.x + threadIdx.x; i < given.n; i += step) {
        const Key key = given.keys[i];
        given.rows[i] = key == NOTHING ? -1 : static_cast<long long>(row_of(key));
        given.scores[i] = key == NOTHING ? __uint_as_float(0xff800000u) : score_of(key);
    }
}
HOST_ENTRY(hits_of_keys, HitsOfKeys)
