// From a record to a vector in 16-bit whole numbers: centroid + length * level, see colindex/kernels/reference/codes.py.
//
// 1. Cut the code into states: the state of a dimension is the 8 bits of the stream that end with its own.
// 2. Look up the level of each state, a whole number of up to 4,095.
// 3. Multiply by the length, in steps of the centroids, as 16-bit multiplication keeps it: round(level * length / 2**15);
//    add it to the centroid, a whole number whose vector is at most 8,191 long.
// 4. Sum up the squares, for the vector's length.
//
// Where a value could leave 16 bits, or the vector came out longer than 32,767 (more than three times the longest centroid, or
// nearly), the record is decoded in floating point, and brought to a length that fits. Every instruction set gives the same numbers.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "record.h"
#include "search_kernels.h"

namespace colindex {
namespace {

// The levels as whole numbers, and how lengths go with them.
struct Levels {
    explicit Levels(const Codes& codes) {
        const float largest = largest_of(codes.levels);
        const double level_step = largest > 0 ? static_cast<double>(largest) / kLevelWhole : 1.0;
        for (int state = 0; state < 256; ++state)
            wholes[state] = static_cast<std::int16_t>(std::lrint(codes.levels[state] / level_step));
        factor = level_step / codes.step * 32768.0;
        const double widest = largest / codes.step;  // a value of a residual of length 1, in steps
        const double of_value = widest > 0 ? (kWhole - kCentroidWhole - 1) / widest : INFINITY;
        const double of_factor = (kWhole - 1) / factor;
        longest = of_value < of_factor ? of_value : of_factor;
    }

    alignas(64) std::int16_t wholes[256];
    double factor;   // length -> the factor of a 16-bit multiplication
    double longest;  // lengths whose values fit 16 bits
};

constexpr std::int64_t kMost = static_cast<std::int64_t>(kWhole) * static_cast<std::int64_t>(kWhole);  // of a vector's squares

#if defined(__AVX512VBMI__)

// The same in registers: low and high bytes apart, and how those of 64 levels become two times 32 levels.
struct LevelTables {
    explicit LevelTables(const Levels& levels) : low(bytes(levels, 0)), high(bytes(levels, 8)) {
        alignas(64) std::uint8_t first[64], second[64];
        for (int place = 0; place < 64; ++place) {
            first[place] = static_cast<std::uint8_t>((place & 1 ? 64 : 0) + place / 2);
            second[place] = static_cast<std::uint8_t>(first[place] + 32);
        }
        halves[0] = _mm512_load_si512(first);
        halves[1] = _mm512_load_si512(second);
    }

    ByteTable low, high;
    __m512i halves[2];

  private:
    static ByteTable bytes(const Levels& levels, int shift) {
        alignas(64) std::uint8_t found[256];
        for (int state = 0; state < 256; ++state)
            found[state] = static_cast<std::uint8_t>(static_cast<std::uint16_t>(levels.wholes[state]) >> shift & 0xff);
        return ByteTable(found);
    }
};

struct Decoder {
    explicit Decoder(const Codes& codes) : codes(codes), levels(codes), tables(levels), order(codes.bits) {}

    // Values [0, padded) of centroid + factor * level; returns the sum of their squares, or one that is larger than kMost too.
    std::int64_t add_up(const std::uint8_t* code, const std::int16_t* centroid, std::int16_t factor, int padded,
                        std::int16_t* out) const {
        const __m512i multiplier = _mm512_set1_epi16(factor);
        __m512i squares = _mm512_setzero_si512();
        for (int first = 0; first < padded; first += 64) {
            const __m512i states = order.states(code, order.cut(codes, first));
            const __m512i low = tables.low.look_up(states), high = tables.high.look_up(states);
            for (int half = 0; half < 2 && first + 32 * half < padded; ++half) {
                const int at = first + 32 * half;
                const __m512i level = _mm512_permutex2var_epi8(low, tables.halves[half], high);
                const __mmask32 within = codes.dim - at >= 32 ? ~0u : (1u << (codes.dim - at)) - 1;
                const __m512i middle = _mm512_maskz_loadu_epi16(within, centroid + at);
                const __m512i value = _mm512_maskz_add_epi16(within, middle, _mm512_mulhrs_epi16(level, multiplier));
                squares = _mm512_dpwssds_epi32(squares, value, value);  // what is too large stays so
                _mm512_storeu_si512(out + at, value);
            }
        }
        return _mm512_reduce_add_epi64(_mm512_add_epi64(_mm512_cvtepi32_epi64(_mm512_castsi512_si256(squares)),
                                                        _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64(squares, 1))));
    }

    const Codes& codes;
    Levels levels;

  private:
    LevelTables tables;
    StateOrder order;
};

#else

struct Decoder {
    explicit Decoder(const Codes& codes) : codes(codes), levels(codes) {}

    std::int64_t add_up(const std::uint8_t* code, const std::int16_t* centroid, std::int16_t factor, int padded,
                        std::int16_t* out) const {
        look_up(code, levels.wholes, codes.dim, codes.bits, out);
        std::int64_t squares = 0;
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
};

#endif

// The vector of a record that is too long for 16 bits: values scaled so that the vector is 32,767 long. Returns the
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
