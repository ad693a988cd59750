// Query tokens in whole numbers, as the kernels take them.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <vector>

#include "search_kernels.h"

namespace colindex {

template <typename Value>
double length_of(const Value* row, int dim) {
    double square = 0;
    for (int at = 0; at < dim; ++at) square += static_cast<double>(row[at]) * row[at];
    return std::sqrt(square);
}

// The nearest whole number, the even one of two, of a value below 2**31: what `lrint` gives, without the call.
inline std::int32_t whole(double value) {
    const double shifted = value + 6755399441055744.0;  // 1.5 * 2**52: the last bits are whole
    std::int64_t bits;
    std::memcpy(&bits, &shifted, sizeof bits);
    return static_cast<std::int32_t>(bits);
}

inline float finite(double length) { return static_cast<float>(std::min<double>(length, std::numeric_limits<float>::max())); }

// Rows in 8 bits: of floats, each with a step of its own, or of whole numbers as they are.
class Probe {
  public:
    // In tiles of at most so many tokens.
    template <typename Value>
    Probe(const Value* values, int tokens, int dim, int width, float beyond, int most) {
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
        spread_scales_[token] = finite(length_of(row, dim)) * beyond;
        scales_[token] = largest / 127;
        const double factor = largest > 0 ? 127.0 / largest : 0;
        std::size_t word = static_cast<std::size_t>(first) * width + 4 * static_cast<std::size_t>(token - first);
        for (int quad = 0; quad < dim; quad += 4, word += 4 * static_cast<std::size_t>(end - first)) {
            std::int32_t wholes[4] = {};
            for (int at = quad; at < std::min(quad + 4, dim); ++at) wholes[at - quad] = whole(row[at] * factor);
            for (int at = 0; at < 4; ++at) {
                quads_[word + at] = static_cast<std::int8_t>(wholes[at]);
                pairs_[word + at % 2 * 2 + at / 2] = static_cast<std::int16_t>(wholes[at]);
                starts_[token] -= 128 * wholes[at];
            }
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
