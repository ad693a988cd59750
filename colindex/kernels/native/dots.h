// Dot products of 8 vectors with 16 query tokens (or with the first 8 of them), 32-bit sums.
//
// Lanes are query tokens: each step takes two values of a vector, hands them to all lanes, and multiplies them with the same
// values of the tokens. No sum ever crosses lanes.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__SSE2__)
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

#elif defined(__SSE2__)

#if defined(__AVX2__)
typedef __m256i Sums;
inline Sums no_sums() { return _mm256_setzero_si256(); }
inline Sums load_tokens(const std::int16_t* from) { return _mm256_loadu_si256(reinterpret_cast<const Sums*>(from)); }
inline void store_sums(std::int32_t* to, Sums sums) { _mm256_storeu_si256(reinterpret_cast<Sums*>(to), sums); }
inline Sums to_all(std::int32_t word) { return _mm256_set1_epi32(word); }
inline Sums plus_products(Sums sums, Sums a, Sums b) { return _mm256_add_epi32(sums, _mm256_madd_epi16(a, b)); }
#else
typedef __m128i Sums;
inline Sums no_sums() { return _mm_setzero_si128(); }
inline Sums load_tokens(const std::int16_t* from) { return _mm_loadu_si128(reinterpret_cast<const Sums*>(from)); }
inline void store_sums(std::int32_t* to, Sums sums) { _mm_storeu_si128(reinterpret_cast<Sums*>(to), sums); }
inline Sums to_all(std::int32_t word) { return _mm_set1_epi32(word); }
inline Sums plus_products(Sums sums, Sums a, Sums b) { return _mm_add_epi32(sums, _mm_madd_epi16(a, b)); }
#endif
constexpr int kOfSums = sizeof(Sums) / sizeof(std::int32_t);  // tokens in one register

// As many vectors at a time as make 8 sums, which leaves registers for the operands.
template <int lanes>
inline void dots_of_lanes(const std::int16_t* const* vectors, const std::int16_t* query, int pairs, std::int32_t* out) {
    constexpr int parts = lanes / kOfSums, together = parts < 4 ? 4 : 2;
    for (int first = 0; first < kGroup; first += together) {
        Sums sums[together][parts];
        for (auto& of_vector : sums)
            for (auto& part : of_vector) part = no_sums();
        for (int pair = 0; pair < pairs; ++pair) {
            const std::int16_t* tokens = query + pair * 2 * kLanes;
#pragma GCC unroll 4
            for (int v = 0; v < together; ++v) {
                const Sums word = to_all(word_at(vectors[first + v], pair));
#pragma GCC unroll 4
                for (int part = 0; part < parts; ++part)
                    sums[v][part] = plus_products(sums[v][part], load_tokens(tokens + part * 2 * kOfSums), word);
            }
        }
        for (int v = 0; v < together; ++v)
            for (int part = 0; part < parts; ++part) store_sums(out + (first + v) * kLanes + part * kOfSums, sums[v][part]);
    }
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

#endif

#if !defined(__AVX512VNNI__)

inline void dots(const std::int16_t* const* vectors, const std::int16_t* query, int pairs, std::int32_t* out) {
    dots_of_lanes<kLanes>(vectors, query, pairs, out);
}

inline void dots_of_half(const std::int16_t* const* vectors, const std::int16_t* query, int pairs, std::int32_t* out) {
    dots_of_lanes<kLanes / 2>(vectors, query, pairs, out);
}

#endif

}  // namespace
}  // namespace colindex
