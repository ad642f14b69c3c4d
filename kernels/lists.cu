// Inverted lists of 4-bit codes, as ``packed_lists.py`` lays them out: a block of threads for each query goes through its
// lists wave by wave and keeps what may be among its candidates.
//
// A wave is as many lists as have ROUND_BLOCKS blocks together, or more where one list has; before each the query asks
// whether the next list is worth it. ``reference_lists.scan_lists_in_waves`` is the definition.
//
// A product's table has 16 bytes, one for each centroid of a part: four bytes of codes are looked up in it at a time by
// byte permutations.
//
// Compiled with IS_FUSED too, where features add to scores.
#include "fused.cuh"
#include "radix.cuh"

constexpr unsigned THREADS = 256;
constexpr unsigned BLOCK_ROWS = 32;
constexpr unsigned LANES_PER_BLOCK = 8;
constexpr unsigned BLOCKS_AT_ONCE = WARP_LANES / LANES_PER_BLOCK;
constexpr unsigned ROWS_PER_LANE = BLOCK_ROWS / LANES_PER_BLOCK;
constexpr unsigned CENTROIDS = 16;

struct QueryLimits {
    double share;
    unsigned long long budget;
    float reach;
    float slope;
    float near_slope;
    float slack;
    unsigned k;
    unsigned nprobe;
    unsigned depth;
    float most_bound;  // of all lists, 0 where scores are similarities alone
};

struct QueryDone {
    unsigned long long rows;
    unsigned lists;
    unsigned candidates;
    unsigned gave_up;
    unsigned unused;
};

struct ScanLists {
    Fused fused;                         // with weights in units of similarity, neither scales nor extras
    const float* bounds;                 // [n_queries, nlist]: what features add to a row of the list at most
    const float* bases;                  // [n_queries, nlist]: what such a row scores at most but for its code
    const float* queries;                // [n_queries, n_parts * width], as the codes want them
    const float* codebook;               // [n_parts, 16, width]
    const Key* order;                    // [n_queries, n_order]: lists by their centroids' scores and gains, best first
    const unsigned char* const* chunks;  // of CHUNK_BLOCKS records each
    const unsigned* starts;              // [nlist + 1]: list l has blocks[starts[l]] to blocks[starts[l + 1]]
    const unsigned* blocks;
    const unsigned* sizes;               // [nlist]: rows
    const unsigned* const* masks;        // one for each query, over all rows listed; null where every row passes
    const QueryLimits* limits;
    Key* room;                           // [n_queries, 2, capacity]: working memory
    Key* found;                          // [n_queries, most_depth]: candidates, then NOTHING
    QueryDone* done;
    float unit;
    unsigned n_parts;
    unsigned width;
    unsigned n_columns;
    unsigned n_order;
    unsigned capacity;  // most_depth and a round's rows at least
    unsigned most_depth;
    unsigned is_l2;
    unsigned nlist;
};

// What the threads of a query share.
struct Scan {
    uint4 tables[MOST_PARTS];
    float least[MOST_PARTS];
    unsigned spread_bits;
    unsigned is_sound;
    float scale;
    float offset;
    float square;
    float kth;
    Key least_key;       // of candidates: at the slack below the k-th best
    unsigned count;      // keys in the room
    unsigned place;      // which half of the room they are in
    unsigned n_lists;
    unsigned next_look;
    unsigned is_over;
    unsigned gave_up;
    unsigned long long rows, seen, passed, pairs, pairs_passed;
    unsigned n_wave;
    unsigned lists[WAVE_LISTS];
    unsigned ends[WAVE_LISTS];  // of their blocks, added up
    float biases[WAVE_LISTS];
    unsigned passing[WAVE_LISTS];
};

__device__ __forceinline__ bool is_finite(float value) {
    return (__float_as_uint(value) & 0x7f800000u) != 0x7f800000u;
}

__device__ __forceinline__ float minus_infinity() { return __uint_as_float(0xff800000u); }

// A part's product with one of its centroids.
__device__ __forceinline__ float product(const ScanLists& given, const float* query, unsigned entry) {
    const float* centroid = given.codebook + static_cast<size_t>(entry) * given.width;
    const float* part = query + static_cast<size_t>(entry / CENTROIDS) * given.width;
    float sum = 0;
    for (unsigned i = 0; i < given.width; ++i) sum = __fadd_rn(sum, __fmul_rn(__ldg(centroid + i), __ldg(part + i)));
    return sum;
}

// By one thread.
__device__ __forceinline__ float square_of(const float* query, unsigned d) {
    float square = 0;
    for (unsigned i = 0; i < d; ++i) square = __fadd_rn(square, __fmul_rn(query[i], query[i]));
    return square;
}

// As ``reference_lists.quantised_tables``; all threads, in whole warps.
__device__ __forceinline__ void make_tables(const ScanLists& given, const float* query, Scan& scan) {
    const unsigned n_entries = given.n_parts * CENTROIDS;
    for (unsigned entry = threadIdx.x; entry < n_entries; entry += blockDim.x) {
        const float own = product(given, query, entry);
        float low = own, high = own;
        for (unsigned distance = CENTROIDS / 2; distance > 0; distance /= 2) {
            const float other_low = __shfl_xor_sync(ALL_LANES, low, distance);
            const float other_high = __shfl_xor_sync(ALL_LANES, high, distance);
            low = other_low < low ? other_low : low;
            high = other_high > high ? other_high : high;
        }
        if (!is_finite(own)) scan.is_sound = 0;
        if (entry % CENTROIDS == 0) {
            scan.least[entry / CENTROIDS] = low;
            // No spread is negative, so their bits order as they do.
            atomicMax(&scan.spread_bits, __float_as_uint(__fsub_rn(high, low)));
        }
    }
    __syncthreads();
    const float spread = __uint_as_float(scan.spread_bits);
    float steps = MOST_STEPS;
    if (spread > 0) {
        const unsigned most = 65535u / given.n_parts;
        const float ratio = static_cast<float>(most < 255u ? most : 255u) / spread;
        steps = __uint_as_float(__float_as_uint(ratio < MOST_STEPS ? ratio : MOST_STEPS) & 0x7f800000u);
    }
    unsigned char* entries = reinterpret_cast<unsigned char*>(scan.tables);
    for (unsigned entry = threadIdx.x; entry < n_entries; entry += blockDim.x) {
        const float above = __fsub_rn(product(given, query, entry), scan.least[entry / CENTROIDS]);
        entries[entry] = static_cast<unsigned char>(__fadd_rn(__fmul_rn(above, steps), 0.5f));
    }
    if (threadIdx.x == 0) {
        const float square = square_of(query, given.n_parts * given.width);
        float offset = scan.least[0];
        for (unsigned part = 1; part < given.n_parts; ++part) offset = __fadd_rn(offset, scan.least[part]);
        scan.offset = offset;
        scan.square = square;
        scan.scale = 1.0f / steps;
        if (!is_finite(spread) || !is_finite(square)) scan.is_sound = 0;
    }
    __syncthreads();
}

// As ``reference_lists.query_scales``; ``kth``: of similarities.
__device__ __forceinline__ float scale_of(float unit, bool is_l2, float square, float kth) {
    if (!is_l2) return __fmul_rn(unit, __fsqrt_rn(square));
    const float apart = __fsub_rn(square / 4.0f, kth);
    return __fmul_rn(__fmul_rn(unit, 2.0f), __fsqrt_rn(apart > 0 ? apart : 0.0f));
}

// So many scales below the k-th best score.
__device__ __forceinline__ float below_kth(
    const ScanLists& given, const Scan& scan, const QueryLimits& limits, float scales) {
    if (!is_finite(scan.kth) || !is_finite(scales)) return minus_infinity();
    const float scale = scale_of(given.unit, given.is_l2, scan.square, __fsub_rn(scan.kth, limits.most_bound));
    return __fsub_rn(scan.kth, __fmul_rn(scales, scale));
}

// What a list must score as things are.
__device__ __forceinline__ float least_worth(const ScanLists& given, const Scan& scan, const QueryLimits& limits) {
    double lists = scan.n_lists, beside = limits.share;
    if (scan.pairs) {
        beside = static_cast<double>(scan.pairs_passed) / static_cast<double>(scan.pairs);
        lists *= beside;
    }
    if (scan.passed) {
        const double rarer = limits.share * (static_cast<double>(scan.seen) / static_cast<double>(scan.passed));
        const double times = rarer > 1.0 ? rarer : 1.0;
        lists *= times * times;
    }
    int doublings = FEWEST_DOUBLINGS;
    double bound = LEAST_BOUND;
    for (; lists >= bound; bound *= 2) ++doublings;
    int nearer = 0;
    if (limits.share > 0)
        for (double times = beside / limits.share; times >= 2; times /= 2) ++nearer;
    const float grown = __fadd_rn(limits.reach, __fmul_rn(limits.slope, static_cast<float>(doublings)));
    return below_kth(given, scan, limits, __fadd_rn(grown, __fmul_rn(limits.near_slope, static_cast<float>(nearer))));
}

// Lists, of all up to ``n``, that score no less: they are in order.
__device__ __forceinline__ unsigned lists_from(const Key* order, unsigned n, float least) {
    unsigned low = 0, high = n;
    while (low < high) {
        const unsigned middle = (low + high) / 2;
        if (score_of(order[middle]) >= least) low = middle + 1;
        else high = middle;
    }
    return low;
}

// One of this query's numbers of each list.
__device__ __forceinline__ float of_list(const float* values, unsigned nlist, unsigned list) {
    return __ldg(values + static_cast<size_t>(blockIdx.x) * nlist + list);
}

// The next lists, or the end; by one thread.
__device__ __forceinline__ void begin_wave(
    const ScanLists& given, const QueryLimits& limits, const Key* order, unsigned n_probes, Scan& scan) {
    scan.n_wave = 0;
    const float least = least_worth(given, scan, limits);
    if (scan.n_lists >= n_probes || score_of(order[scan.n_lists]) < least) {
        scan.is_over = 1;
        return;
    }
    if (scan.n_lists >= scan.next_look && is_finite(scan.kth)) {
        const unsigned all = lists_from(order, n_probes, least);
        scan.gave_up = scan.rows * all / scan.n_lists - scan.rows > limits.budget;
    }
    while (scan.next_look <= scan.n_lists) scan.next_look *= 2;
    unsigned end = 0;
    unsigned long long rows = 0;
    for (unsigned at = scan.n_lists; at < n_probes && scan.n_wave < WAVE_LISTS && end < ROUND_BLOCKS; ++at) {
        const unsigned list = row_of(order[at]);
        end += given.starts[list + 1] - given.starts[list];
        rows += given.sizes[list];
        scan.lists[scan.n_wave] = list;
        scan.ends[scan.n_wave] = end;
        if (IS_FUSED) scan.biases[scan.n_wave] = of_list(given.bases, given.nlist, list);
        else scan.biases[scan.n_wave] = given.is_l2 ? 0.0f : score_of(order[at]);
        scan.passing[scan.n_wave++] = 0;
    }
    if ((scan.rows + rows) / 2 > limits.budget) scan.gave_up = 1;
    if (scan.gave_up) {
        scan.is_over = 1;
        return;
    }
    scan.n_lists += scan.n_wave;
    scan.rows += rows;
}

// What the lists of a wave tell of the mask; by one thread.
__device__ __forceinline__ void end_wave(const ScanLists& given, Scan& scan) {
    for (unsigned at = 0; at < scan.n_wave; ++at) {
        const unsigned long long seen = given.sizes[scan.lists[at]], passed = scan.passing[at];
        scan.seen += seen;
        scan.passed += passed;
        scan.pairs += passed ? passed * (seen - 1) : 0;
        scan.pairs_passed += passed ? passed * (passed - 1) : 0;
    }
}

// The table's bytes for four codes, one in the low half of each byte.
__device__ __forceinline__ unsigned looked_up(const uint4 table, unsigned codes) {
    const unsigned pairs = codes | codes >> 4;
    const unsigned selector = __byte_perm(pairs, 0, 0x4420) & 0x7777u;
    const unsigned lower = __byte_perm(table.x, table.y, selector);
    const unsigned upper = __byte_perm(table.z, table.w, selector);
    const unsigned is_upper = (codes >> 3 & 0x01010101u) * 0xffu;
    return (upper & is_upper) | (lower & ~is_upper);
}

// Scores and rows of four slots of a block: 2 i, 2 i + 1, 2 i + 16 and 2 i + 17 for lane i of its eight.
__device__ __forceinline__ void score_slots(
    const ScanLists& given, const Scan& scan, const unsigned char* record, float bias, float* scores, unsigned* rows) {
    const unsigned lane = threadIdx.x % LANES_PER_BLOCK;
    unsigned even = 0, odd = 0;
    for (unsigned column = 0; column < given.n_parts / 2; ++column) {
        const unsigned codes = __ldg(reinterpret_cast<const unsigned*>(record + column * BLOCK_ROWS) + lane);
        const unsigned low = looked_up(scan.tables[2 * column], codes & 0x0f0f0f0fu);
        const unsigned high = looked_up(scan.tables[2 * column + 1], codes >> 4 & 0x0f0f0f0fu);
        even += (low & 0x00ff00ffu) + (high & 0x00ff00ffu);
        odd += (low >> 8 & 0x00ff00ffu) + (high >> 8 & 0x00ff00ffu);
    }
    const unsigned* listed = reinterpret_cast<const unsigned*>(record + given.n_columns * BLOCK_ROWS);
    const float* terms = reinterpret_cast<const float*>(listed + BLOCK_ROWS);
    const unsigned sums[ROWS_PER_LANE] = {even & 0xffffu, even >> 16, odd & 0xffffu, odd >> 16};
    const float start = __fadd_rn(bias, scan.offset);
#pragma unroll
    for (unsigned i = 0; i < ROWS_PER_LANE; ++i) {
        const unsigned slot = 2 * lane + i % 2 + i / 2 * 16;
        rows[i] = __ldg(listed + slot);
        const float product = __fmul_rn(scan.scale, static_cast<float>(sums[i]));
        scores[i] = __fadd_rn(__fadd_rn(start, __ldg(terms + slot)), product);
    }
}

// Leave what may be a candidate in the room; a whole warp. Four lanes' turns at a time.
__device__ __forceinline__ void leave(Scan& scan, Key* room, bool is_wanted, Key key) {
    const unsigned wanted = __ballot_sync(ALL_LANES, is_wanted), lane = threadIdx.x % WARP_LANES;
    if (wanted == 0) return;
    unsigned first = 0;
    if (lane == 0) first = atomicAdd(&scan.count, static_cast<unsigned>(__popc(wanted)));
    first = __shfl_sync(ALL_LANES, first, 0);
    if (is_wanted) room[first + __popc(wanted & ((1u << lane) - 1))] = key;
}

// The score of a row that was scored as if its features were the bound of its list.
__device__ __forceinline__ float fused_score(const ScanLists& given, float score, float bound, unsigned row) {
    const Fused& fused = given.fused;
    const float* features = features_of(fused, row);
    const float* weights = fused.weights + static_cast<size_t>(blockIdx.x) * fused.n_features;
    float sum = 0;
    for (unsigned i = 0; i < fused.n_features; ++i) sum += __ldg(features + i) * __ldg(weights + i);
    return __fadd_rn(__fsub_rn(score, bound), sum);
}

// A round of blocks of the wave, by all warps.
__device__ __forceinline__ void scan_round(
    const ScanLists& given, Scan& scan, const unsigned* mask, Key* room, unsigned first, unsigned end) {
    const unsigned warp = threadIdx.x / WARP_LANES, n_warps = blockDim.x / WARP_LANES;
    for (unsigned i = first + warp * BLOCKS_AT_ONCE; i < end; i += n_warps * BLOCKS_AT_ONCE) {
        const unsigned block = i + threadIdx.x % WARP_LANES / LANES_PER_BLOCK;
        const bool is_there = block < end;
        float scores[ROWS_PER_LANE];
        unsigned rows[ROWS_PER_LANE], at = 0, n_passing = 0;
        if (is_there) {
            while (scan.ends[at] <= block) ++at;
            const unsigned within = block - (at ? scan.ends[at - 1] : 0);
            const unsigned number = given.blocks[given.starts[scan.lists[at]] + within];
            const unsigned char* chunk = given.chunks[number / CHUNK_BLOCKS];
            const size_t record = BLOCK_ROWS * (given.n_columns + 8);
            score_slots(given, scan, chunk + number % CHUNK_BLOCKS * record, scan.biases[at], scores, rows);
        }
#pragma unroll
        for (unsigned j = 0; j < ROWS_PER_LANE; ++j) {
            // A slot without a row has no number for a score, and no bit of a mask.
            bool passes = is_there && scores[j] == scores[j];
            if (passes && mask != nullptr) passes = __ldg(mask + rows[j] / 32) >> rows[j] % 32 & 1u;
            n_passing += passes;
            Key key = passes ? key_of(scores[j], rows[j]) : NOTHING;
            bool is_wanted = passes && key >= scan.least_key;
            if (IS_FUSED && is_wanted) {
                const float bound = of_list(given.bounds, given.nlist, scan.lists[at]);
                const float score = fused_score(given, scores[j], bound, rows[j]);
                key = key_of(score, rows[j]);
                is_wanted = score == score && key >= scan.least_key;
            }
            leave(scan, room, is_wanted, key);
        }
        for (unsigned distance = LANES_PER_BLOCK / 2; distance > 0; distance /= 2)
            n_passing += __shfl_xor_sync(ALL_LANES, n_passing, distance);
        if (is_there && threadIdx.x % LANES_PER_BLOCK == 0) atomicAdd(&scan.passing[at], n_passing);
    }
}

// Move the keys that are no less to ``other``; all threads. The count is that of those.
__device__ __forceinline__ void keep(Scan& scan, const Key* keys, Key* other, Key least) {
    const unsigned n = scan.count;
    __syncthreads();
    if (threadIdx.x == 0) scan.count = 0;
    __syncthreads();
    for (unsigned i = threadIdx.x; i < n; i += blockDim.x)
        if (keys[i] >= least) other[atomicAdd(&scan.count, 1u)] = keys[i];
    __syncthreads();
}

// The k-th best score as it is now, and what a candidate needs; all threads.
__device__ __forceinline__ void settle(
    const ScanLists& given, const QueryLimits& limits, const Key* keys, unsigned k, Scan& scan) {
    if (scan.count >= k) {
        const Key kth = kth_largest<32>(keys, scan.count, k);
        if (threadIdx.x == 0) {
            scan.kth = score_of(kth);
            scan.least_key = key_of(below_kth(given, scan, limits, limits.slack), 0xffffffffu);
        }
    }
    __syncthreads();
}

// The least key that a candidate may have: by the slack, and where there are more than ``depth``, by its place.
__device__ __forceinline__ Key least_of_depth(const Key* keys, unsigned depth, const Scan& scan) {
    if (scan.count <= depth) return scan.least_key;
    const Key last = kth_largest<0>(keys, scan.count, depth);
    return last > scan.least_key ? last : scan.least_key;
}

extern "C" __global__ void __launch_bounds__(THREADS) scan_lists(const ScanLists given) {
    __shared__ Scan scan;
    const unsigned query = blockIdx.x;
    const QueryLimits limits = given.limits[query];
    const float* asked = given.queries + static_cast<size_t>(query) * given.n_parts * given.width;
    const Key* order = given.order + static_cast<size_t>(query) * given.n_order;
    const unsigned* mask = given.masks[query];
    Key* room = given.room + static_cast<size_t>(query) * 2 * given.capacity;
    const unsigned k = limits.k < limits.depth ? limits.k : limits.depth;
    const unsigned n_probes = limits.nprobe < given.n_order ? limits.nprobe : given.n_order;
    if (threadIdx.x == 0) {
        scan.spread_bits = 0;
        scan.is_sound = 1;
        scan.kth = minus_infinity();
        scan.least_key = 1;
        scan.count = scan.place = scan.n_lists = scan.is_over = scan.gave_up = 0;
        scan.next_look = FORESEEN_FROM;
        scan.rows = scan.seen = scan.passed = scan.pairs = scan.pairs_passed = 0;
    }
    __syncthreads();
    make_tables(given, asked, scan);
    while (true) {
        if (threadIdx.x == 0) {
            if (scan.is_sound && limits.depth) begin_wave(given, limits, order, n_probes, scan);
            else scan.is_over = 1;
        }
        __syncthreads();
        if (scan.is_over) break;
        const unsigned all = scan.ends[scan.n_wave - 1];
        for (unsigned first = 0; first < all; first += ROUND_BLOCKS) {
            Key* keys = room + static_cast<size_t>(scan.place) * given.capacity;
            // All have looked before the first of them leaves another key there.
            const bool is_full = scan.count + ROUND_BLOCKS * BLOCK_ROWS > given.capacity;
            __syncthreads();
            if (is_full) {
                Key* other = room + static_cast<size_t>(1 - scan.place) * given.capacity;
                keep(scan, keys, other, least_of_depth(keys, limits.depth, scan));
                if (threadIdx.x == 0) scan.place = 1 - scan.place;
                __syncthreads();
                keys = other;
            }
            scan_round(given, scan, mask, keys, first, first + ROUND_BLOCKS < all ? first + ROUND_BLOCKS : all);
            __syncthreads();
            settle(given, limits, keys, k, scan);
        }
        if (threadIdx.x == 0 && mask != nullptr) end_wave(given, scan);
        __syncthreads();
    }
    const Key* keys = room + static_cast<size_t>(scan.place) * given.capacity;
    Key* found = given.found + static_cast<size_t>(query) * given.most_depth;
    if (scan.gave_up) {
        __syncthreads();
        if (threadIdx.x == 0) scan.count = 0;
        __syncthreads();
    } else {
        keep(scan, keys, found, least_of_depth(keys, limits.depth, scan));
    }
    for (unsigned i = scan.count + threadIdx.x; i < given.most_depth; i += blockDim.x) found[i] = NOTHING;
    if (threadIdx.x == 0)
        given.done[query] = QueryDone{scan.rows, scan.n_lists, scan.count, scan.gave_up, 0};
}
HOST_ENTRY(scan_lists, ScanLists)

struct AddGains {
    const float* queries;       // [n_queries, d], as the codes want them
    const QueryLimits* limits;
    const float* bounds;        // [n_queries, nlist]: what features add to a row of the list at most
    const float* means;         // [n_queries, nlist]: and on average
    Key* keys;                  // [n_queries, nlist]: of centroids' scores, list by list; overwritten
    float* bases;               // [n_queries, nlist]
    float unit;
    unsigned d;
    unsigned nlist;
    unsigned is_l2;
};

// As ``fusion.expected_gains``, of one list.
__device__ __forceinline__ float expected_gain(float bound, float mean, float range) {
    if (!is_finite(range)) return bound;
    const float above = __fsub_rn(bound, mean), spread = above > 0 ? above : 0.0f, reach = range > 0 ? range : 0.0f;
    const float apart = __fsqrt_rn(__fadd_rn(__fmul_rn(reach, reach), __fmul_rn(spread, spread)));
    const float least = __fadd_rn(spread, __fmul_rn(reach, 0.5f));
    return __fadd_rn(mean, __fsub_rn(apart > least ? apart : least, reach));
}

// What features are expected to lift the best rows of lists by, added to their centroids' scores: grid (n_queries).
extern "C" __global__ void __launch_bounds__(THREADS) add_gains(const AddGains given) {
    __shared__ Key nearest;
    __shared__ float range;
    Key* keys = given.keys + static_cast<size_t>(blockIdx.x) * given.nlist;
    float* bases = given.bases + static_cast<size_t>(blockIdx.x) * given.nlist;
    if (threadIdx.x == 0) nearest = NOTHING;
    __syncthreads();
    Key own = NOTHING;
    for (unsigned list = threadIdx.x; list < given.nlist; list += blockDim.x) own = keys[list] > own ? keys[list] : own;
    own = largest_of_warp(own);
    if (threadIdx.x % WARP_LANES == 0) atomicMax(&nearest, own);
    __syncthreads();
    if (threadIdx.x == 0) {
        const float square = square_of(given.queries + static_cast<size_t>(blockIdx.x) * given.d, given.d);
        range = __fmul_rn(given.limits[blockIdx.x].reach, scale_of(given.unit, given.is_l2, square, score_of(nearest)));
    }
    __syncthreads();
    for (unsigned list = threadIdx.x; list < given.nlist; list += blockDim.x) {
        const float bound = of_list(given.bounds, given.nlist, list), mean = of_list(given.means, given.nlist, list);
        const float similarity = score_of(keys[list]);
        bases[list] = given.is_l2 ? bound : __fadd_rn(similarity, bound);
        keys[list] = key_of(__fadd_rn(similarity, expected_gain(bound, mean, range)), list);
    }
}
HOST_ENTRY(add_gains, AddGains)

struct PutRecords {
    const uint4* records;  // [n, record_chunks]
    const unsigned* blocks;
    unsigned char* const* chunks;
    unsigned record_chunks;  // of 16 bytes
};

// Blocks that are new or have changed, put in their places: grid (n).
extern "C" __global__ void __launch_bounds__(THREADS) put_records(const PutRecords given) {
    const unsigned block = given.blocks[blockIdx.x];
    uint4* place = reinterpret_cast<uint4*>(given.chunks[block / CHUNK_BLOCKS]);
    place += static_cast<size_t>(block % CHUNK_BLOCKS) * given.record_chunks;
    const uint4* record = given.records + static_cast<size_t>(blockIdx.x) * given.record_chunks;
    for (unsigned i = threadIdx.x; i < given.record_chunks; i += blockDim.x) place[i] = record[i];
}
HOST_ENTRY(put_records, PutRecords)
