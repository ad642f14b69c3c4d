// Dense scans of many queries on tensor cores: bounds of the best score of each tile, for an exact search of the tiles that
// may hold one of the best.
//
// Queries are rounded to what rows are stored as, so that one multiplication is enough. |q.x - rounded.x| is at most
// |q - rounded| |x|, and each sum adds its own rounding, at most a share of |q| |x|: a query's ``slack`` is the factor of
// |x| in both. What is written of a tile is a score that its best one is no less than; it is no more than this and twice
// the slack times the longest row.
//
// A sum does not depend on the order of its terms. So lane 4g + t reads whole chunks of 16 bytes of row or query g: the
// first four values are its part of one multiplication, the others of the next. Rows go from memory to registers and
// nowhere else; queries are kept in the order that lanes read them, so that no two lanes want one bank of shared memory.
//
// Compiled for one shape at a time, by these macros: KIND (of Kind, not FLOAT32), STEPS (of 32 values: in a slab, to 4),
// SLABS (of a row).
#include "mma.cuh"
#include "stored.cuh"

constexpr unsigned WARPS = 4;
constexpr unsigned GROUP = 64;       // of queries that are multiplied at a time, eight to a multiplication
constexpr unsigned EIGHTS = GROUP / 8;
constexpr unsigned MOST_GROUPS = 8;  // of a block
constexpr unsigned HALVES = 2;       // of a warp's 32 rows, 16 to a multiplication
constexpr unsigned STEP_CHUNKS = 4;
constexpr unsigned SLAB_CHUNKS = EIGHTS * STEPS * WARP_LANES;

// No row is so short that its length is below this once rounded, whatever is lost of small squares.
constexpr float LEAST_LENGTH = 0x1p-56f;
constexpr float ROUNDED_UP = 1.001f;

// Of a query's largest value, as float32 has exponents: 2^-70 and 2^40. Beyond, products might not fit float32.
constexpr unsigned LEAST_EXPONENT = 57, LARGEST_EXPONENT = 167;

struct RoundQueries {
    const float* queries;  // [n_queries, width]
    uint4* rounded;        // [groups, SLABS, EIGHTS, STEPS, WARP_LANES]
    float* units;          // [n_queries]: powers of two that rounded queries are in
    float* slacks;         // [n_queries]
    unsigned n_queries;
    unsigned width;
};

__device__ __forceinline__ float sum_of_warp(float mine) {
    for (unsigned distance = WARP_LANES / 2; distance > 0; distance /= 2) mine += __shfl_xor_sync(ALL_LANES, mine, distance);
    return mine;
}

// Of a query in its unit, which is between 1 and 2 sqrt(d) long: the rounding of sums is that of float32 ones in any order,
// 2^-24 a term, and of tensor cores, which cut 17 terms off at 2^-23 of the largest: less than 2^-22 a term together.
__device__ __forceinline__ float slack_of(float squared_error, float squares) {
    constexpr float OF_SUMS = (32 * STEPS * SLABS + 16) * 0x1p-22f;
    return ROUNDED_UP * (sqrtf(squared_error) + OF_SUMS * sqrtf(squares));
}

// Queries in the kind of rows, a warp each: grid (blocks of WARPS). Those beyond the last, to whole groups, become zeros.
extern "C" __global__ void __launch_bounds__(WARPS * WARP_LANES) round_queries(const RoundQueries given) {
    const unsigned lane = threadIdx.x % WARP_LANES, query = blockIdx.x * WARPS + threadIdx.x / WARP_LANES;
    const unsigned width = query < given.n_queries ? given.width : 0;
    const float* values = given.queries + static_cast<size_t>(query) * given.width;
    unsigned largest = 0;
    for (unsigned i = lane; i < width; i += WARP_LANES) largest = max(largest, __float_as_uint(values[i]) & 0x7fffffffu);
    for (unsigned distance = WARP_LANES / 2; distance > 0; distance /= 2)
        largest = max(largest, __shfl_xor_sync(ALL_LANES, largest, distance));
    const unsigned exponent = min(max(largest >> 23, 1u), 253u);
    const float inverse = __uint_as_float((254 - exponent) << 23);
    float squared_error = 0.0f, squares = 0.0f;
    // Each lane rounds whole chunks; chunk c of a query is lane c % STEP_CHUNKS of its four in step c / STEP_CHUNKS.
    for (unsigned chunk = lane; chunk < STEP_CHUNKS * STEPS * SLABS; chunk += WARP_LANES) {
        unsigned words[4] = {0, 0, 0, 0};
        for (unsigned i = 0; i < VALUES; ++i) {
            const float value = chunk * VALUES + i < width ? values[chunk * VALUES + i] * inverse : 0.0f;
            const unsigned bits = KIND == FLOAT16 ? to_float16(value) : to_bfloat16(value);
            const float error = value - (KIND == FLOAT16 ? from_float16(bits) : from_bfloat16(bits));
            words[i / 2] |= bits << i % 2 * 16;
            squared_error += error * error;
            squares += value * value;
        }
        const unsigned step = chunk / STEP_CHUNKS, slab = step / STEPS;
        const size_t first = (static_cast<size_t>(query / GROUP) * SLABS + slab) * SLAB_CHUNKS;
        const unsigned at = (query % GROUP / 8 * STEPS + step % STEPS) * WARP_LANES;
        given.rounded[first + at + query % 8 * STEP_CHUNKS + chunk % STEP_CHUNKS] = {words[0], words[1], words[2], words[3]};
    }
    const float slack = slack_of(sum_of_warp(squared_error), sum_of_warp(squares));
    if (lane == 0 && query < given.n_queries) {
        const float unit = __uint_as_float(exponent << 23);
        // Where nothing is known of the sums, every tile is searched.
        const bool is_bounded = largest == 0 || (exponent >= LEAST_EXPONENT && exponent <= LARGEST_EXPONENT);
        given.units[query] = unit;
        given.slacks[query] = is_bounded ? slack * unit : __uint_as_float(0x7f800000u);
    }
}
HOST_ENTRY(round_queries, RoundQueries)

struct TensorBest {
    Stored stored;
    const uint4* rounded;          // as round_queries leaves queries
    const float* units;
    const float* slacks;
    const unsigned* const* masks;  // one for each query: bits from row 0 on; null where every row passes
    Key* best;                     // [n_queries, n_tiles]: of the least that a tile's best may score, NOTHING for no row
    float* lengths;                // [n_parts, n_tiles]: at least that of the longest row, where the part wants one
    unsigned n_queries;
    unsigned n_parts;              // of queries, MOST_GROUPS groups each
    unsigned first_row;
    unsigned end_row;
    unsigned first_tile;
    unsigned n_tiles;
};

// What a lane has of the 32 rows of its warp: a slab of rows g and g + 8 of each half.
struct Rows {
    uint4 chunks[HALVES][2][STEPS];

    __device__ __forceinline__ void load(const Stored& stored, unsigned warp_row, unsigned end_row, unsigned slab) {
        const unsigned lane = threadIdx.x % WARP_LANES;
        const uint4* segment = stored.segments[warp_row / SEGMENT_ROWS];
#pragma unroll
        for (unsigned i = 0; i < HALVES * 2; ++i)
#pragma unroll
            for (unsigned step = 0; step < STEPS; ++step) {
                const unsigned row = warp_row + 8 * i + lane / 4;
                const unsigned place = (slab * STEPS + step) * STEP_CHUNKS + lane % 4;
                const uint4* at = segment + static_cast<size_t>(row % SEGMENT_ROWS) * stored.row_chunks + place;
                chunks[i / 2][i % 2][step] = row < end_row && place < stored.row_chunks ? __ldg(at) : uint4{0, 0, 0, 0};
            }
    }

    // Adds to the sums of each row's squares, of this lane's values alone.
    __device__ __forceinline__ void add_squares(float (&squares)[HALVES * 2]) const {
#pragma unroll
        for (unsigned i = 0; i < HALVES * 2; ++i)
#pragma unroll
            for (unsigned step = 0; step < STEPS; ++step) {
                float values[VALUES];
                widen(chunks[i / 2][i % 2][step], values);
#pragma unroll
                for (unsigned v = 0; v < VALUES; ++v) squares[i] += values[v] * values[v];
            }
    }
};

// The sums of a warp's 32 rows with the queries of a group, each lane's as multiply_add has them.
struct Sums {
    float of[HALVES][EIGHTS][4];

    __device__ __forceinline__ void clear() {
#pragma unroll
        for (unsigned i = 0; i < HALVES * EIGHTS * 4; ++i) of[i / (EIGHTS * 4)][i / 4 % EIGHTS][i % 4] = 0.0f;
    }

    __device__ __forceinline__ void add(const Rows& rows, const uint4* staged) {
#pragma unroll
        for (unsigned step = 0; step < STEPS; ++step)
#pragma unroll
            for (unsigned eight = 0; eight < EIGHTS; ++eight) {
                const uint4 asked = staged[(eight * STEPS + step) * WARP_LANES + threadIdx.x % WARP_LANES];
#pragma unroll
                for (unsigned i = 0; i < 2 * HALVES; ++i) {
                    // Both halves by turns: a multiplication need not wait for the one before it.
                    const unsigned half = i % HALVES;
                    const uint4 one = rows.chunks[half][0][step], other = rows.chunks[half][1][step];
                    if (i < HALVES) multiply_add(of[half][eight], {one.x, other.x, one.y, other.y}, {asked.x, asked.y});
                    else multiply_add(of[half][eight], {one.z, other.z, one.w, other.w}, {asked.z, asked.w});
                }
            }
    }

    // The largest sum of rows that each query wants, -inf where it wants none, to ``largest`` [GROUP].
    __device__ __forceinline__ void leave_largest(const unsigned (*wanted)[WARPS], float* largest) const {
        const unsigned warp = threadIdx.x / WARP_LANES, lane = threadIdx.x % WARP_LANES;
#pragma unroll
        for (unsigned i = 0; i < EIGHTS * 2; ++i) {
            const unsigned query = i / 2 * 8 + lane % 4 * 2 + i % 2;
            const unsigned rows = wanted[query][warp] >> lane / 4;
            float best = __uint_as_float(0xff800000u);
#pragma unroll
            for (unsigned eight = 0; eight < HALVES * 2; ++eight)
                if (rows >> 8 * eight & 1u) best = fmaxf(best, of[eight / 2][i / 2][eight % 2 * 2 + i % 2]);
#pragma unroll
            for (unsigned distance = 4; distance < WARP_LANES; distance *= 2)
                best = fmaxf(best, __shfl_xor_sync(ALL_LANES, best, distance));
            if (lane < 4) largest[query] = best;
        }
    }
};

// One slab of one group of queries after another.
struct Turn {
    unsigned groups;  // those left, a bit each; this one's is the lowest
    unsigned slab;

    __device__ __forceinline__ unsigned group() const { return __ffs(groups) - 1; }

    __device__ __forceinline__ Turn next() const {
        return slab + 1 < SLABS ? Turn{groups, slab + 1} : Turn{groups & (groups - 1), 0};
    }

    // Starts copies of this turn's queries, of the part from the group ``first`` on.
    __device__ __forceinline__ void stage(const uint4* rounded, unsigned first, uint4* staged) const {
        if (groups == 0) return;
        const uint4* from = rounded + (static_cast<size_t>(first + group()) * SLABS + slab) * SLAB_CHUNKS;
#pragma unroll
        for (unsigned i = 0; i < SLAB_CHUNKS; i += WARPS * WARP_LANES) copy_later(staged + i + threadIdx.x, from + i + threadIdx.x);
    }
};

// The largest of a warp's squares, as bits: so NaN is larger than infinity, and neither is lost.
__device__ __forceinline__ void leave_longest(const float (&squares)[HALVES * 2], unsigned* longest) {
    unsigned largest = 0;
#pragma unroll
    for (unsigned i = 0; i < HALVES * 2; ++i) {
        float whole = squares[i];
        whole += __shfl_xor_sync(ALL_LANES, whole, 1);
        whole += __shfl_xor_sync(ALL_LANES, whole, 2);
        largest = max(largest, __float_as_uint(whole) & 0x7fffffffu);
    }
    for (unsigned distance = 4; distance < WARP_LANES; distance *= 2)
        largest = max(largest, __shfl_xor_sync(ALL_LANES, largest, distance));
    if (threadIdx.x % WARP_LANES == 0) atomicMax(longest, largest);
}

__device__ __forceinline__ float length_of(unsigned longest) {
    return ROUNDED_UP * sqrtf(__uint_as_float(longest)) + LEAST_LENGTH;
}

// The least that the best row of a tile may score.
__device__ __forceinline__ Key least_key(
    const float (&largest)[WARPS][GROUP], unsigned place, float unit, float reach, unsigned row) {
    float best = largest[0][place];
    for (unsigned warp = 1; warp < WARPS; ++warp) best = fmaxf(best, largest[warp][place]);
    return key_of(best * unit - reach, row);
}

// Bounds of the best score of each tile of rows [first_row, end_row): grid (tiles * n_parts), the parts of a tile beside
// each other, so that all but one find its rows in a cache.
extern "C" __global__ void __launch_bounds__(WARPS * WARP_LANES, 3) tensor_best(const TensorBest given) {
    __shared__ uint4 staged[2][SLAB_CHUNKS];
    __shared__ unsigned wanted[MOST_GROUPS * GROUP][WARPS];
    __shared__ float largest[WARPS][GROUP];
    __shared__ unsigned is_asked[MOST_GROUPS];
    __shared__ unsigned longest;
    const unsigned warp = threadIdx.x / WARP_LANES, tile = blockIdx.x / given.n_parts, part = blockIdx.x % given.n_parts;
    const unsigned first = part * MOST_GROUPS * GROUP, n = min(given.n_queries - first, MOST_GROUPS * GROUP);
    const unsigned tile_row = (given.first_tile + tile) * TILE_ROWS;
    if (threadIdx.x < MOST_GROUPS) is_asked[threadIdx.x] = 0;
    if (threadIdx.x == 0) longest = 0;
    __syncthreads();
    for (unsigned query = threadIdx.x; query < (n + GROUP - 1) / GROUP * GROUP; query += WARPS * WARP_LANES) {
        unsigned any = 0;
        for (unsigned word = 0; word < WARPS; ++word) {
            wanted[query][word] = query < n
                ? wanted_rows(given.masks[first + query], tile_row + 32 * word, given.first_row, given.end_row) : 0;
            any |= wanted[query][word];
        }
        if (any != 0) is_asked[query / GROUP] = 1;
        else if (query < n) given.best[static_cast<size_t>(first + query) * given.n_tiles + tile] = NOTHING;
    }
    __syncthreads();
    unsigned groups = 0;
    for (unsigned group = 0; group < MOST_GROUPS; ++group) groups |= is_asked[group] << group;
    Rows rows;
    Sums sums;
    float squares[HALVES * 2] = {};
    unsigned buffer = 0;
    Turn turn{groups, 0};
    turn.stage(given.rounded, part * MOST_GROUPS, staged[0]);
    while (turn.groups != 0) {
        const Turn next = turn.next();
        const bool is_first = turn.groups == groups;
        if (SLABS > 1 || is_first) rows.load(given.stored, tile_row + 32 * warp, given.end_row, turn.slab);
        wait_for_copies();
        // Every thread's copies have arrived, and every thread is done with what the next ones replace.
        __syncthreads();
        next.stage(given.rounded, part * MOST_GROUPS, staged[1 - buffer]);
        if (turn.slab == 0) sums.clear();
        sums.add(rows, staged[buffer]);
        if (is_first) rows.add_squares(squares);
        if (turn.slab == SLABS - 1) {
            sums.leave_largest(wanted + turn.group() * GROUP, largest[warp]);
            if (is_first) leave_longest(squares, &longest);
            __syncthreads();
            const unsigned query = turn.group() * GROUP + threadIdx.x;
            const unsigned(&rows_wanted)[WARPS] = wanted[query];
            const float length = length_of(longest);
            if (threadIdx.x < GROUP && (rows_wanted[0] | rows_wanted[1] | rows_wanted[2] | rows_wanted[3]) != 0)
                given.best[static_cast<size_t>(first + query) * given.n_tiles + tile] = least_key(
                    largest, threadIdx.x, given.units[first + query], given.slacks[first + query] * length, tile_row);
            if (is_first && threadIdx.x == 0) given.lengths[static_cast<size_t>(part) * given.n_tiles + tile] = length;
        }
        turn = next;
        buffer = 1 - buffer;
    }
}
HOST_ENTRY(tensor_best, TensorBest)
