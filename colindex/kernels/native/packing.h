// Query tokens in whole numbers, as the kernels take them.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <vector>

#include "rounding.h"
#include "search_kernels.h"

namespace colindex {

template <typename Value>
double length_of(const Value* row, int dim) {
    double square = 0;
    for (int at = 0; at < dim; ++at) square += static_cast<double>(row[at]) * row[at];
    return std::sqrt(square);
}

inline float finite(double length) { return static_cast<float>(std::min<double>(length, std::numeric_limits<float>::max())); }

// Rows in 8 bits: of floats, each with a step of its own, or of whole numbers as they are.
class ByteRows {
  public:
    // In tiles of at most so many tokens.
    template <typename Value>
    ByteRows(const Value* values, int tokens, int dim, int width, float beyond, int most) {
        const int tiles = (tokens + most - 1) / most;
        const auto all = static_cast<std::size_t>(tokens);
        quads_.resize(all * width);
        pairs_.resize(all * width);
        starts_.resize(all);
        scales_.resize(all);
        spread_scales_.resize(all);
        for (int tile = 0; tile <= tiles; ++tile)
            tile_starts_.push_back(tiles ? static_cast<int>(static_cast<std::int64_t>(tokens) * tile / tiles) : 0);
        for (int tile = 0; tile < tiles; ++tile)
            for (int token = tile_starts_[tile]; token < tile_starts_[tile + 1]; ++token)
                pack(values + static_cast<std::size_t>(token) * dim, dim, token, tile_starts_[tile], tile_starts_[tile + 1], width, beyond);
        packed_ = {quads_.data(), pairs_.data(), starts_.data(), scales_.data(), spread_scales_.data(), tile_starts_.data(), tiles, width};
    }

    const ByteQuery& packed() const { return packed_; }

  private:
    template <typename Value>
    void pack(const Value* row, int dim, int token, int first, int end, int width, float beyond) {
        constexpr bool is_whole = std::is_same_v<Value, std::int8_t>;
        float largest = is_whole ? 127.0f : 0.0f;
        for (int at = 0; !is_whole && at < dim; ++at) largest = std::max(largest, std::fabs(static_cast<float>(row[at])));
        spread_scales_[token] = is_whole ? 0.0f : finite(length_of(row, dim)) * beyond;
        scales_[token] = largest / 127;
        const double factor = largest > 0 ? 127.0 / largest : 0;
        std::int8_t wholes[kMaxWidth] = {};
        for (int at = 0; at < dim; ++at) wholes[at] = static_cast<std::int8_t>(is_whole ? static_cast<std::int32_t>(row[at]) : whole(row[at] * factor));
        std::int32_t sum = 0;
        for (int at = 0; at < dim; ++at) sum += wholes[at];
        starts_[token] = -128 * sum;
        std::size_t word = static_cast<std::size_t>(first) * width + 4 * static_cast<std::size_t>(token - first);
        for (const std::int8_t* quad = wholes; quad < wholes + width; quad += 4, word += 4 * static_cast<std::size_t>(end - first)) {
            const std::int16_t pairs[4] = {quad[0], quad[2], quad[1], quad[3]};
            std::memcpy(&quads_[word], quad, 4 * sizeof *quad);
            std::memcpy(&pairs_[word], pairs, sizeof pairs);
        }
    }

    std::vector<std::int8_t> quads_;
    std::vector<std::int16_t> pairs_;
    std::vector<std::int32_t> starts_;
    std::vector<float> scales_, spread_scales_;
    std::vector<int> tile_starts_;
    ByteQuery packed_{};
};

}  // namespace colindex
