// What stands in a record: its centroid's number, the length of its residual, its code (docs/FORMAT.md).
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "search_kernels.h"

namespace colindex {
namespace {

inline float half_to_float(std::uint16_t half) {
#if defined(__F16C__)
    return _cvtsh_ss(half);
#else
    const std::uint32_t magnitude = static_cast<std::uint32_t>(half & 0x7fff) << 13;
    float value;  // the exponent is 112 too small; a multiplication mends it, for subnormal numbers too
    std::memcpy(&value, &magnitude, sizeof value);
    value *= 5.192296858534828e+33f;  // 2**112
    if (magnitude >= 0x7c00u << 13) value = magnitude == 0x7c00u << 13 ? INFINITY : NAN;
    return half & 0x8000 ? -value : value;
#endif
}

inline std::uint32_t centroid_of(const std::uint8_t* record, int centroid_bytes) {
    std::uint16_t low, high = 0;  // records are little-endian, as are the machines that this is built for
    std::memcpy(&low, record, sizeof low);
    if (centroid_bytes == 4) std::memcpy(&high, record + 2, sizeof high);
    return static_cast<std::uint32_t>(high) << 16 | low;
}

// Finite, as encoders write it: in a record that none wrote, an infinite length is the largest one, and NaN is 0.
inline float length_of(const std::uint8_t* record, int centroid_bytes) {
    std::uint16_t half;
    std::memcpy(&half, record + centroid_bytes, sizeof half);
    const float length = half_to_float(half);
    if (std::isnan(length)) return 0;
    return std::isinf(length) ? std::copysign(65504.0f, length) : length;
}

// The size of the largest level.
inline float largest_of(const float* levels) {
    float largest = 0;
    for (int state = 0; state < 256; ++state) {
        const float size = std::fabs(levels[state]);
        largest = size > largest ? size : largest;
    }
    return largest;
}

// Asks for a row of a table before it is needed.
template <typename Value>
void prefetch_row(const Value* rows, std::uint32_t row, int dim) {
    const auto row_bytes = static_cast<std::uintptr_t>(dim) * sizeof(Value);
    const std::uintptr_t start = reinterpret_cast<std::uintptr_t>(rows) + row * row_bytes;
    for (std::uintptr_t line = start & ~std::uintptr_t{63}; line < start + row_bytes; line += 64)
        __builtin_prefetch(reinterpret_cast<const char*>(line));  // of no effect where nothing lies
}

#if defined(__AVX512VBMI__)

// How 64 states come out of the bytes of a code.
struct StateOrder {
    explicit StateOrder(int bits) : whole(bits == 8) {
        alignas(64) std::uint8_t of_bytes[64], of_shifts[64];
        for (int lane = 0; lane < 8; ++lane) {
            for (int place = 0; place < 8; ++place) {
                // A lane of 8 states holds its `bits` bytes and the one before, the latest byte lowest (the stream is big-endian).
                of_bytes[8 * lane + place] = static_cast<std::uint8_t>(place <= bits ? bits * lane + bits - place : 0);
                of_shifts[8 * lane + place] = static_cast<std::uint8_t>(bits * (7 - place));
            }
        }
        bytes = _mm512_load_si512(of_bytes);
        shifts = _mm512_load_si512(of_shifts);
    }

    // Where the states of 64 dimensions lie in a code.
    struct Cut {
        std::ptrdiff_t begin;
        __mmask64 bytes;
    };

    // From dimension `first` on, a multiple of 64.
    static Cut cut(const Records& layout, int first) {
        const int begin = first * layout.bits / 8, left = layout.code_bytes - begin;
        if (layout.bits == 8) return {begin, left >= 64 ? ~0ull : (1ull << left) - 1};
        const int most = 8 * layout.bits;
        const std::uint64_t wanted = (1ull << ((left < most ? left : most) + 1)) - 1;  // and the byte before
        return {begin - 1, first == 0 ? wanted & ~1ull : wanted};
    }

    __m512i states(const std::uint8_t* code, Cut cut) const {
        const __m512i stream = _mm512_maskz_loadu_epi8(cut.bytes, code + cut.begin);
        return whole ? stream : _mm512_multishift_epi64_epi8(shifts, _mm512_permutexvar_epi8(bytes, stream));
    }

    bool whole;  // a byte is a state
    __m512i bytes, shifts;
};

// 256 bytes in four registers.
struct ByteTable {
    explicit ByteTable(const void* values) {
        for (int part = 0; part < 4; ++part) of[part] = _mm512_loadu_si512(static_cast<const char*>(values) + 64 * part);
    }

    // Two lookups, each of half the states; where a state is of the other half, it stays in its place.
    __m512i look_up(__m512i states) const {
        const __mmask64 upper = _mm512_movepi8_mask(states);
        const __m512i mixed = _mm512_mask2_permutex2var_epi8(of[2], states, upper, of[3]);
        return _mm512_mask2_permutex2var_epi8(of[0], mixed, _knot_mask64(upper), of[1]);
    }

    __m512i of[4];
};

#else

// The values of the states of a code, one after the other.
template <int bits, typename Value>
void look_up(const std::uint8_t* code, const Value* of_states, int dim, Value* out) {
    constexpr int places = 8 / bits;
    std::uint32_t stream = 0;
    const int whole_bytes = dim / places;
    for (int byte = 0; byte < whole_bytes; ++byte) {
        stream = stream << 8 | code[byte];
#pragma GCC unroll 8
        for (int place = 0; place < places; ++place) *out++ = of_states[stream >> (8 - bits * (place + 1)) & 0xff];
    }
    for (int place = 0; place < dim % places; ++place) {  // of a last byte that ends in padding
        if (place == 0) stream = stream << 8 | code[whole_bytes];
        *out++ = of_states[stream >> (8 - bits * (place + 1)) & 0xff];
    }
}

template <typename Value>
void look_up(const std::uint8_t* code, const Value* of_states, int dim, int bits, Value* out) {
    switch (bits) {
        case 1: look_up<1>(code, of_states, dim, out); break;
        case 2: look_up<2>(code, of_states, dim, out); break;
        case 4: look_up<4>(code, of_states, dim, out); break;
        default: look_up<8>(code, of_states, dim, out);
    }
}

#endif

}  // namespace
}  // namespace colindex
