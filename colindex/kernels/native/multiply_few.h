// Products of one block of 16 centroids with a few query tokens from anywhere, packed in tiles of one. The block `ahead` is asked
// for meanwhile.
#pragma once

#include <cstdint>
#include <cstring>

#include "multiply.h"
#include "search_kernels.h"

namespace colindex {
namespace {

#if defined(__AVX512VNNI__)

constexpr int kFew = 4;

inline __m512i in_all(const std::int8_t* word) {
    std::int32_t bytes;
    std::memcpy(&bytes, word, sizeof bytes);
    return _mm512_set1_epi32(bytes);
}

// out: int32 [n][16]. A sum takes a product only every few cycles: few tokens have several sums each.
template <int n>
void multiply_few(const std::uint8_t* block, const std::uint8_t* ahead, const ByteQuery& query, const int* tokens, std::int32_t* out) {
    constexpr int sums_each = n >= 4 ? 1 : n >= 2 ? 2 : 4;
    const std::int8_t* rows[n];
    __m512i sums[n][sums_each];
#pragma GCC unroll 4
    for (int t = 0; t < n; ++t) {
        rows[t] = query.quads + static_cast<std::ptrdiff_t>(tokens[t]) * query.width;
        sums[t][0] = _mm512_set1_epi32(query.starts[tokens[t]]);
        for (int sum = 1; sum < sums_each; ++sum) sums[t][sum] = _mm512_setzero_si512();
    }
    const int quads = query.width / 4;
    int quad = 0;
    for (; quad + sums_each <= quads; quad += sums_each) {
#pragma GCC unroll 4
        for (int sum = 0; sum < sums_each; ++sum) {
            const __m512i values = _mm512_loadu_si512(block + (quad + sum) * 4 * kLanes);
            __builtin_prefetch(ahead + (quad + sum) * 4 * kLanes);
#pragma GCC unroll 4
            for (int t = 0; t < n; ++t)
                sums[t][sum] = _mm512_dpbusd_epi32(sums[t][sum], values, in_all(rows[t] + 4 * (quad + sum)));
        }
    }
    for (; quad < quads; ++quad) {
        const __m512i values = _mm512_loadu_si512(block + quad * 4 * kLanes);
        for (int t = 0; t < n; ++t) sums[t][0] = _mm512_dpbusd_epi32(sums[t][0], values, in_all(rows[t] + 4 * quad));
    }
#pragma GCC unroll 4
    for (int t = 0; t < n; ++t) {
        for (int sum = 1; sum < sums_each; ++sum) sums[t][0] = _mm512_add_epi32(sums[t][0], sums[t][sum]);
        _mm512_store_si512(out + t * kLanes, sums[t][0]);
    }
}

#elif defined(__SSE2__)

constexpr int kFew = kTileTokens;

template <int n>
void multiply_few(const std::uint8_t* block, const std::uint8_t* ahead, const ByteQuery& query, const int* tokens, std::int32_t* out) {
    const std::int16_t* rows[n];
    Part sums[n][kParts];
    for (int t = 0; t < n; ++t) {
        rows[t] = query.pairs + static_cast<std::ptrdiff_t>(tokens[t]) * query.width;
        for (int part = 0; part < kParts; ++part) sums[t][part] = in_all(query.starts[tokens[t]]);
    }
    for (int at = 0; at < query.width; at += 4, block += 4 * kLanes, ahead += 4 * kLanes) {
        __builtin_prefetch(ahead);
        Part words[n][2];
        for (int t = 0; t < n; ++t) {
            std::int32_t word[2];
            std::memcpy(word, rows[t] + at, sizeof word);
            words[t][0] = in_all(word[0]);
            words[t][1] = in_all(word[1]);
        }
        for (int part = 0; part < kParts; ++part) {
            const Part values = load_part(block + part * sizeof(Part));
            const Part even = even_bytes(values), odd = odd_bytes(values);
            for (int t = 0; t < n; ++t)
                sums[t][part] = plus_pairs(plus_pairs(sums[t][part], even, words[t][0]), odd, words[t][1]);
        }
    }
    for (int t = 0; t < n; ++t)
        for (int part = 0; part < kParts; ++part) store_part(out + t * kLanes + part * sizeof(Part) / 4, sums[t][part]);
}

#else

constexpr int kFew = 1;

template <int n>
void multiply_few(const std::uint8_t* block, const std::uint8_t*, const ByteQuery& query, const int* tokens, std::int32_t* out) {
    multiply_tile<1>(block, query, tokens[0], out);  // a tile of one
}

#endif

// `multiply_few` for each number of tokens.
typedef void (*MultiplyFew)(const std::uint8_t*, const std::uint8_t*, const ByteQuery&, const int*, std::int32_t*);

struct MultiplyFews {
    constexpr MultiplyFews() : of() { fill<kFew>(); }

    template <int n>
    constexpr void fill() {
        of[n] = &multiply_few<n>;
        if constexpr (n > 1) fill<n - 1>();
    }

    MultiplyFew of[kFew + 1];
};

constexpr MultiplyFews kMultiplyFew;

}  // namespace
}  // namespace colindex
