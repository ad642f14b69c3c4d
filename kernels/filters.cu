// Filter programs: a thread for each row, all rows of a warp at the same instruction. The instructions are those of
// ``_cuda_filters.py``; their numbers come from there, by macros of the names below.
#include "common.cuh"

constexpr unsigned THREADS = 128;
constexpr unsigned long long GOLDEN = 0x9E3779B97F4A7C15ull;

struct FilterRows {
    const long long* code;  // [n_instructions, WIDTH]
    unsigned n_instructions;
    unsigned n_rows;
};

// What one row has of the tests so far, a bit each, the last one lowest.
struct Stack {
    unsigned long long bits = 0;

    __device__ __forceinline__ void push(bool bit) { bits = bits << 1 | static_cast<unsigned>(bit); }
    __device__ __forceinline__ bool top() const { return bits & 1; }
    __device__ __forceinline__ bool pop() {
        const bool bit = top();
        bits >>= 1;
        return bit;
    }
    // Of the ``digits`` on top, the deepest is the least significant.
    __device__ __forceinline__ void add(bool carry, unsigned digits) {
        for (unsigned digit = digits; digit-- > 0 && carry;) {
            const bool was = bits >> digit & 1;
            bits ^= 1ull << digit;
            carry = was;
        }
    }
    __device__ __forceinline__ unsigned pop_number(unsigned digits) {
        unsigned number = 0;
        for (unsigned digit = 0; digit < digits; ++digit) number |= static_cast<unsigned>(pop()) << (digits - 1 - digit);
        return number;
    }
};

template <typename T>
__device__ __forceinline__ T at(long long address, unsigned long long place) {
    return __ldg(reinterpret_cast<const T*>(address) + place);
}

__device__ __forceinline__ bool bit_at(long long address, unsigned long long place) {
    return at<unsigned>(address, place / 32) >> place % 32 & 1u;
}

__device__ __forceinline__ bool is_between(long long value, long long low, unsigned long long span) {
    return static_cast<unsigned long long>(value) - static_cast<unsigned long long>(low) <= span;
}

__device__ __forceinline__ bool is_among_few(long long value, long long members, long long count) {
    bool found = false;
    for (long long i = 0; i < count; ++i) found |= at<long long>(members, i) == value;
    return found;
}

__device__ __forceinline__ bool is_in_span(long long value, long long table, long long span, long long first) {
    const unsigned long long offset = static_cast<unsigned long long>(value) - static_cast<unsigned long long>(first);
    return offset <= static_cast<unsigned long long>(span) && bit_at(table, offset);
}

__device__ __forceinline__ bool is_in_table(
    long long value, long long table, long long shift, long long first, long long sieve) {
    const unsigned long long hash = static_cast<unsigned long long>(value) * GOLDEN;
    if (!bit_at(sieve, hash >> (shift - 3))) return false;
    const unsigned long long last = (1ull << (64 - shift)) - 1;
    unsigned long long slot = hash >> shift;
    long long found = at<long long>(table, slot);
    while (found != first && found != value) {
        slot = (slot + 1) & last;
        found = at<long long>(table, slot);
    }
    return found == value;
}

__device__ __forceinline__ bool is_near(const long long* op, unsigned row) {
    double square = 0;
    for (int axis = 0; axis < 3; ++axis) {
        const double step = at<double>(op[3 + axis], row) - at<double>(op[7], axis);
        square = __dadd_rn(square, __dmul_rn(step, step));  // not fused: the reference rounds each
    }
    return square <= at<double>(op[7], 3);
}

// What a leaf, other than BIT, asks of a row that has a value.
__device__ __forceinline__ bool passes(const long long* op, unsigned row) {
    if (op[0] == NEAR) return is_near(op, row);
    if (op[0] == FLOAT_BETWEEN) {
        const double value = at<double>(op[3], row);
        return value >= __longlong_as_double(op[5]) && value <= __longlong_as_double(op[6]);
    }
    const long long value = at<long long>(op[3], row);
    if (op[0] == INT_BETWEEN) return is_between(value, op[5], static_cast<unsigned long long>(op[6]));
    if (op[0] == AMONG_FEW) return is_among_few(value, op[5], op[6]);
    if (op[0] == AMONG_SPAN) return is_in_span(value, op[5], op[6], op[7]);
    return is_in_table(value, op[5], op[6], op[7], op[8]);
}

__device__ __forceinline__ bool leaf(const long long* op, unsigned row) {
    const long long present = op[0] == NEAR ? op[6] : op[4];
    const bool found = op[0] == BIT ? bit_at(op[3], row) : bit_at(present, row) && passes(op, row);
    return found != (op[2] != 0);
}

// Every mask of a program: blocks of THREADS rows, in whole words of 64 rows beyond the last one.
extern "C" __global__ void __launch_bounds__(THREADS) filter_rows(const FilterRows given) {
    const unsigned row = blockIdx.x * blockDim.x + threadIdx.x;
    const bool is_row = row < given.n_rows;
    Stack stack;
    for (unsigned i = 0; i < given.n_instructions; ++i) {
        const long long* op = given.code + i * WIDTH;
        const long long operation = op[0];
        if (operation <= NEAR) {
            // A leaf has a say where what it meets does not stand yet.
            const bool has_say = op[1] == PUSH || stack.top() == (op[1] == MEET);
            const bool found = is_row && has_say && leaf(op, row);
            if (op[1] == PUSH) {
                stack.push(found);
            } else {
                const bool before = stack.pop();
                stack.push(op[1] == MEET ? before && found : before || found);
            }
        } else if (operation == SKIP_IF_NONE || operation == SKIP_IF_ALL) {
            const bool is_open = is_row && stack.top() == (operation == SKIP_IF_NONE);
            if (__ballot_sync(ALL_LANES, is_open) == 0) i = static_cast<unsigned>(op[3]) - 1;
        } else if (operation == AND || operation == OR) {
            const bool one = stack.pop(), other = stack.pop();
            stack.push(operation == AND ? one && other : one || other);
        } else if (operation == INVERT) {
            stack.push(!stack.pop());
        } else if (operation == ZEROS) {
            stack.bits <<= op[3];
        } else if (operation == TALLY) {
            const bool carry = stack.pop();
            stack.add(carry, static_cast<unsigned>(op[3]));
        } else if (operation == ENOUGH) {
            stack.push(stack.pop_number(static_cast<unsigned>(op[3])) >= op[4]);
        } else {
            const bool bit = stack.pop();
            const unsigned word = __ballot_sync(ALL_LANES, is_row && bit);
            const bool is_there = row < (given.n_rows + 63) / 64 * 64;
            if (threadIdx.x % WARP_LANES == 0 && is_there) reinterpret_cast<unsigned*>(op[3])[row / 32] = word;
        }
    }
}
HOST_ENTRY(filter_rows, FilterRows)
