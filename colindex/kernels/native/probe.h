// Probing: 16 centroids side by side with a tile of query tokens, as many as the registers hold sums for.
//
// Lanes are centroids, which lie in blocks of 16, four bytes of each together: one load, and no sum ever crosses lanes. The
// same four bytes of a query token go to all lanes.
//
// 1. Multiply a block with all tokens of a tile.
// 2. Scale the products, add the spreads, and look whether any of the 16 passes the token's threshold: nearly never.
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

constexpr int kTileTokens = 24;

// centroids: uint8 [quads][16][4], 128 too large; tokens: int8 [quads][n][4]; starts: int32 [n], -128 times the sum of each
// token's values; out: int32 [n][16].
template <int n>
void multiply_block(const std::uint8_t* centroids, const ByteQuery& query, int first, std::int32_t* out) {
    const std::int8_t* tokens = query.quads + static_cast<std::size_t>(first) * query.width;
    __m512i sums[n];
#pragma GCC unroll 24
    for (int t = 0; t < n; ++t) sums[t] = _mm512_set1_epi32(query.starts[first + t]);
    for (int quad = 0; quad < query.width / 4; ++quad) {
        const __m512i block = _mm512_loadu_si512(centroids + quad * 64);
#pragma GCC unroll 24
        for (int t = 0; t < n; ++t) {
            std::int32_t word;
            std::memcpy(&word, tokens + 4 * (quad * n + t), sizeof word);
            sums[t] = _mm512_dpbusd_epi32(sums[t], block, _mm512_set1_epi32(word));
        }
    }
#pragma GCC unroll 24
    for (int t = 0; t < n; ++t) _mm512_store_si512(out + t * kLanes, sums[t]);
}

#elif defined(__SSE2__)

// Without byte products that cannot overflow: values 0 and 2, and 1 and 3, of four as 16-bit pairs.
#if defined(__AVX2__)
constexpr int kTileTokens = 4, kParts = 2;
typedef __m256i Part;
inline Part load_part(const void* from) { return _mm256_loadu_si256(static_cast<const Part*>(from)); }
inline void store_part(void* to, Part part) { _mm256_storeu_si256(static_cast<Part*>(to), part); }
inline Part in_all(std::int32_t word) { return _mm256_set1_epi32(word); }
inline Part even_bytes(Part part) { return _mm256_and_si256(part, _mm256_set1_epi16(0xff)); }
inline Part odd_bytes(Part part) { return _mm256_srli_epi16(part, 8); }
inline Part plus_pairs(Part sum, Part a, Part b) { return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b)); }
#else
constexpr int kTileTokens = 2, kParts = 4;
typedef __m128i Part;
inline Part load_part(const void* from) { return _mm_loadu_si128(static_cast<const Part*>(from)); }
inline void store_part(void* to, Part part) { _mm_storeu_si128(static_cast<Part*>(to), part); }
inline Part in_all(std::int32_t word) { return _mm_set1_epi32(word); }
inline Part even_bytes(Part part) { return _mm_and_si128(part, _mm_set1_epi16(0xff)); }
inline Part odd_bytes(Part part) { return _mm_srli_epi16(part, 8); }
inline Part plus_pairs(Part sum, Part a, Part b) { return _mm_add_epi32(sum, _mm_madd_epi16(a, b)); }
#endif

template <int n>
void multiply_block(const std::uint8_t* centroids, const ByteQuery& query, int first, std::int32_t* out) {
    const std::int16_t* tokens = query.pairs + static_cast<std::size_t>(first) * query.width;
    Part sums[n][kParts];
    for (int t = 0; t < n; ++t)
        for (int part = 0; part < kParts; ++part) sums[t][part] = in_all(query.starts[first + t]);
    for (int quad = 0; quad < query.width / 4; ++quad) {
        Part words[n][2];
        for (int t = 0; t < n; ++t) {
            std::int32_t word[2];
            std::memcpy(word, tokens + 4 * (quad * n + t), sizeof word);
            words[t][0] = in_all(word[0]);
            words[t][1] = in_all(word[1]);
        }
        for (int part = 0; part < kParts; ++part) {
            const Part block = load_part(centroids + quad * 64 + part * sizeof(Part));
            const Part even = even_bytes(block), odd = odd_bytes(block);
            for (int t = 0; t < n; ++t)
                sums[t][part] = plus_pairs(plus_pairs(sums[t][part], even, words[t][0]), odd, words[t][1]);
        }
    }
    for (int t = 0; t < n; ++t)
        for (int part = 0; part < kParts; ++part) store_part(out + t * kLanes + part * sizeof(Part) / 4, sums[t][part]);
}

#else

constexpr int kTileTokens = 4;

template <int n>
void multiply_block(const std::uint8_t* centroids, const ByteQuery& query, int first, std::int32_t* out) {
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

// `multiply_block` for each number of tokens that a tile can have.
typedef void (*MultiplyBlock)(const std::uint8_t*, const ByteQuery&, int, std::int32_t*);

struct MultiplyBlocks {
    constexpr MultiplyBlocks() : of() { fill<kTileTokens>(); }

    template <int n>
    constexpr void fill() {
        of[n] = &multiply_block<n>;
        if constexpr (n > 1) fill<n - 1>();
    }

    MultiplyBlock of[kTileTokens + 1];
};

constexpr MultiplyBlocks kMultiply;

// A product beyond the range of float32 may be minus infinity, or NaN with a spread: it counts as this, so that every
// centroid passes the first threshold, minus infinity.
constexpr float kLowest = -3.4028234663852886e+38f;

// 2. One token: which of the first `here` of 16 centroids score above its threshold?
inline Reached* pass(const std::int32_t* products, const float* steps, const float* spreads, int here, float scale,
                     float spread_scale, float threshold, std::uint32_t centroid, std::uint32_t token, Reached* reached) {
    alignas(64) float scores[kLanes];
#if defined(__AVX512F__)
    const __m512 product = _mm512_cvtepi32_ps(_mm512_load_si512(products));
    const __m512 sum = _mm512_add_ps(_mm512_mul_ps(_mm512_mul_ps(product, _mm512_load_ps(steps)), _mm512_set1_ps(scale)),
                                     _mm512_mul_ps(_mm512_load_ps(spreads), _mm512_set1_ps(spread_scale)));
    const __m512 score = _mm512_max_ps(sum, _mm512_set1_ps(kLowest));
    unsigned above = _mm512_cmp_ps_mask(score, _mm512_set1_ps(threshold), _CMP_GT_OQ) & ((1u << here) - 1);
    if (!above) return reached;
    _mm512_store_ps(scores, score);
    for (; above; above &= above - 1) {
        const auto lane = static_cast<std::uint32_t>(__builtin_ctz(above));
        *reached++ = {scores[lane], centroid + lane, token};
    }
#else
    int above = 0;
    for (int lane = 0; lane < kLanes; ++lane) {
        const float sum = static_cast<float>(products[lane]) * steps[lane] * scale + spreads[lane] * spread_scale;
        scores[lane] = sum > kLowest ? sum : kLowest;
        above |= scores[lane] > threshold;
    }
    if (!above) return reached;
    for (int lane = 0; lane < here; ++lane)
        if (scores[lane] > threshold) *reached++ = {scores[lane], centroid + static_cast<std::uint32_t>(lane), token};
#endif
    return reached;
}

std::size_t score_centroids(const ByteQuery& query, const ByteCentroids& centroids, float beyond, std::size_t first,
                            std::size_t count, const float* thresholds, Reached* reached) {
    alignas(64) std::int32_t products[kTileTokens * kLanes];
    alignas(64) float steps[kLanes] = {}, spreads[kLanes] = {};
    Reached* end = reached;
    for (std::size_t block = first; block < first + count; block += kLanes) {
        const int here = first + count - block < kLanes ? static_cast<int>(first + count - block) : kLanes;
        std::memcpy(steps, centroids.steps + block, here * sizeof(float));
        std::memcpy(spreads, centroids.spreads + block, here * sizeof(float));
        for (int tile = 0; tile < query.tiles; ++tile) {
            const int token = query.tile_starts[tile], tokens = query.tile_starts[tile + 1] - token;
            kMultiply.of[tokens](centroids.values + block * query.width, query, token, products);
            for (int t = 0; t < tokens; ++t)
                end = pass(products + t * kLanes, steps, spreads, here, query.scales[token + t],
                           query.lengths[token + t] * beyond, thresholds[token + t], static_cast<std::uint32_t>(block),
                           static_cast<std::uint32_t>(token + t), end);
        }
    }
    return static_cast<std::size_t>(end - reached);
}

}  // namespace
}  // namespace colindex
