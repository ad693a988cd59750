// MaxSim in 16-bit whole numbers, in groups of 8 records:
// 1. decode the group (decode.h); the last group of a document repeats its last record, which changes no maximum;
// 2. multiply it with all query tokens (dots.h), 16 at a time;
// 3. raise each token's maximum; at the end of the document, add the maxima up. Or, to look at a document, keep the products.
#pragma once

#include <cmath>
#include <cstdint>

#include "decode.h"
#include "dots.h"
#include "rounding.h"
#include "search_kernels.h"

namespace colindex {
namespace {

struct Refinement {
    Refinement(const PackedQuery& query, const Codes& codes, std::uint8_t* scratch) : query(query), decoder(codes) {
        auto address = (reinterpret_cast<std::uintptr_t>(scratch) + 63) & ~static_cast<std::uintptr_t>(63);
        vectors = reinterpret_cast<std::int16_t*>(address);
        address += sizeof(std::int16_t) * kGroup * query.padded;
        values = reinterpret_cast<double*>(address);
        address += sizeof(double) * query.padded;
        maxima = reinterpret_cast<float*>(address);
        for (int v = 0; v < kGroup; ++v) rows[v] = vectors + v * query.padded;
    }

    // False if a record names a centroid that does not exist.
    bool decode(const std::uint8_t* records, std::int64_t count) {
        const Codes& codes = decoder.codes;
        std::int64_t squares[kGroup];
        for (int v = 0; v < kGroup; ++v) {
            const std::uint8_t* record = records + (v < count ? v : count - 1) * codes.record_bytes;
            const std::uint32_t id = centroid_of(record, codes.centroid_bytes);
            if (id >= codes.n_centroids) return false;
            const std::int16_t* centroid = codes.centroids + static_cast<std::size_t>(id) * codes.dim;
            const float length = length_of(record, codes.centroid_bytes);
            std::int16_t* vector = vectors + v * query.padded;
            squares[v] = kMost + 1;
            if (std::fabs(length) <= decoder.levels.longest) {
                const auto factor = static_cast<std::int16_t>(whole(length * decoder.levels.factor));
                squares[v] = decoder.add_up(record + codes.centroid_bytes + 2, centroid, factor, query.padded, vector);
                steps[v] = codes.step / kWhole;
            }
            if (squares[v] > kMost) {
                steps[v] = decode_long(decoder, record, centroid, query.padded, values, vector) / kWhole / kWhole;
                squares[v] = kMost;
            }
        }
        if (codes.unit) {
            for (int v = 0; v < kGroup; ++v) steps[v] = squares[v] ? 1.0f / std::sqrt(static_cast<float>(squares[v])) / kWhole : 0.0f;
        }
        return true;
    }

    void forget() {
        for (int token = 0; token < query.blocks * kLanes; ++token) maxima[token] = -INFINITY;
    }

    void raise(int block) {
        float* best = maxima + block * kLanes;
        for (int v = 0; v < kGroup; ++v) {
            for (int lane = 0; lane < kLanes; ++lane) {
                const float product = static_cast<float>(products[v * kLanes + lane]) * steps[v];
                best[lane] = product > best[lane] ? product : best[lane];
            }
        }
    }

    // And then `use(block)` for each block of query tokens.
    template <typename Use>
    void multiply(Use use) {
        const int pairs = query.padded / 2;
        for (int block = 0; block < query.blocks; ++block) {
            const std::int16_t* tokens = query.pairs + static_cast<std::size_t>(block) * query.padded * kLanes;
            if (query.half(block))
                dots_of_half(rows, tokens, pairs, products);
            else
                dots(rows, tokens, pairs, products);
            use(block);
        }
    }

    // What a token contributes where its best product is this one.
    double contribution(int token, float product) const { return static_cast<double>(product) * query.lengths[token]; }

    float total() const {
        double sum = 0;  // in double, in the order of the tokens: the same for every instruction set
        for (int token = 0; token < query.tokens; ++token) sum += contribution(token, maxima[token]);
        return static_cast<float>(sum);
    }

    const PackedQuery& query;
    Decoder decoder;
    std::int16_t* vectors;  // [8][padded]
    const std::int16_t* rows[kGroup];
    double* values;         // [padded]
    float* maxima;          // [blocks * 16]
    alignas(64) std::int32_t products[kGroup * kLanes] = {};  // of half a block, the rest stays as it was
    float steps[kGroup];    // what one step of each vector's values is worth, over the 32,767 steps of a query token
};

constexpr std::int64_t kAhead = 2 * kGroup;

bool score_records(const PackedQuery& query, const Codes& codes, const std::uint8_t* records, const std::int64_t* offsets,
                   std::size_t documents, std::uint8_t* scratch, float* scores) {
    Refinement refinement(query, codes, scratch);
    const std::int64_t all = offsets[documents];
    std::int64_t asked = offsets[0];  // records up to this one had their centroids asked for
    for (std::size_t document = 0; document < documents; ++document) {
        if (offsets[document] == offsets[document + 1]) {
            scores[document] = -INFINITY;
            continue;
        }
        refinement.forget();
        for (std::int64_t first = offsets[document]; first < offsets[document + 1]; first += kGroup) {
            const std::int64_t ahead = all - first < kAhead ? all : first + kAhead;
            for (; asked < ahead; ++asked)
                prefetch_row(codes.centroids, centroid_of(records + asked * codes.record_bytes, codes.centroid_bytes), codes.dim);
            if (!refinement.decode(records + first * codes.record_bytes, offsets[document + 1] - first)) return false;
            refinement.multiply([&](int block) { refinement.raise(block); });
        }
        scores[document] = refinement.total();
    }
    return true;
}

bool similarities(const PackedQuery& query, const Codes& codes, const std::uint8_t* records, std::int64_t count,
                  std::uint8_t* scratch, float* found) {
    Refinement refinement(query, codes, scratch);
    for (std::int64_t first = 0; first < count; first += kGroup) {
        if (!refinement.decode(records + first * codes.record_bytes, count - first)) return false;
        refinement.multiply([&](int block) {
            for (int token = block * kLanes; token < query.tokens && token < (block + 1) * kLanes; ++token)
                for (int v = 0; v < kGroup && first + v < count; ++v)
                    found[token * count + first + v] = static_cast<float>(refinement.contribution(
                        token, static_cast<float>(refinement.products[v * kLanes + token % kLanes]) * refinement.steps[v]));
        });
    }
    return true;
}

}  // namespace
}  // namespace colindex
