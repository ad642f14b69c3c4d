// The k largest keys of each query, best first: a radix select finds the k-th, then those that are no less are sorted.
#include "radix.cuh"

constexpr unsigned THREADS = 1024;
constexpr unsigned SORTED_IN_BLOCK = 2048;

struct SelectBest {
    const Key* keys;                   // query b's are keys[starts[b]] to keys[starts[b + 1]]: NOTHING, or none twice
    const unsigned long long* starts;  // [n_queries + 1]
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
    const unsigned long long n = given.starts[query + 1] - given.starts[query];
    const Key kth = kth_largest<0>(keys, n, given.k);
    const Key least = kth == NOTHING ? 1 : kth;
    Key* kept = given.width <= SORTED_IN_BLOCK ? in_block : given.kept + static_cast<size_t>(query) * given.width;
    if (threadIdx.x == 0) n_kept = 0;
    for (unsigned i = threadIdx.x; i < given.width; i += blockDim.x) kept[i] = NOTHING;
    __syncthreads();
    for (unsigned long long i = threadIdx.x; i < n; i += blockDim.x)
        if (keys[i] >= least) kept[atomicAdd(&n_kept, 1u)] = keys[i];
    __syncthreads();
    sort_keys(kept, given.width);
    for (unsigned i = threadIdx.x; i < given.k; i += blockDim.x)
        given.best[static_cast<size_t>(query) * given.k + i] = kept[i];
}
HOST_ENTRY(select_best, SelectBest)

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
