// Products of query tokens and 16 centroids side by side, or vectors, with a tile of query tokens, as many as the registers hold
// sums for.
//
// Lanes are centroids, which lie in blocks of 16, four bytes of each together: one load, and no sum ever crosses lanes. The
// same four bytes of a query token go to all lanes.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include "search_kernels.h"

namespace colindex {
namespace {

#if defined(__AVX512VNNI__)

constexpr int kTileTokens = 12, kTileBlocks = 2;

// centroids: uint8 [kTileBlocks][quads][16][4], 128 too large; tokens: int8 [quads][n][4]; starts: int32 [n], -128 times the sum
// of each token's values; out: int32 [n][kTileBlocks][16].
template <int n>
void multiply_tile(const std::uint8_t* centroids, const ByteQuery& query, int first, std::int32_t* out) {
    const std::int8_t* tokens = query.quads + static_cast<std::size_t>(first) * query.width;
    const std::uint8_t* next = centroids + query.width * kLanes;
    __m512i sums[n][kTileBlocks];
#pragma GCC unroll 12
    for (int t = 0; t < n; ++t) sums[t][0] = sums[t][1] = _mm512_set1_epi32(query.starts[first + t]);
    for (const std::uint8_t* end = next; centroids < end; centroids += 4 * kLanes, next += 4 * kLanes, tokens += 4 * n) {
        const __m512i block = _mm512_loadu_si512(centroids), second = _mm512_loadu_si512(next);
#pragma GCC unroll 12
        for (int t = 0; t < n; ++t) {
            std::int32_t word;
            std::memcpy(&word, tokens + 4 * t, sizeof word);
            const __m512i values = _mm512_set1_epi32(word);
            sums[t][0] = _mm512_dpbusd_epi32(sums[t][0], block, values);
            sums[t][1] = _mm512_dpbusd_epi32(sums[t][1], second, values);
        }
    }
#pragma GCC unroll 12
    for (int t = 0; t < n; ++t) {
        _mm512_store_si512(out + 2 * t * kLanes, sums[t][0]);
        _mm512_store_si512(out + (2 * t + 1) * kLanes, sums[t][1]);
    }
}

#elif defined(__SSE2__)

// Without byte products that cannot overflow: values 0 and 2, and 1 and 3, of four as 16-bit pairs.
#if defined(__AVX2__)
constexpr int kTileTokens = 4, kTileBlocks = 1, kParts = 2;
typedef __m256i Part;
inline Part load_part(const void* from) { return _mm256_loadu_si256(static_cast<const Part*>(from)); }
inline void store_part(void* to, Part part) { _mm256_storeu_si256(static_cast<Part*>(to), part); }
inline Part in_all(std::int32_t word) { return _mm256_set1_epi32(word); }
inline Part even_bytes(Part part) { return _mm256_and_si256(part, _mm256_set1_epi16(0xff)); }
inline Part odd_bytes(Part part) { return _mm256_srli_epi16(part, 8); }
inline Part plus_pairs(Part sum, Part a, Part b) { return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b)); }
#else
constexpr int kTileTokens = 2, kTileBlocks = 1, kParts = 4;
typedef __m128i Part;
inline Part load_part(const void* from) { return _mm_loadu_si128(static_cast<const Part*>(from)); }
inline void store_part(void* to, Part part) { _mm_storeu_si128(static_cast<Part*>(to), part); }
inline Part in_all(std::int32_t word) { return _mm_set1_epi32(word); }
inline Part even_bytes(Part part) { return _mm_and_si128(part, _mm_set1_epi16(0xff)); }
inline Part odd_bytes(Part part) { return _mm_srli_epi16(part, 8); }
inline Part plus_pairs(Part sum, Part a, Part b) { return _mm_add_epi32(sum, _mm_madd_epi16(a, b)); }
#endif

template <int n>
void multiply_tile(const std::uint8_t* centroids, const ByteQuery& query, int first, std::int32_t* out) {
    const std::int16_t* tokens = query.pairs + static_cast<std::size_t>(first) * query.width;
    Part sums[n][kParts];
    for (int t = 0; t < n; ++t)
        for (int part = 0; part < kParts; ++part) sums[t][part] = in_all(query.starts[first + t]);
    for (const std::uint8_t* end = centroids + query.width * kLanes; centroids < end; centroids += 4 * kLanes, tokens += 4 * n) {
        Part words[n][2];
        for (int t = 0; t < n; ++t) {
            std::int32_t word[2];
            std::memcpy(word, tokens + 4 * t, sizeof word);
            words[t][0] = in_all(word[0]);
            words[t][1] = in_all(word[1]);
        }
        for (int part = 0; part < kParts; ++part) {
            const Part block = load_part(centroids + part * sizeof(Part));
            const Part even = even_bytes(block), odd = odd_bytes(block);
            for (int t = 0; t < n; ++t)
                sums[t][part] = plus_pairs(plus_pairs(sums[t][part], even, words[t][0]), odd, words[t][1]);
        }
    }
    for (int t = 0; t < n; ++t)
        for (int part = 0; part < kParts; ++part) store_part(out + t * kLanes + part * sizeof(Part) / 4, sums[t][part]);
}

#else

constexpr int kTileTokens = 4, kTileBlocks = 1;

template <int n>
void multiply_tile(const std::uint8_t* centroids, const ByteQuery& query, int first, std::int32_t* out) {
    const std::int8_t* tokens = query.quads + static_cast<std::size_t>(first) * query.width;
    for (int t = 0; t < n; ++t) {
        std::int32_t sums[kLanes];
        for (int lane = 0; lane < kLanes; ++lane) sums[lane] = query.starts[first + t];
        for (int quad = 0; quad < query.width / 4; ++quad) {
            const std::uint8_t* block = centroids + quad * 64;
            const std::int8_t* word = tokens + 4 * (quad * n + t);
            for (int lane = 0; lane < kLanes; ++lane)
                sums[lane] += block[4 * lane] * word[0] + block[4 * lane + 1] * word[1] + block[4 * lane + 2] * word[2] +
                              block[4 * lane + 3] * word[3];
        }
        for (int lane = 0; lane < kLanes; ++lane) out[t * kLanes + lane] = sums[lane];
    }
}

#endif

// `multiply_tile` for each number of tokens that a tile can have.
typedef void (*MultiplyTile)(const std::uint8_t*, const ByteQuery&, int, std::int32_t*);

struct MultiplyTiles {
    constexpr MultiplyTiles() : of() { fill<kTileTokens>(); }

    template <int n>
    constexpr void fill() {
        of[n] = &multiply_tile<n>;
        if constexpr (n > 1) fill<n - 1>();
    }

    MultiplyTile of[kTileTokens + 1];
};

constexpr MultiplyTiles kMultiply;

constexpr int kTogether = kTileBlocks * kLanes;

}  // namespace
}  // namespace colindex
