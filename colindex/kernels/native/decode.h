// From a record to a vector in 16-bit whole numbers: centroid + length * level, see colindex/kernels/reference/codes.py.
//
// 1. Cut the code into states: the state of a dimension is the 8 bits of the stream that end with its own.
// 2. Look up the level of each state, a whole number of up to 4,095.
// 3. Multiply by the length, in steps of the centroids, as 16-bit multiplication keeps it: round(level * length / 2**15);
//    add it to the centroid, a whole number whose vector is at most 8,191 long.
// 4. Sum up the squares, for the vector's length.
//
// A residual that is too long for 16 bits (more than three times the longest centroid, or nearly) is decoded in floating point,
// and brought to a length that fits. Every instruction set gives the same numbers.
#pragma once

#include <cmath>
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

// The levels as whole numbers, and how lengths go with them.
struct Levels {
    explicit Levels(const Codes& codes) {
        float largest = 0;
        for (int state = 0; state < 256; ++state) {
            const float size = std::fabs(codes.levels[state]);
            largest = size > largest ? size : largest;
        }
        const double level_step = largest > 0 ? static_cast<double>(largest) / kLevelWhole : 1.0;
        for (int state = 0; state < 256; ++state)
            wholes[state] = static_cast<std::int16_t>(std::lrint(codes.levels[state] / level_step));
        factor = level_step / codes.step * 32768.0;
        const double widest = largest * std::sqrt(static_cast<double>(codes.dim)) / codes.step;  // a residual of length 1, in steps
        const double of_vector = widest > 0 ? (kWhole - kCentroidWhole - codes.dim) / widest : INFINITY;
        const double of_factor = (kWhole - 1) / factor;
        longest = of_vector < of_factor ? of_vector : of_factor;
    }

    alignas(64) std::int16_t wholes[256];
    double factor;   // length -> the factor of a 16-bit multiplication
    double longest;  // lengths that fit 16 bits
};

#if defined(__AVX512VBMI__)

// The same in registers: tables of 128 bytes in two, low and high bytes apart.
struct LevelTables {
    explicit LevelTables(const Levels& levels) {
        alignas(64) std::uint8_t bytes[2][256];
        for (int state = 0; state < 256; ++state) {
            const auto whole = static_cast<std::uint16_t>(levels.wholes[state]);
            bytes[0][state] = static_cast<std::uint8_t>(whole & 0xff);
            bytes[1][state] = static_cast<std::uint8_t>(whole >> 8);
        }
        for (int part = 0; part < 4; ++part) {
            low[part] = _mm512_load_si512(bytes[0] + 64 * part);
            high[part] = _mm512_load_si512(bytes[1] + 64 * part);
        }
    }

    static __m512i look_up(const __m512i* table, __m512i states, __mmask64 upper) {
        const __m512i below = _mm512_permutex2var_epi8(table[0], states, table[1]);
        return _mm512_mask_blend_epi8(upper, below, _mm512_permutex2var_epi8(table[2], states, table[3]));
    }

    __m512i low[4], high[4];
};

// How 64 states come out of the bytes of the code, and how low and high bytes of 64 levels become two times 32 levels.
struct Orders {
    explicit Orders(int bits) {
        alignas(64) std::uint8_t of_bytes[64], of_shifts[64], first[64], second[64];
        for (int lane = 0; lane < 8; ++lane) {
            for (int place = 0; place < 8; ++place) {
                // A lane of 8 states holds its `bits` bytes and the one before, the latest byte lowest (the stream is big-endian).
                of_bytes[8 * lane + place] = static_cast<std::uint8_t>(place <= bits ? bits * lane + bits - place : 0);
                of_shifts[8 * lane + place] = static_cast<std::uint8_t>(bits * (7 - place));
            }
        }
        for (int place = 0; place < 64; ++place) {
            first[place] = static_cast<std::uint8_t>((place & 1 ? 64 : 0) + place / 2);
            second[place] = static_cast<std::uint8_t>(first[place] + 32);
        }
        bytes = _mm512_load_si512(of_bytes);
        shifts = _mm512_load_si512(of_shifts);
        halves[0] = _mm512_load_si512(first);
        halves[1] = _mm512_load_si512(second);
    }

    __m512i bytes, shifts, halves[2];
};

struct Decoder {
    explicit Decoder(const Codes& codes) : codes(codes), levels(codes), tables(levels), orders(codes.bits) {}

    // Values [0, padded) of centroid + factor * level; returns the sum of their squares.
    std::int32_t add_up(const std::uint8_t* code, const std::int16_t* centroid, std::int16_t factor, int padded,
                        std::int16_t* out) const {
        const __m512i multiplier = _mm512_set1_epi16(factor);
        __m512i squares = _mm512_setzero_si512();
        for (int first = 0; first < padded; first += 64) {
            const __m512i states = states_from(code, first);
            const __mmask64 upper = _mm512_movepi8_mask(states);
            const __m512i low = LevelTables::look_up(tables.low, states, upper);
            const __m512i high = LevelTables::look_up(tables.high, states, upper);
            for (int half = 0; half < 2 && first + 32 * half < padded; ++half) {
                const int at = first + 32 * half;
                const __m512i level = _mm512_permutex2var_epi8(low, orders.halves[half], high);
                const __mmask32 within = codes.dim - at >= 32 ? ~0u : (1u << (codes.dim - at)) - 1;
                const __m512i middle = _mm512_maskz_loadu_epi16(within, centroid + at);
                const __m512i value = _mm512_maskz_add_epi16(within, middle, _mm512_mulhrs_epi16(level, multiplier));
                squares = _mm512_dpwssd_epi32(squares, value, value);
                _mm512_storeu_si512(out + at, value);
            }
        }
        return _mm512_reduce_add_epi32(squares);
    }

    const Codes& codes;
    Levels levels;

  private:
    __m512i states_from(const std::uint8_t* code, int first) const {
        const int begin = first * codes.bits / 8;
        const int left = codes.code_bytes - begin;
        if (codes.bits == 8) return _mm512_maskz_loadu_epi8(left >= 64 ? ~0ull : (1ull << left) - 1, code + begin);
        const int bytes = (left < 8 * codes.bits ? left : 8 * codes.bits) + 1;  // at most 33: those of 64 states and the one before
        const std::uint64_t wanted = (1ull << bytes) - 1;
        const __m512i stream = _mm512_maskz_loadu_epi8(first == 0 ? wanted & ~1ull : wanted, code + begin - 1);
        return _mm512_multishift_epi64_epi8(orders.shifts, _mm512_permutexvar_epi8(orders.bytes, stream));
    }

    LevelTables tables;
    Orders orders;
};

#else

struct Decoder {
    explicit Decoder(const Codes& codes) : codes(codes), levels(codes) {}

    std::int32_t add_up(const std::uint8_t* code, const std::int16_t* centroid, std::int16_t factor, int padded,
                        std::int16_t* out) const {
        switch (codes.bits) {
            case 1: look_up<1>(code, out); break;
            case 2: look_up<2>(code, out); break;
            case 4: look_up<4>(code, out); break;
            default: look_up<8>(code, out);
        }
        std::int32_t squares = 0;
        for (int at = 0; at < codes.dim; ++at) {
            const auto product = static_cast<std::int16_t>((out[at] * factor + 0x4000) >> 15);
            const auto value = static_cast<std::int16_t>(centroid[at] + product);
            squares += value * value;
            out[at] = value;
        }
        for (int at = codes.dim; at < padded; ++at) out[at] = 0;
        return squares;
    }

    const Codes& codes;
    Levels levels;

  private:
    template <int bits>
    void look_up(const std::uint8_t* code, std::int16_t* out) const {
        constexpr int places = 8 / bits;
        std::uint32_t stream = 0;
        const int whole_bytes = codes.dim / places;
        for (int byte = 0; byte < whole_bytes; ++byte) {
            stream = stream << 8 | code[byte];
#pragma GCC unroll 8
            for (int place = 0; place < places; ++place) *out++ = levels.wholes[stream >> (8 - bits * (place + 1)) & 0xff];
        }
        for (int place = 0; place < codes.dim % places; ++place) {  // of a last byte that ends in padding
            if (place == 0) stream = stream << 8 | code[whole_bytes];
            *out++ = levels.wholes[stream >> (8 - bits * (place + 1)) & 0xff];
        }
    }
};

#endif

// The vector of a record whose residual is too long for 16 bits: values scaled so that the vector is 32,767 long. Returns the
// vector's length.
inline float decode_long(const Decoder& decoder, const std::uint8_t* record, const std::int16_t* centroid, int padded,
                         double* values, std::int16_t* out) {
    const Codes& codes = decoder.codes;
    const std::uint8_t* code = record + codes.centroid_bytes + 2;
    const double length = length_of(record, codes.centroid_bytes);
    double square = 0;
    std::uint32_t stream = 0;
    for (int at = 0; at < codes.dim; ++at) {
        const int bit = at * codes.bits % 8;
        if (bit == 0) stream = stream << 8 | code[at * codes.bits / 8];
        values[at] = static_cast<double>(centroid[at]) * codes.step + length * codes.levels[stream >> (8 - bit - codes.bits) & 0xff];
        square += values[at] * values[at];
    }
    const double size = std::sqrt(square);
    for (int at = 0; at < padded; ++at)
        out[at] = at < codes.dim && size > 0 ? static_cast<std::int16_t>(std::lrint(values[at] / size * kWhole)) : 0;
    return static_cast<float>(size);
}

}  // namespace
}  // namespace colindex
