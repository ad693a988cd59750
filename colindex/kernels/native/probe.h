// The bodies of the probing kernels.
//
// A score is the product of a token and a centroid in whole numbers, scaled, and what the centroid's spread is worth. The last
// block may hold fewer than 16 centroids: the scores of the others are minus infinity.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "multiply.h"
#include "multiply_few.h"
#include "search_kernels.h"

namespace colindex {
namespace {

// A product beyond the range of float32 may be minus infinity, or NaN with a spread: it counts as this, above what is none.
constexpr float kLowest = -3.4028234663852886e+38f;

// What turns products into scores.
struct Rates {
    // Of 16 centroids.
    Rates(const ByteCentroids& centroids, std::size_t first) {
        steps = centroids.steps + first;
        spreads = centroids.spreads + first;
        if (first + kLanes <= centroids.count) return;
        const std::size_t here = first < centroids.count ? centroids.count - first : 0;
        std::memcpy(rest[0], steps, here * sizeof(float));
        std::memcpy(rest[1], spreads, here * sizeof(float));
        steps = rest[0];
        spreads = rest[1];
    }

    void write_scores(const std::int32_t* products, float scale, float spread_scale, float* scores) const {
#if defined(__AVX512F__)
        const __m512 product = _mm512_cvtepi32_ps(_mm512_load_si512(products));
        const __m512 sum = _mm512_add_ps(_mm512_mul_ps(_mm512_mul_ps(product, _mm512_loadu_ps(steps)), _mm512_set1_ps(scale)),
                                         _mm512_mul_ps(_mm512_loadu_ps(spreads), _mm512_set1_ps(spread_scale)));
        _mm512_storeu_ps(scores, _mm512_max_ps(sum, _mm512_set1_ps(kLowest)));
#else
        for (int lane = 0; lane < kLanes; ++lane) {
            const float sum = static_cast<float>(products[lane]) * steps[lane] * scale + spreads[lane] * spread_scale;
            scores[lane] = sum > kLowest ? sum : kLowest;
        }
#endif
    }

    const float *steps, *spreads;
    float rest[2][kLanes] = {};
};

void score_all(const ByteQuery& query, const ByteCentroids& centroids, float* scores) {
    const std::size_t room = centroids.room();
    alignas(64) std::int32_t products[kTileTokens * kTogether];
    for (std::size_t first = 0; first < room; first += kTogether) {
        for (int tile = 0; tile < query.tiles; ++tile) {
            const int token = query.tile_starts[tile], tokens = query.tile_starts[tile + 1] - token;
            kMultiply.of[tokens](centroids.values + first * query.width, query, token, products);
            for (int lane = 0; lane < kTogether; lane += kLanes) {
                const Rates rates(centroids, first + lane);
                for (int t = 0; t < tokens; ++t)
                    rates.write_scores(products + t * kTogether + lane, query.scales[token + t], query.spread_scales[token + t],
                                       scores + (token + t) * room + first + lane);
            }
        }
    }
    for (int token = 0; token < query.tile_starts[query.tiles]; ++token)
        for (std::size_t at = centroids.count; at < room; ++at) scores[token * room + at] = -INFINITY;
}

void score_some(const ByteQuery& query, const ByteCentroids& centroids, const std::uint64_t* masks, NextBlock* next) {
    alignas(64) std::int32_t products[kFew * kTogether];
    const std::size_t blocks = centroids.blocks(), bytes = static_cast<std::size_t>(query.width) * kLanes;
    std::size_t block = 0;
    while (block < blocks && !masks[block]) ++block;
    while (block < blocks) {
        std::size_t following = block + 1;
        while (following < blocks && !masks[following]) ++following;
        const std::uint8_t* ahead = centroids.values + (following < blocks ? following : block) * bytes;
        const Rates rates(centroids, block * kLanes);
        for (std::uint64_t mask = masks[block]; mask;) {
            int tokens[kFew], few = 0;
            for (; few < kFew && mask; mask &= mask - 1) tokens[few++] = __builtin_ctzll(mask);
            kMultiplyFew.of[few](centroids.values + block * bytes, ahead, query, tokens, products);
            for (int t = 0; t < few; ++t) {
                NextBlock& of_token = next[tokens[t]];
                rates.write_scores(products + t * kLanes, query.scales[tokens[t]], query.spread_scales[tokens[t]], of_token.scores);
                *of_token.blocks++ = static_cast<std::uint32_t>(block);
                of_token.scores += kLanes;
            }
        }
        block = following;
    }
    for (std::uint64_t mask = masks[blocks - 1]; mask; mask &= mask - 1)
        for (std::size_t past = blocks * kLanes - centroids.count; past > 0; --past)
            next[__builtin_ctzll(mask)].scores[-static_cast<std::ptrdiff_t>(past)] = -INFINITY;
}

// A whole number in the order of scores.
inline std::int32_t ordered(float score) {
    std::int32_t bits;
    std::memcpy(&bits, &score, sizeof bits);
    return bits ^ (bits < 0 ? INT32_MAX : 0);
}

// By halving the range of scores, weighing those above each time: no branch depends on them.
float reached_by(const float* scores, const std::int32_t* weights, std::size_t count, std::int64_t weight, std::int32_t* keys) {
    std::int32_t low = INT32_MAX, high = INT32_MIN;
    for (std::size_t at = 0; at < count; ++at) {
        keys[at] = ordered(scores[at]);
        low = keys[at] < low ? keys[at] : low;
        high = keys[at] > high ? keys[at] : high;
    }
    for (std::int64_t reached = weight + 1; low < high && reached != weight;) {
        const auto middle = static_cast<std::int32_t>(low + (static_cast<std::int64_t>(high) - low) / 2 + 1);
        std::int32_t above = 0;
        if (weights)
            for (std::size_t at = 0; at < count; ++at) above += keys[at] >= middle ? weights[at] : 0;
        else
            for (std::size_t at = 0; at < count; ++at) above += keys[at] >= middle;
        const bool enough = above >= weight;
        low = enough ? middle : low;
        high = enough ? high : middle - 1;
        reached = enough ? above : reached;
    }
    const std::int32_t bits = low ^ (low < 0 ? INT32_MAX : 0);
    float bound;
    std::memcpy(&bound, &bits, sizeof bound);
    return bound;
}

std::size_t reaching(const float* scores, std::size_t count, float bound, std::uint32_t* places) {
    std::size_t found = 0, at = 0;
#if defined(__AVX512F__)
    const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    for (; at + kLanes <= count; at += kLanes) {
        const __mmask16 above = _mm512_cmp_ps_mask(_mm512_loadu_ps(scores + at), _mm512_set1_ps(bound), _CMP_GE_OQ);
        const __m512i here = _mm512_add_epi32(lanes, _mm512_set1_epi32(static_cast<std::int32_t>(at)));
        _mm512_storeu_si512(places + found, _mm512_maskz_compress_epi32(above, here));
        found += static_cast<std::size_t>(__builtin_popcount(above));
    }
#else
    for (; at + kLanes <= count; at += kLanes) {
        int above = 0;
        for (int lane = 0; lane < kLanes; ++lane) above |= scores[at + lane] >= bound;
        for (int lane = 0; above && lane < kLanes; ++lane) {
            places[found] = static_cast<std::uint32_t>(at) + static_cast<std::uint32_t>(lane);
            found += scores[at + lane] >= bound;
        }
    }
#endif
    for (; at < count; ++at) {
        places[found] = static_cast<std::uint32_t>(at);
        found += scores[at] >= bound;
    }
    return found;
}

std::size_t positive(const float* scores, std::size_t count) {
    std::int32_t found = 0;
    for (std::size_t at = 0; at < count; ++at) found += scores[at] > 0;
    return static_cast<std::size_t>(found);
}

void move_row(float* row, std::size_t count, float* sums) {
    for (std::size_t at = 0; at < count; ++at) {
        sums[at] += row[at];
        row[at] = 0;
    }
}

// Of the maxima of so many groups of scores as are wanted or more, the wanted-th is reached by as many scores. `shortlist` and
// `keys` have room for the maxima.
std::size_t shortlist(const float* scores, std::size_t count, std::size_t wanted, float* chosen, std::uint32_t* places,
                      std::int32_t* keys) {
    constexpr std::size_t each = 4;  // groups for each that is wanted: then few more reach the bound than are wanted
    const std::size_t groups = (wanted * each + kLanes - 1) / kLanes * kLanes;
    float bound = -INFINITY;
    if (count >= 2 * groups) {
        std::memcpy(chosen, scores, groups * sizeof(float));
        for (std::size_t first = groups; first < count; first += groups) {
            const std::size_t here = count - first < groups ? count - first : groups;
            for (std::size_t group = 0; group < here; ++group)
                chosen[group] = scores[first + group] > chosen[group] ? scores[first + group] : chosen[group];
        }
        bound = reached_by(chosen, nullptr, groups, static_cast<std::int64_t>(wanted), keys);
    }
    const std::size_t found = reaching(scores, count, bound, places);
    for (std::size_t at = 0; at < found; ++at) chosen[at] = scores[places[at]];
    return found;
}

constexpr int kTile = kTileTokens * kTogether;

// The best centre so far of those in each lane, and its number.
struct NearestCentre {
    // Those of `count` tiles from `number` on, the products of this row in the first of which begin at `products`.
    void raise(const std::int32_t* products, const std::int32_t* squares, std::int32_t number, std::size_t count) {
#if defined(__AVX512F__)
        __m512i best = _mm512_load_si512(scores), cell = _mm512_load_si512(numbers);
        __m512i here = _mm512_add_epi32(_mm512_set1_epi32(number), _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
        for (std::size_t tile = 0; tile < count; ++tile, products += kTile) {
            for (int block = 0; block < kTogether; block += kLanes, squares += kLanes) {
                const __m512i product = _mm512_load_si512(products + block);
                const __m512i score = _mm512_sub_epi32(_mm512_add_epi32(product, product), _mm512_loadu_si512(squares));
                cell = _mm512_mask_mov_epi32(cell, _mm512_cmpgt_epi32_mask(score, best), here);
                best = _mm512_max_epi32(best, score);
                here = _mm512_add_epi32(here, _mm512_set1_epi32(kLanes));
            }
        }
        _mm512_store_si512(scores, best);
        _mm512_store_si512(numbers, cell);
#else
        for (std::size_t tile = 0; tile < count; ++tile, products += kTile) {
            for (int block = 0; block < kTogether; block += kLanes, squares += kLanes, number += kLanes) {
                for (int lane = 0; lane < kLanes; ++lane) {
                    const std::int32_t score = 2 * products[block + lane] - squares[lane];
                    numbers[lane] = score > scores[lane] ? number + lane : numbers[lane];
                    scores[lane] = score > scores[lane] ? score : scores[lane];
                }
            }
        }
#endif
    }

    // The lowest of equal ones.
    std::int32_t number() const {
        int found = 0;
        for (int lane = 1; lane < kLanes; ++lane) {
            const bool higher = scores[lane] > scores[found];
            const bool lower_of_equal = scores[lane] == scores[found] && numbers[lane] < numbers[found];
            found = higher || lower_of_equal ? lane : found;
        }
        return numbers[found];
    }

    alignas(64) std::int32_t scores[kLanes], numbers[kLanes];
};

void nearest_cells(const ByteQuery& rows, const std::uint8_t* centres, const std::int32_t* squares, std::size_t count, std::int32_t* cells) {
    constexpr std::size_t kTiles = 256 / kTogether;  // multiplied before what is best is raised
    const int n_rows = rows.tile_starts[rows.tiles];
    alignas(64) std::int32_t products[kTiles * kTile];
    NearestCentre nearest[kTileTokens];
    for (int row = 0; row < n_rows; ++row)
        for (int lane = 0; lane < kLanes; ++lane) nearest[row].scores[lane] = INT32_MIN;
    const std::size_t all = (count + kTogether - 1) / kTogether;
    for (std::size_t first = 0; first < all; first += kTiles) {
        const std::size_t here = all - first < kTiles ? all - first : kTiles, centre = first * kTogether;
        for (std::size_t tile = 0; tile < here; ++tile)
            kMultiply.of[n_rows](centres + (centre + tile * kTogether) * rows.width, rows, 0, products + tile * kTile);
        for (int row = 0; row < n_rows; ++row)
            nearest[row].raise(products + row * kTogether, squares + centre, static_cast<std::int32_t>(centre), here);
    }
    for (int row = 0; row < n_rows; ++row) cells[row] = nearest[row].number();
}

}  // namespace
}  // namespace colindex
