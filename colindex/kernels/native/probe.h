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

// A product beyond the range of float32 may be minus infinity, or NaN with a spread: it counts as this, so that every
// centroid passes the first threshold, minus infinity.
constexpr float kLowest = -3.4028234663852886e+38f;

// 2. Scores of one token and one block.
#if defined(__AVX512F__)
inline __m512 scores_of(const std::int32_t* products, const float* steps, const float* spreads, float scale, float spread_scale) {
    const __m512 product = _mm512_cvtepi32_ps(_mm512_load_si512(products));
    return _mm512_add_ps(_mm512_mul_ps(_mm512_mul_ps(product, _mm512_loadu_ps(steps)), _mm512_set1_ps(scale)),
                         _mm512_mul_ps(_mm512_loadu_ps(spreads), _mm512_set1_ps(spread_scale)));
}
#endif

inline void write_scores(const std::int32_t* products, const float* steps, const float* spreads, float scale, float spread_scale,
                         float* scores) {
#if defined(__AVX512F__)
    const __m512 sum = scores_of(products, steps, spreads, scale, spread_scale);
    _mm512_storeu_ps(scores, _mm512_max_ps(sum, _mm512_set1_ps(kLowest)));
#else
    for (int lane = 0; lane < kLanes; ++lane) {
        const float sum = static_cast<float>(products[lane]) * steps[lane] * scale + spreads[lane] * spread_scale;
        scores[lane] = sum > kLowest ? sum : kLowest;
    }
#endif
}

// Those that score at least the token's threshold go to its column.
inline void pass(const std::int32_t* products, const float* steps, const float* spreads, int here, float scale,
                 float spread_scale, std::uint32_t centroid, Column& column) {
#if defined(__AVX512F__)
    const __m512 sum = scores_of(products, steps, spreads, scale, spread_scale);
    const auto above = static_cast<__mmask16>(_mm512_cmp_ps_mask(sum, _mm512_set1_ps(column.threshold), _CMP_NLT_UQ) &
                                              ((1u << here) - 1));
    if (!above) return;  // nearly always
    const __m512 score = _mm512_max_ps(sum, _mm512_set1_ps(kLowest));
    const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i ids = _mm512_add_epi32(lanes, _mm512_set1_epi32(static_cast<std::int32_t>(centroid)));
    _mm512_storeu_ps(column.scores + column.count, _mm512_maskz_compress_ps(above, score));
    _mm512_storeu_si512(column.ids + column.count, _mm512_maskz_compress_epi32(above, ids));
    column.count += static_cast<std::uint32_t>(__builtin_popcount(above));
#else
    float scores[kLanes];
    write_scores(products, steps, spreads, scale, spread_scale, scores);
    int above = 0;
    for (int lane = 0; lane < kLanes; ++lane) above |= scores[lane] >= column.threshold;
    if (!above) return;
    for (int lane = 0; lane < here; ++lane) {
        column.scores[column.count] = scores[lane];
        column.ids[column.count] = centroid + static_cast<std::uint32_t>(lane);
        column.count += scores[lane] >= column.threshold;
    }
#endif
}

constexpr int kTogether = kTileBlocks * kLanes;

// Steps and spreads of a group of centroids, the last of which may have fewer than its lanes.
struct Group {
    Group(const ByteCentroids& centroids, std::size_t first, std::size_t end) : centroids(centroids), first(first) {
        here = end - first < kTogether ? static_cast<int>(end - first) : kTogether;
        steps = centroids.steps + first;
        spreads = centroids.spreads + first;
        if (here == kTogether) return;
        std::memcpy(rest[0], steps, here * sizeof(float));
        std::memcpy(rest[1], spreads, here * sizeof(float));
        steps = rest[0];
        spreads = rest[1];
    }

    // 1. and then `use(token, first lane, products of the block)` for each token and block.
    template <typename Use>
    void multiply(const ByteQuery& query, Use use) {
        alignas(64) std::int32_t products[kTileTokens * kTogether];
        for (int tile = 0; tile < query.tiles; ++tile) {
            const int token = query.tile_starts[tile], tokens = query.tile_starts[tile + 1] - token;
            kMultiply.of[tokens](centroids.values + first * query.width, query, token, products);
            for (int lane = 0; lane < here; lane += kLanes)
                for (int t = 0; t < tokens; ++t) use(token + t, lane, products + t * kTogether + lane);
        }
    }

    const ByteCentroids& centroids;
    std::size_t first;
    int here;
    const float *steps, *spreads;
    float rest[2][kTogether] = {};
};

void score_centroids(const ByteQuery& query, const ByteCentroids& centroids, std::size_t first, std::size_t count, Column* columns) {
    for (std::size_t at = first; at < first + count; at += kTogether) {
        Group group(centroids, at, first + count);
        group.multiply(query, [&](int t, int lane, const std::int32_t* products) {
            const int lanes = group.here - lane < kLanes ? group.here - lane : kLanes;
            pass(products, group.steps + lane, group.spreads + lane, lanes, query.scales[t], query.spread_scales[t],
                 static_cast<std::uint32_t>(at) + static_cast<std::uint32_t>(lane), columns[t]);
        });
    }
}

// The largest of some bounds that at least `rank` of the scores reach, found by halving the range of scores, counting each time.
inline float reached_by(const float* scores, std::size_t count, std::uint32_t rank, std::int32_t* keys) {
    std::int32_t low = INT32_MAX, high = INT32_MIN;
    for (std::size_t at = 0; at < count; ++at) {
        std::int32_t bits;
        std::memcpy(&bits, scores + at, sizeof bits);
        keys[at] = bits ^ (bits < 0 ? INT32_MAX : 0);  // whole numbers in the order of scores
        low = keys[at] < low ? keys[at] : low;
        high = keys[at] > high ? keys[at] : high;
    }
    for (std::uint32_t reached = static_cast<std::uint32_t>(count); low < high && reached != rank;) {
        const auto middle = static_cast<std::int32_t>(low + (static_cast<std::int64_t>(high) - low) / 2 + 1);
        std::uint32_t above = 0;
        for (std::size_t at = 0; at < count; ++at) above += keys[at] >= middle;
        (above >= rank ? low : high) = above >= rank ? middle : middle - 1;
        reached = above >= rank ? above : reached;
    }
    const std::int32_t bits = low ^ (low < 0 ? INT32_MAX : 0);
    float bound;
    std::memcpy(&bound, &bits, sizeof bound);
    return bound;
}

void sample_centroids(const ByteQuery& query, const ByteCentroids& centroids, std::size_t n_centroids, std::size_t stride,
                      std::uint32_t rank, float* scores, std::int32_t* keys, Column* columns) {
    const std::size_t groups = n_centroids / stride, sampled = groups * kTogether;  // whole ones alone
    for (std::size_t number = 0; number < groups; ++number) {
        Group group(centroids, number * stride, number * stride + kTogether);
        group.multiply(query, [&](int t, int lane, const std::int32_t* products) {
            write_scores(products, group.steps + lane, group.spreads + lane, query.scales[t], query.spread_scales[t],
                         scores + static_cast<std::size_t>(t) * sampled + number * kTogether + lane);
        });
    }
    for (int t = 0; t < query.tile_starts[query.tiles]; ++t)
        columns[t].threshold = reached_by(scores + static_cast<std::size_t>(t) * sampled, sampled, rank, keys);
}

}  // namespace
}  // namespace colindex
