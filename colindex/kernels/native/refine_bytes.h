// MaxSim in 8-bit whole numbers, in groups of as many records as probing multiplies centroids, whichever documents they are of:
// 1. decode the group (decode_bytes.h), 16 vectors side by side;
// 2. multiply it with all query tokens, a tile at a time (`multiply_tile` of multiply.h);
// 3. raise the maxima of the documents that have records in the group, 16 for each token, one a lane; at the end of a document,
//    add the tokens' largest up. Or, to look at a document, keep the products.
#pragma once

#include <cmath>
#include <cstdint>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#include "decode_bytes.h"
#include "multiply.h"
#include "search_kernels.h"

namespace colindex {
namespace {

static_assert(kTogether <= kMostTogether, "scratch_bytes() has too little room");

struct ByteRefinement {
    ByteRefinement(const ByteQuery& query, const ByteCodes& codes, std::uint8_t* scratch)
        : query(query), codes(codes), decoder(codes), tokens(query.tile_starts[query.tiles]) {
        vectors = reinterpret_cast<std::uint8_t*>((reinterpret_cast<std::uintptr_t>(scratch) + 63) & ~static_cast<std::uintptr_t>(63));
        products = reinterpret_cast<std::int32_t*>(vectors + kTogether * query.width);
        maxima = reinterpret_cast<float*>(products + tokens * kTogether);
    }

    // 1 and 2 for the records [first, first + here) of `all`. False if a record names a centroid that does not exist.
    bool multiply(const std::uint8_t* records, std::int64_t first, int here, std::int64_t all) {
        const std::uint8_t* from = records + first * codes.record_bytes;
        const std::uint8_t* ahead = first + kTogether + here <= all ? from + kTogether * codes.record_bytes : from;
        for (int lane = 0; lane < here; lane += kLanes) {
            const int lanes = here - lane < kLanes ? here - lane : kLanes;
            if (!decoder.decode(from + lane * codes.record_bytes, ahead + lane * codes.record_bytes, lanes, query.width / 4,
                                vectors + lane * query.width, steps + lane))
                return false;
        }
        for (int tile = 0; tile < query.tiles; ++tile) {
            const int token = query.tile_starts[tile];
            kMultiply.of[query.tile_starts[tile + 1] - token](vectors, query, token, products + token * kTogether);
        }
        return true;
    }

    float product(int token, int lane) const { return static_cast<float>(products[token * kTogether + lane]) * steps[lane]; }

    // What a token contributes where its best product is this one.
    double contribution(int token, float product) const { return static_cast<double>(product) * query.scales[token]; }

    void forget() {
        for (int lane = 0; lane < tokens * kLanes; ++lane) maxima[lane] = -INFINITY;
    }

    // 3. By the lanes [from, to).
    void raise(int from, int to) {
        for (int block = from / kLanes * kLanes; block < to; block += kLanes) {
#if defined(__AVX512F__)
            const auto lanes = static_cast<__mmask16>((to - block < kLanes ? (1u << (to - block)) - 1 : 0xffffu) &
                                                      (from > block ? ~0u << (from - block) : ~0u));
            const __m512 of_vectors = _mm512_loadu_ps(steps + block);
            for (int token = 0; token < tokens; ++token) {
                const __m512 found = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_load_si512(products + token * kTogether + block)), of_vectors);
                const __m512 best = _mm512_load_ps(maxima + token * kLanes);
                _mm512_store_ps(maxima + token * kLanes, _mm512_mask_max_ps(best, lanes, found, best));
            }
#else
            const int first = from > block ? from - block : 0, end = to - block < kLanes ? to - block : kLanes;
            for (int token = 0; token < tokens; ++token) {
                float* best = maxima + token * kLanes;
                for (int lane = first; lane < end; ++lane) {
                    const float found = product(token, block + lane);
                    best[lane] = found > best[lane] ? found : best[lane];
                }
            }
#endif
        }
    }

    float total() const {
        double sum = 0;  // in double, in the order of the tokens: the same for every instruction set
        for (int token = 0; token < tokens; ++token) sum += contribution(token, largest(maxima + token * kLanes));
        return static_cast<float>(sum);
    }

  private:
    static float largest(const float* lanes) {
#if defined(__AVX512F__)
        return _mm512_reduce_max_ps(_mm512_load_ps(lanes));
#else
        float best = lanes[0];
        for (int lane = 1; lane < kLanes; ++lane) best = lanes[lane] > best ? lanes[lane] : best;
        return best;
#endif
    }

    const ByteQuery& query;
    const ByteCodes& codes;
    ByteDecoder decoder;
    int tokens;
    std::uint8_t* vectors;   // [blocks of 16][width / 4][16][4], 128 too large
    std::int32_t* products;  // [tokens][kTogether]
    float* maxima;           // [tokens][16]
    float steps[kTogether] = {};  // what one step of each vector's values is worth
};

bool score_byte_records(const ByteQuery& query, const ByteCodes& codes, const std::uint8_t* records, const std::int64_t* offsets,
                        std::size_t documents, std::uint8_t* scratch, float* scores) {
    ByteRefinement refinement(query, codes, scratch);
    const std::int64_t all = offsets[documents];
    std::size_t document = 0;
    const auto pass_over_empty = [&] {
        for (; document < documents && offsets[document] == offsets[document + 1]; ++document) scores[document] = -INFINITY;
    };
    refinement.forget();
    pass_over_empty();
    for (std::int64_t first = offsets[0]; first < all; first += kTogether) {
        const std::int64_t end = all - first < kTogether ? all : first + kTogether;
        if (!refinement.multiply(records, first, static_cast<int>(end - first), all)) return false;
        for (std::int64_t from = first; from < end;) {
            const std::int64_t to = offsets[document + 1] < end ? offsets[document + 1] : end;
            refinement.raise(static_cast<int>(from - first), static_cast<int>(to - first));
            from = to;
            if (to < offsets[document + 1]) continue;
            scores[document++] = refinement.total();
            refinement.forget();
            pass_over_empty();
        }
    }
    return true;
}

bool byte_similarities(const ByteQuery& query, const ByteCodes& codes, const std::uint8_t* records, std::int64_t count,
                       std::uint8_t* scratch, float* found) {
    ByteRefinement refinement(query, codes, scratch);
    for (std::int64_t first = 0; first < count; first += kTogether) {
        const int here = count - first < kTogether ? static_cast<int>(count - first) : kTogether;
        if (!refinement.multiply(records, first, here, count)) return false;
        for (int token = 0; token < query.tile_starts[query.tiles]; ++token)
            for (int lane = 0; lane < here; ++lane)
                found[token * count + first + lane] =
                    static_cast<float>(refinement.contribution(token, refinement.product(token, lane)));
    }
    return true;
}

}  // namespace
}  // namespace colindex
