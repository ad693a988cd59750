// Refinement for Python, in 8 bits, in 16 or in float32: by what the centroids are kept in.
#pragma once

#include <cstdint>
#include <vector>

#include "bindings.h"
#include "chosen_search.h"
#include "packing.h"

namespace colindex {

// A query in 16 bits.
class Query {
  public:
    Query(const float* values, int tokens, int dim) {
        const int blocks = (tokens + kLanes - 1) / kLanes, padded = (dim + 31) / 32 * 32;
        pairs_.resize(static_cast<std::size_t>(blocks) * kLanes * padded);
        lengths_.resize(static_cast<std::size_t>(blocks) * kLanes);
        for (int token = 0; token < tokens; ++token) {
            const float* row = values + static_cast<std::size_t>(token) * dim;
            const double length = length_of(row, dim);
            lengths_[token] = finite(length);
            const double factor = length > 0 ? kWhole / length : 0;
            std::int16_t* block = pairs_.data() + static_cast<std::size_t>(token / kLanes) * padded * kLanes;
            for (int at = 0; at < dim; ++at)
                block[(at / 2 * kLanes + token % kLanes) * 2 + at % 2] = static_cast<std::int16_t>(whole(row[at] * factor));
        }
        packed_ = {pairs_.data(), lengths_.data(), tokens, blocks, padded};
    }

    const PackedQuery& packed() const { return packed_; }

  private:
    std::vector<std::int16_t> pairs_;
    std::vector<float> lengths_;
    PackedQuery packed_{};
};

// A query in float32.
class HeldQuery {
  public:
    HeldQuery(const float* values, int tokens, int dim) {
        const int blocks = (tokens + kLanes - 1) / kLanes;
        values_.resize(static_cast<std::size_t>(blocks) * dim * kLanes);
        lengths_.resize(static_cast<std::size_t>(tokens));
        for (int token = 0; token < tokens; ++token) {
            const float* row = values + static_cast<std::size_t>(token) * dim;
            const double length = length_of(row, dim);
            lengths_[token] = finite(length);
            const double factor = length > 0 ? 1 / length : 0;
            float* block = values_.data() + static_cast<std::size_t>(token / kLanes) * dim * kLanes;
            for (int at = 0; at < dim; ++at)
                block[static_cast<std::size_t>(at) * kLanes + token % kLanes] = static_cast<float>(row[at] * factor);
        }
        packed_ = {values_.data(), lengths_.data(), tokens, blocks};
    }

    const FloatQuery& packed() const { return packed_; }

  private:
    std::vector<float> values_, lengths_;
    FloatQuery packed_{};
};

// Which kernels, and how a query is packed for them: by what the centroids are kept in.
struct InWords {
    typedef std::int16_t Value;
    typedef Query Packed;
    static Codes codes(const Records& layout, const Value* centroids, const float* steps) { return {layout, centroids, steps[0]}; }
    static Packed packed(const float* rows, int tokens, int dim) { return Query(rows, tokens, dim); }
    static auto score() { return kernels().score_records; }
    static auto similarities() { return kernels().similarities; }
};

struct InBytes {
    typedef std::int8_t Value;
    typedef ByteRows Packed;
    static ByteCodes codes(const Records& layout, const Value* centroids, const float* steps) { return {layout, centroids, steps}; }
    static Packed packed(const float* rows, int tokens, int dim) { return ByteRows(rows, tokens, dim, (dim + 3) / 4 * 4, 0, kernels().tile_tokens); }
    static auto score() { return kernels().score_byte_records; }
    static auto similarities() { return kernels().byte_similarities; }
};

struct AsHeld {
    typedef float Value;
    typedef HeldQuery Packed;
    static HeldVectors codes(const Records& layout, const Value*, const float*) { return {layout}; }
    static Packed packed(const float* rows, int tokens, int dim) { return HeldQuery(rows, tokens, dim); }
    static auto score() { return kernels().score_held_records; }
    static auto similarities() { return kernels().held_similarities; }
};

// A table of codes as Python gives it (colindex/kernels/tables.py).
template <typename Width>
struct Table {
    const Array<typename Width::Value>& centroids;
    const Array<float>&steps, &levels;
    int bits, centroid_bytes;
    bool unit;

    Records layout() const {
        const int dim = static_cast<int>(centroids.shape(1)), code_bytes = (dim * bits + 7) / 8;
        return {static_cast<std::size_t>(centroids.shape(0)), levels.data(), dim, bits, centroid_bytes, code_bytes,
                centroid_bytes + 2 + code_bytes, unit};
    }
};

// Calls `kernel(query, codes, scratch)` with the lock released. It says whether all records name centroids that exist.
template <typename Width, typename Kernel>
void refine(const Array<float>& query, const Table<Width>& table, Kernel kernel) {
    const int tokens = static_cast<int>(query.shape(0));
    const Records layout = table.layout();
    const auto codes = Width::codes(layout, table.centroids.data(), table.steps.data());
    const float* rows = query.data();
    bool whole;
    {
        pybind11::gil_scoped_release released;
        const auto packed = Width::packed(rows, tokens, layout.dim);
        std::vector<std::uint8_t> scratch(scratch_bytes(packed.packed()));
        whole = kernel(packed.packed(), codes, scratch.data());
    }
    if (!whole) throw pybind11::index_error("a record names a centroid that does not exist");
}

}  // namespace colindex
