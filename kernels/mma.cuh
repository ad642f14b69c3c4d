// Tensor cores and asynchronous copies, each behind a function with a plain form: the only home of their instructions.
// KIND (of Kind) is a macro, and not FLOAT32.
#pragma once

#include "common.cuh"

#ifdef EBR_HOST
namespace shim {

struct Operands {
    unsigned a[4], b[2];
};

inline double half_of(unsigned word, unsigned place) {
    const unsigned bits = word >> 16 * place & 0xffffu;
    return KIND == FLOAT16 ? from_float16(bits) : from_bfloat16(bits);
}

// As tensor cores have been measured to: exact products, all cut off where the largest's 24th bit is, and the sum too.
inline float sum_cut_off(const double (&terms)[17]) {
    double largest = 0, sum = 0;
    for (const double term : terms) largest = std::max(largest, std::abs(term));
    if (!(largest > 0 && largest < 0x1p127)) {
        for (const double term : terms) sum += term;
        return static_cast<float>(sum);
    }
    const double unit = std::bit_cast<double>((std::bit_cast<std::uint64_t>(largest) >> 52) << 52) * 0x1p-23;
    for (const double term : terms) sum += static_cast<double>(static_cast<long long>(term / unit));
    const float rounded = static_cast<float>(sum * unit);
    return std::abs(rounded) > std::abs(sum * unit) ? std::nextafter(rounded, 0.0f) : rounded;
}

}  // namespace shim
#endif

// sums += rows * queries: 16 rows, 8 queries and 16 values of each, spread over a warp's lanes as PTX has it for
// mma.m16n8k16. Lane 4g + t has of ``a`` two values in each word, 2t and 2t + 1 of rows g and g + 8, then 2t + 8 and
// 2t + 9 of the same; of ``b`` the same values of query g; of ``sums`` queries 2t and 2t + 1 of rows g, then of g + 8.
__device__ __forceinline__ void multiply_add(float (&sums)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
#ifdef EBR_HOST
    const shim::Operands own{{a[0], a[1], a[2], a[3]}, {b[0], b[1]}};
    const shim::Operands* lanes = shim::exchange_all(own);
    const unsigned lane = threadIdx.x % WARP_LANES;
    for (unsigned i = 0; i < 4; ++i) {
        const unsigned row = lane / 4 + i / 2 * 8, query = lane % 4 * 2 + i % 2;
        double terms[17] = {sums[i]};
        for (unsigned k = 0; k < 16; ++k) {
            const shim::Operands& of_row = lanes[row % 8 * 4 + k % 8 / 2];
            const shim::Operands& of_query = lanes[query * 4 + k % 8 / 2];
            terms[1 + k] = shim::half_of(of_row.a[k / 8 * 2 + row / 8], k % 2) * shim::half_of(of_query.b[k / 8], k % 2);
        }
        sums[i] = shim::sum_cut_off(terms);
    }
#else
    if (KIND == FLOAT16) {
        asm volatile(
            "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
            "{%0, %1, %2, %3};"
            : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
    } else {
        asm volatile(
            "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
            "{%0, %1, %2, %3};"
            : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
    }
#endif
}

// Start a copy of 16 bytes to shared memory; both addresses are multiples of 16.
__device__ __forceinline__ void copy_later(uint4* to, const uint4* from) {
#ifdef EBR_HOST
    shim::copy_later(to, from);
#else
    const unsigned at = static_cast<unsigned>(__cvta_generic_to_shared(to));
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(at), "l"(from) : "memory");
#endif
}

// Until the copies that this thread started have arrived; other threads see them after the block's next barrier.
__device__ __forceinline__ void wait_for_copies() {
#ifdef EBR_HOST
    shim::wait_for_copies();
#else
    asm volatile("cp.async.wait_all;" ::: "memory");
#endif
}

// The nearest float16 to a value below 4, ties to the even one.
__device__ __forceinline__ unsigned to_float16(float value) {
#ifdef EBR_HOST
    const unsigned bits = __float_as_uint(value), sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
    if (magnitude < 113u << 23)
        return sign | static_cast<unsigned>(std::nearbyint(__uint_as_float(magnitude) * 0x1p24f));
    const unsigned rounded = (magnitude + 0xfffu + (magnitude >> 13 & 1u)) >> 13;
    return sign | (rounded - (112u << 10));
#else
    unsigned short bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
#endif
}

__device__ __forceinline__ unsigned to_bfloat16(float value) {
    const unsigned bits = __float_as_uint(value);
    return (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
}
