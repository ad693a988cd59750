// MaxSim in float32, of records that hold the vectors themselves, in groups of a few records:
// 1. multiply the group with 16 query tokens at a time, a dimension after the other: each product is rounded, then added, so that
//    every instruction set gives the same sums, whatever stands beside them;
// 2. raise each token's maximum; at the end of the document, add the maxima up. Or, to look at a document, keep the products.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "record.h"
#include "search_kernels.h"

namespace colindex {
namespace {

#if defined(__AVX512F__)
constexpr int kWide = 16;  // floats in a register
#elif defined(__AVX2__)
constexpr int kWide = 8;
#else
constexpr int kWide = 4;
#endif
constexpr int kHeldGroup = 12;  // vectors multiplied together: as many sums as there are registers for

typedef float Wide __attribute__((vector_size(kWide * sizeof(float))));

struct HeldRefinement {
    HeldRefinement(const FloatQuery& query, const HeldVectors& layout, std::uint8_t* scratch)
        : query(query),
          layout(layout),
          maxima(reinterpret_cast<float*>((reinterpret_cast<std::uintptr_t>(scratch) + 63) & ~static_cast<std::uintptr_t>(63))) {}

    // Where the vectors of a group begin; the last group of a document repeats its last record, which changes no maximum.
    // False if a record names a centroid that does not exist.
    bool find(const std::uint8_t* records, std::int64_t count) {
        for (int v = 0; v < kHeldGroup; ++v) {
            const std::uint8_t* record = records + (v < count ? v : count - 1) * layout.record_bytes;
            if (centroid_of(record, layout.centroid_bytes) >= layout.n_centroids) return false;
            vectors[v] = record + layout.centroid_bytes + 2;
        }
        return true;
    }

    // 1. With a block of query tokens.
    void multiply(int block) {
        const float* tokens = query.values + static_cast<std::size_t>(block) * layout.dim * kLanes;
        for (int lane = 0; lane < kLanes; lane += kWide) multiply_some(tokens + lane, lane);
    }

    void forget() {
        for (int token = 0; token < query.blocks * kLanes; ++token) maxima[token] = -INFINITY;
    }

    // 2.
    void raise(int block) {
        float* best = maxima + block * kLanes;
        for (int v = 0; v < kHeldGroup; ++v)
            for (int lane = 0; lane < kLanes; ++lane) best[lane] = products[v][lane] > best[lane] ? products[v][lane] : best[lane];
    }

    // What a token contributes where its best product is this one.
    double contribution(int token, float product) const { return static_cast<double>(product) * query.lengths[token]; }

    float total() const {
        double sum = 0;  // in double, in the order of the tokens
        for (int token = 0; token < query.tokens; ++token) sum += contribution(token, maxima[token]);
        return static_cast<float>(sum);
    }

    const FloatQuery& query;
    const HeldVectors& layout;
    float* maxima;  // [blocks * 16]
    alignas(64) float products[kHeldGroup][kLanes] = {};
    const std::uint8_t* vectors[kHeldGroup] = {};

  private:
    // With as many tokens as a register holds; `tokens` [dim][16] from the first of them on, which is the block's `lane`.
    void multiply_some(const float* tokens, int lane) {
        Wide sums[kHeldGroup] = {};
        for (int at = 0; at < layout.dim; ++at) {
            Wide of_tokens;
            std::memcpy(&of_tokens, tokens + static_cast<std::size_t>(at) * kLanes, sizeof of_tokens);
#pragma GCC unroll 12
            for (int v = 0; v < kHeldGroup; ++v) {
                float value;  // records are little-endian, and lie anywhere
                std::memcpy(&value, vectors[v] + static_cast<std::size_t>(at) * sizeof value, sizeof value);
                sums[v] += of_tokens * value;  // compiled without contraction
            }
        }
        for (int v = 0; v < kHeldGroup; ++v) std::memcpy(products[v] + lane, &sums[v], sizeof sums[v]);
    }
};

bool score_held_records(const FloatQuery& query, const HeldVectors& layout, const std::uint8_t* records, const std::int64_t* offsets,
                        std::size_t documents, std::uint8_t* scratch, float* scores) {
    HeldRefinement refinement(query, layout, scratch);
    for (std::size_t document = 0; document < documents; ++document) {
        if (offsets[document] == offsets[document + 1]) {
            scores[document] = -INFINITY;
            continue;
        }
        refinement.forget();
        for (std::int64_t first = offsets[document]; first < offsets[document + 1]; first += kHeldGroup) {
            if (!refinement.find(records + first * layout.record_bytes, offsets[document + 1] - first)) return false;
            for (int block = 0; block < query.blocks; ++block) {
                refinement.multiply(block);
                refinement.raise(block);
            }
        }
        scores[document] = refinement.total();
    }
    return true;
}

bool held_similarities(const FloatQuery& query, const HeldVectors& layout, const std::uint8_t* records, std::int64_t count,
                       std::uint8_t* scratch, float* found) {
    HeldRefinement refinement(query, layout, scratch);
    for (std::int64_t first = 0; first < count; first += kHeldGroup) {
        if (!refinement.find(records + first * layout.record_bytes, count - first)) return false;
        for (int block = 0; block < query.blocks; ++block) {
            refinement.multiply(block);
            for (int token = block * kLanes; token < query.tokens && token < (block + 1) * kLanes; ++token)
                for (int v = 0; v < kHeldGroup && first + v < count; ++v)
                    found[token * count + first + v] = static_cast<float>(refinement.contribution(token, refinement.products[v][token % kLanes]));
        }
    }
    return true;
}

}  // namespace
}  // namespace colindex
