// From records to vectors in 8-bit whole numbers, 16 side by side: centroid + length * level, see
// colindex/kernels/reference/codes.py.
//
// 1. Weigh: a centroid's values count in steps of its own, levels in steps of the largest one, -127 to 127 both. How large the
//    sum can become tells the step of the vector, and two whole numbers of together 255, by which centroid and levels count.
// 2. Cut the code into states, and look up the level of each (record.h).
// 3. Add up: value = (weight of the centroid * its value + weight of the levels * level + 128) / 256, rounded down. That is at
//    most 127, whatever is in the record.
// 4. Lay four values of each of 16 vectors side by side, 128 too large, as `multiply_tile` (multiply.h) takes them; and sum up the
//    squares, for the vectors' lengths.
//
// Every instruction set gives the same numbers.
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

constexpr int kByteWhole = 127, kWeights = 255;
constexpr std::uintptr_t kFarther = 1024;  // bytes between records whose centroids are asked for and records that are themselves

// Levels as bytes, and what one step of them is worth.
struct ByteLevels {
    explicit ByteLevels(const float* levels) {
        const float largest = largest_of(levels);
        const double exact = static_cast<double>(largest) / kByteWhole;
        for (int state = 0; state < 256; ++state)
            values[state] = static_cast<std::int8_t>(largest > 0 ? std::lrint(levels[state] / exact) : 0);
        step = static_cast<float>(exact);
    }

    alignas(64) std::int8_t values[256];
    float step;
};

// 16 records in parts, before they are added.
struct Parts {
    const std::int8_t* centroids[kLanes];
    const std::uint8_t* codes[kLanes];
    const std::uint8_t* ahead[kLanes];        // a record whose centroid will be needed soon
    alignas(64) float of_centroids[kLanes];   // what one step of each is worth
    alignas(64) float of_levels[kLanes];      // below 0 in records that no encoder wrote
    alignas(64) float steps[kLanes];          // of the vectors
    alignas(64) std::int32_t weights[kLanes];  // of the centroid, which leaves 255 less that for the levels
};

// 1. In single precision, each operation rounded: the same for every instruction set. Of a zero vector, the centroid's zeros count.
inline void weigh(Parts& parts) {
    for (int lane = 0; lane < kLanes; ++lane) {
        const float sum = parts.of_centroids[lane] + std::fabs(parts.of_levels[lane]);
        parts.weights[lane] = static_cast<std::int32_t>((sum > 0 ? parts.of_centroids[lane] / sum : 1.0f) * kWeights + 0.5f);
        parts.steps[lane] = sum * (256.0f / kWeights);
    }
}

// Centroids lie anywhere in memory, and records came from elsewhere: asks for what will be needed of a record.
inline void prefetch_centroid(const ByteCodes& codes, const std::uint8_t* record) {
    prefetch_row(codes.centroids, centroid_of(record, codes.centroid_bytes), codes.dim);
    __builtin_prefetch(reinterpret_cast<const char*>(reinterpret_cast<std::uintptr_t>(record) + kFarther));
}

#if defined(__AVX512VBMI__)

// Steps 2 and 3 for 64 dimensions; a copy in a function lies in registers.
struct ByteAdder {
    ByteAdder(int bits, const ByteLevels& levels) : order(bits), table(levels.values) {
        alignas(64) std::uint8_t places[64];
        for (int at = 0; at < 64; ++at) places[at] = static_cast<std::uint8_t>(at / 16 * 16 + at % 8 * 2 + 1 + (at % 16 / 8 ? 64 : 0));
        high_bytes = _mm512_load_si512(places);
    }

    // Of the dimensions from `first` on; 0 where they are not within.
    __m512i values(const Parts& parts, int lane, int first, StateOrder::Cut cut, __mmask64 within) const {
        __m512i levels = table.look_up(order.states(parts.codes[lane], cut));
        if (parts.of_levels[lane] < 0) levels = _mm512_sub_epi8(_mm512_setzero_si512(), levels);
        const __m512i centroid = _mm512_maskz_loadu_epi8(within, parts.centroids[lane] + first);
        const __m512i weights = _mm512_set1_epi16(static_cast<std::int16_t>(parts.weights[lane] * -255 + kWeights * 256));
        const __m512i half = _mm512_set1_epi16(128);
        const __m512i low = _mm512_add_epi16(_mm512_maddubs_epi16(weights, _mm512_unpacklo_epi8(centroid, levels)), half);
        const __m512i high = _mm512_add_epi16(_mm512_maddubs_epi16(weights, _mm512_unpackhi_epi8(centroid, levels)), half);
        return _mm512_maskz_permutex2var_epi8(within, low, high_bytes, high);
    }

    StateOrder order;
    ByteTable table;
    __m512i high_bytes;
};

// Steps 2 to 4.
struct ByteBlock {
    ByteBlock(const ByteCodes& codes, const ByteLevels& levels) : codes(codes), adder(codes.bits, levels) {}

    void fill(const Parts& parts, int quads, std::uint8_t* block, std::int32_t* squares) const {
        const ByteAdder own = adder;
        __m512i sums = _mm512_setzero_si512();
        for (int first = 0; first < codes.dim; first += 64, block += 64 * kLanes) {
            const int left = codes.dim - first;
            const __mmask64 within = left >= 64 ? ~0ull : (1ull << left) - 1;
            const auto cut = StateOrder::cut(codes, first);
            __m512i quarters[4][4];  // [four vectors][word % 4]: word / 4 in lanes of four words, one of each vector
            for (int four = 0; four < 4; ++four) {
                __m512i rows[4];
#pragma GCC unroll 4
                for (int row = 0; row < 4; ++row) {
                    if (first == 0) prefetch_centroid(codes, parts.ahead[4 * four + row]);
                    rows[row] = own.values(parts, 4 * four + row, first, cut, within);
                }
                const __m512i low = _mm512_unpacklo_epi32(rows[0], rows[1]), high = _mm512_unpackhi_epi32(rows[0], rows[1]);
                const __m512i low2 = _mm512_unpacklo_epi32(rows[2], rows[3]), high2 = _mm512_unpackhi_epi32(rows[2], rows[3]);
                quarters[four][0] = _mm512_unpacklo_epi64(low, low2);
                quarters[four][1] = _mm512_unpackhi_epi64(low, low2);
                quarters[four][2] = _mm512_unpacklo_epi64(high, high2);
                quarters[four][3] = _mm512_unpackhi_epi64(high, high2);
            }
            const int words = quads - first / 4;
            for (int word = 0; word < 4; ++word) {
                __m512i parts_of[4];  // words `word` and `word` + 4 of 8 vectors, then + 8 and + 12; then of the other 8
                for (int half = 0; half < 2; ++half) {
                    const __m512i here = quarters[2 * half][word], next = quarters[2 * half + 1][word];
                    parts_of[2 * half] = _mm512_shuffle_i32x4(here, next, 0x44);
                    parts_of[2 * half + 1] = _mm512_shuffle_i32x4(here, next, 0xee);
                }
                const auto keep = [&](int of_word, __m512i column) {
                    if (of_word >= words) return;
                    const __m512i sizes = _mm512_abs_epi8(column);
                    sums = _mm512_dpbusd_epi32(sums, sizes, sizes);
                    _mm512_store_si512(block + of_word * 4 * kLanes, _mm512_xor_si512(column, _mm512_set1_epi8(-128)));
                };
                keep(word, _mm512_shuffle_i32x4(parts_of[0], parts_of[2], 0x88));
                keep(word + 4, _mm512_shuffle_i32x4(parts_of[0], parts_of[2], 0xdd));
                keep(word + 8, _mm512_shuffle_i32x4(parts_of[1], parts_of[3], 0x88));
                keep(word + 12, _mm512_shuffle_i32x4(parts_of[1], parts_of[3], 0xdd));
            }
        }
        _mm512_store_si512(squares, sums);
    }

  private:
    const ByteCodes& codes;
    ByteAdder adder;
};

#else

struct ByteBlock {
    ByteBlock(const ByteCodes& codes, const ByteLevels& levels) : codes(codes), levels(levels) {}

    void fill(const Parts& parts, int quads, std::uint8_t* block, std::int32_t* squares) {
        for (int lane = 0; lane < kLanes; ++lane) {
            prefetch_centroid(codes, parts.ahead[lane]);
            const std::int16_t weight = static_cast<std::int16_t>(parts.weights[lane]);
            const std::int16_t rest = static_cast<std::int16_t>(parts.of_levels[lane] < 0 ? weight - kWeights : kWeights - weight);
            const std::int8_t* centroid = parts.centroids[lane];
            look_up(parts.codes[lane], levels.values, codes.dim, codes.bits, values);
            std::int32_t sum = 0;
            for (int at = 0; at < codes.dim; ++at) {  // in 16 bits, which no sum leaves
                const auto of_both = static_cast<std::int16_t>(weight * centroid[at] + rest * values[at] + 128);
                const auto value = static_cast<std::int16_t>(of_both >> 8);
                sum += value * value;
                values[at] = static_cast<std::int8_t>(value);
            }
            squares[lane] = sum;
            for (int at = codes.dim; at < 4 * quads; ++at) values[at] = 0;
            for (int quad = 0; quad < quads; ++quad) {
                std::uint32_t word;
                std::memcpy(&word, values + 4 * quad, sizeof word);
                word ^= 0x80808080u;
                std::memcpy(block + (quad * kLanes + lane) * 4, &word, sizeof word);
            }
        }
    }

  private:
    const ByteCodes& codes;
    const ByteLevels& levels;
    std::int8_t values[kMaxWidth];
};

#endif

// 1 / the square root of 16 sums, 0 for 0.
inline void inverse_lengths(const std::int32_t* squares, float* lengths) {
#if defined(__AVX512F__)
    const __m512i sums = _mm512_load_si512(squares);
    const __m512 sizes = _mm512_sqrt_ps(_mm512_cvtepi32_ps(sums));
    _mm512_storeu_ps(lengths, _mm512_maskz_div_ps(_mm512_test_epi32_mask(sums, sums), _mm512_set1_ps(1.0f), sizes));
#else
    for (int lane = 0; lane < kLanes; ++lane) lengths[lane] = squares[lane] ? 1.0f / std::sqrt(static_cast<float>(squares[lane])) : 0.0f;
#endif
}

// All four steps.
struct ByteDecoder {
    explicit ByteDecoder(const ByteCodes& codes) : codes(codes), levels(codes.levels), block_of(codes, levels) {}

    // `here` records, 16 at most, to vectors of 4 `quads` values; and what a step of each vector is worth. Those from `ahead` on, as
    // many, will follow soon. False if a record names a centroid that does not exist.
    bool decode(const std::uint8_t* records, const std::uint8_t* ahead, int here, int quads, std::uint8_t* block, float* steps) {
        Parts parts;
        alignas(64) std::int32_t squares[kLanes] = {};
        for (int lane = 0; lane < kLanes; ++lane) {
            const int own = lane < here ? lane : here - 1;
            const std::uint8_t* record = records + own * codes.record_bytes;
            const std::uint32_t id = centroid_of(record, codes.centroid_bytes);
            if (id >= codes.n_centroids) return false;
            parts.centroids[lane] = codes.centroids + static_cast<std::size_t>(id) * codes.dim;
            parts.codes[lane] = record + codes.centroid_bytes + 2;
            parts.ahead[lane] = ahead + own * codes.record_bytes;
            parts.of_centroids[lane] = codes.steps[id];
            parts.of_levels[lane] = length_of(record, codes.centroid_bytes) * levels.step;
        }
        weigh(parts);
        block_of.fill(parts, quads, block, squares);
        if (codes.unit)
            inverse_lengths(squares, steps);
        else
            for (int lane = 0; lane < kLanes; ++lane) steps[lane] = parts.steps[lane] < kLargest ? parts.steps[lane] : kLargest;
        return true;
    }

  private:
    static constexpr float kLargest = 3.4028234663852886e+38f;

    const ByteCodes& codes;
    ByteLevels levels;
    ByteBlock block_of;
};

}  // namespace
}  // namespace colindex
