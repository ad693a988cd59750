// Dot products of 8 vectors with 16 query tokens (or with the first 8 of them), 32-bit sums.
//
// Lanes are query tokens: each step takes two values of a vector, hands them to all lanes, and multiplies them with the same
// values of the tokens. No sum ever crosses lanes.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "search_kernels.h"

namespace colindex {
namespace {

// The `step`-th four bytes of a vector.
inline std::int32_t word_at(const void* vector, int step) {
    std::int32_t word;
    std::memcpy(&word, static_cast<const char*>(vector) + 4 * step, sizeof word);
    return word;
}

// vectors: 8 pointers to int16 [2 * pairs]; query: one block, int16 [pairs][16][2]; out: int32 [8][16].
#if defined(__AVX512VNNI__)

inline void dots(const std::int16_t* const* vectors, const std::int16_t* query, int pairs, std::int32_t* out) {
    __m512i sums[kGroup];
    for (int v = 0; v < kGroup; ++v) sums[v] = _mm512_setzero_si512();
    for (int pair = 0; pair < pairs; ++pair) {
        const __m512i tokens = _mm512_loadu_si512(query + pair * 2 * kLanes);
#pragma GCC unroll 8
        for (int v = 0; v < kGroup; ++v)
            sums[v] = _mm512_dpwssd_epi32(sums[v], tokens, _mm512_set1_epi32(word_at(vectors[v], pair)));
    }
    for (int v = 0; v < kGroup; ++v) _mm512_storeu_si512(out + v * kLanes, sums[v]);
}

inline void dots_of_half(const std::int16_t* const* vectors, const std::int16_t* query, int pairs, std::int32_t* out) {
    __m256i sums[kGroup];
    for (int v = 0; v < kGroup; ++v) sums[v] = _mm256_setzero_si256();
    for (int pair = 0; pair < pairs; ++pair) {
        const __m256i tokens = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(query + pair * 2 * kLanes));
#pragma GCC unroll 8
        for (int v = 0; v < kGroup; ++v)
            sums[v] = _mm256_dpwssd_epi32(sums[v], tokens, _mm256_set1_epi32(word_at(vectors[v], pair)));
    }
    for (int v = 0; v < kGroup; ++v) _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + v * kLanes), sums[v]);
}

#elif defined(__AVX2__)

// 4 vectors at a time: with two halves 8 sums, which leaves registers for the operands.
template <int halves>
inline void dots_of_halves(const std::int16_t* const* vectors, const std::int16_t* query, int pairs, std::int32_t* out) {
    for (int first = 0; first < kGroup; first += 4) {
        __m256i sums[4][halves];
        for (int v = 0; v < 4; ++v)
            for (int half = 0; half < halves; ++half) sums[v][half] = _mm256_setzero_si256();
        for (int pair = 0; pair < pairs; ++pair) {
            const auto* tokens = reinterpret_cast<const __m256i*>(query + pair * 2 * kLanes);
#pragma GCC unroll 4
            for (int v = 0; v < 4; ++v) {
                const __m256i word = _mm256_set1_epi32(word_at(vectors[first + v], pair));
                for (int half = 0; half < halves; ++half)
                    sums[v][half] =
                        _mm256_add_epi32(sums[v][half], _mm256_madd_epi16(_mm256_loadu_si256(tokens + half), word));
            }
        }
        for (int v = 0; v < 4; ++v)
            for (int half = 0; half < halves; ++half)
                _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + (first + v) * kLanes) + half, sums[v][half]);
    }
}

inline void dots(const std::int16_t* const* vectors, const std::int16_t* query, int pairs, std::int32_t* out) {
    dots_of_halves<2>(vectors, query, pairs, out);
}

inline void dots_of_half(const std::int16_t* const* vectors, const std::int16_t* query, int pairs, std::int32_t* out) {
    dots_of_halves<1>(vectors, query, pairs, out);
}

#else

template <int lanes>
inline void dots_of_lanes(const std::int16_t* const* vectors, const std::int16_t* query, int pairs, std::int32_t* out) {
    for (int v = 0; v < kGroup; ++v) {
        std::int32_t sums[lanes] = {};
        for (int pair = 0; pair < pairs; ++pair) {
            const std::int32_t first = vectors[v][2 * pair], second = vectors[v][2 * pair + 1];
            const std::int16_t* row = query + pair * 2 * kLanes;
            for (int lane = 0; lane < lanes; ++lane) sums[lane] += first * row[2 * lane] + second * row[2 * lane + 1];
        }
        for (int lane = 0; lane < lanes; ++lane) out[v * kLanes + lane] = sums[lane];
    }
}

inline void dots(const std::int16_t* const* vectors, const std::int16_t* query, int pairs, std::int32_t* out) {
    dots_of_lanes<kLanes>(vectors, query, pairs, out);
}

inline void dots_of_half(const std::int16_t* const* vectors, const std::int16_t* query, int pairs, std::int32_t* out) {
    dots_of_lanes<kLanes / 2>(vectors, query, pairs, out);
}

#endif

}  // namespace
}  // namespace colindex
