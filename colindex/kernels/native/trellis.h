// encode_trellis: which bits stand for a direction? The meaning is in colindex/kernels/reference/codes.py; the body is made
// for vectors side by side in lanes:
//
// 1. *Quantize* as many vectors as there are lanes to whole numbers, dimension by dimension.
// 2. *Step*: a cost is a whole number, shifted left by `bits`; below it stands the place of its state among those that the
//    next step chooses from, so that one minimum finds the cheapest and where it came from, and decides ties as well.
//    The 16 states that share a nibble of their byte stay among themselves for all dimensions that fill the other
//    nibble: they are loaded once, walk those dimensions in registers, and are stored.
//    Four places fill a word; a word a lane is a survivor record.
// 3. *Trace back* lane by lane.
//
// At 8 bits nothing is carried from one dimension to the next: each takes its nearest level.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "lanes.h"
#include "trellis_tables.h"

namespace colindex {
namespace {

constexpr std::int32_t kUnreached = 1 << 30;

// The nearest whole number, halves to even.
inline std::int32_t whole(float value) {
#if defined(__SSE2__) && !defined(__AVX2__)
    return _mm_cvtss_si32(_mm_set_ss(value));  // nearbyint would be a call
#else
    return static_cast<std::int32_t>(std::nearbyint(value));
#endif
}

// 1. Rows to whole numbers, values[dim][lane]; lanes without a row are zeros.
void quantize(const float* rows, int count, int dim, const TrellisTables& tables, Lanes* values) {
    const std::int32_t shift = 1 << value_shift(tables.bits);
    auto* out = reinterpret_cast<std::int32_t*>(values);
    for (int lane = 0; lane < kLanes; ++lane) {
        const float* row = rows + static_cast<std::size_t>(lane < count ? lane : 0) * dim;
        const float step = lane < count ? tables.step : 0;
        for (int d = 0; d < dim; ++d) {
            float value = row[d] < -tables.reach ? -tables.reach : row[d];
            value = value > tables.reach ? tables.reach : value;
            out[d * kLanes + lane] = whole(value * step) * shift;
        }
    }
}

// 2. One dimension for 16 states, costs[16]: `Q` bits of the free nibble are written before it.
template <int BITS, int Q>
inline void step(Lanes* costs, const std::int32_t* squares, const std::int32_t* slopes, Lanes value, Lanes base,
                 Lanes* survivors) {
    constexpr int kChoices = 1 << BITS, kBelow = 1 << (4 - Q - BITS), kGroups = 16 >> BITS;
    Lanes words[(kGroups + 3) / 4];
#pragma GCC unroll 16
    for (int group = 0; group < kGroups; ++group) {
        const int first = group / kBelow * (kChoices * kBelow) + group % kBelow;
        Lanes cheapest = costs[first];
#pragma GCC unroll 16
        for (int b = 1; b < kChoices; ++b) cheapest = least(cheapest, costs[first + b * kBelow]);
        const Lanes place = cheapest & all(kChoices - 1);
        words[group / 4] = group % 4 == 0 ? place : words[group / 4] | place << (8 * (group % 4));
        const Lanes carried = (cheapest ^ place) - base;
#pragma GCC unroll 16
        for (int b = 0; b < kChoices; ++b) {
            const int state = first + b * kBelow;
            costs[state] = plus_product(carried + all(squares[state]), value, slopes[state]);
        }
    }
#pragma GCC unroll 2
    for (int word = 0; word < (kGroups + 3) / 4; ++word) survivors[word] = words[word];
}

// The dimensions of one nibble, `count` of them (fewer than fill it at the end of a vector), for one set of 16 states.
template <int BITS, int Q = 0>
inline void walk(Lanes* costs, const TrellisTables& tables, int phase, int offset, const Lanes* values, int count,
                 Lanes base, Lanes* survivors) {
    if constexpr (Q < 4) {
        if (count == 0) return;
        const int table = phase / BITS + Q / BITS;
        step<BITS, Q>(costs, tables.squares[table] + offset, tables.slopes[table] + offset, *values, base, survivors);
        walk<BITS, Q + BITS>(costs, tables, phase, offset, values + 1, count - 1, Lanes{},
                             survivors + survivor_words(BITS));
    }
}

template <int BITS>
void forward(const Lanes* values, int dim, const TrellisTables& tables, Lanes* costs, Lanes* survivors) {
    constexpr int kWords = survivor_words(BITS), kDims = 4 / BITS;
    for (int state = 0; state < kStates; ++state) costs[state] = all(kUnreached);
    // each key tells its place among those that the first step chooses from: that of the highest bits
    for (int state = 0; state < kStates; ++state) costs[state] += all(reversed(state >> (8 - BITS), BITS));
    costs[0] = Lanes{};  // zeros lie before the stream
    for (int start = 0, half = 0; start < dim; start += kDims, half ^= 1) {
        const int count = dim - start < kDims ? dim - start : kDims;
        const int stride = half == 0 ? 16 : 1;
        Lanes base{};
        if (half == 0) {  // costs may only grow so far: once a byte, bring them back by what the first choice costs
            base = costs[0];
            for (int b = 1; b < (1 << BITS); ++b) base = least(base, costs[b << (8 - BITS)]);
            base &= all(-(1 << BITS));
        }
        for (int rest = 0; rest < 16; ++rest) {
            const int offset = half == 0 ? rest : rest * 16;
            Lanes set[16];
#pragma GCC unroll 16
            for (int j = 0; j < 16; ++j) set[j] = costs[offset + j * stride];
            walk<BITS>(set, tables, 4 * half, rest * 16, values + start, count, base,
                       survivors + static_cast<std::size_t>(start) * kWords + rest * (kWords / 16));
#pragma GCC unroll 16
            for (int j = 0; j < 16; ++j) costs[offset + j * stride] = set[j];
        }
    }
}

// 3. The cheapest final state of each lane (the lower one of equals), and the bytes before it.
template <int BITS>
void trace_back(const Lanes* costs, const Lanes* survivors, int count, int dim, std::uint8_t* codes, std::size_t code_bytes) {
    constexpr int kWords = survivor_words(BITS), kGroups = 16 >> BITS, kEach = kWords / 16;
    constexpr int kMask = (1 << BITS) - 1;
    Lanes best = costs[0] >> BITS, found{};
    for (int state = 1; state < kStates; ++state) {
        const Lanes cost = costs[state] >> BITS;
        const Lanes better = cost < best;
        best = better ? cost : best;
        found = better ? all(state) : found;
    }
    std::uint32_t bytes[kLanes];
    for (int lane = 0; lane < kLanes; ++lane) bytes[lane] = static_cast<std::uint32_t>(found[lane]);
    const auto* places = reinterpret_cast<const std::uint32_t*>(survivors);
    for (int position = dim - 1; position >= 0; --position) {
        const int phase = position * BITS % 8, rest = 8 - phase - BITS, q = phase % 4, below_bits = 4 - q - BITS;
        if (rest == 0 || position == dim - 1) {  // an unfilled last byte ends in zeros
            for (int lane = 0; lane < count; ++lane)
                codes[lane * code_bytes + position * BITS / 8] = static_cast<std::uint8_t>(bytes[lane] >> rest << rest);
        }
        const int half = phase / 4;
        const std::uint32_t* of_position = places + static_cast<std::size_t>(position) * kWords * kLanes;
        for (int lane = 0; lane < kLanes; ++lane) {
            const std::uint32_t byte = bytes[lane], high = byte >> 4, low = byte & 15;
            const std::uint32_t free = half ? low : high, fixed = half ? high : low;
            const std::uint32_t above = free >> (4 - q), below = free & ((1u << below_bits) - 1);
            const std::uint32_t group = above << below_bits | below;
            const std::uint32_t word = of_position[(fixed * kEach + group / 4) * kLanes + lane];
            const std::uint32_t place = word >> (8 * (group % 4)) & kMask;
            std::uint32_t replaced = place;
            if constexpr (BITS == 2) replaced = place >> 1 | (place & 1) << 1;
            if constexpr (BITS == 4)
                replaced = place >> 3 | (place >> 1 & 2) | (place << 1 & 4) | (place & 1) << 3;
            const std::uint32_t moved = (above << BITS | replaced) << below_bits | below;
            bytes[lane] = half ? high << 4 | moved : moved << 4 | low;
        }
    }
    static_assert(kGroups <= 4 * kEach, "each group has a byte of a word");
}

// At 8 bits: the nearest level of each dimension; ties as in the steps of the others, at the last dimension to the lower.
void nearest_levels(const Lanes* values, int count, int dim, const TrellisTables& tables, std::uint8_t* codes) {
    for (int d = 0; d < dim; ++d) {
        const bool last = d == dim - 1;
        const std::int32_t* squares = last ? tables.last_squares : tables.squares[0];
        Lanes cheapest = plus_product(all(squares[0]), values[d], tables.slopes[0][0]);
        for (int state = 1; state < kStates; ++state)
            cheapest = least(cheapest, plus_product(all(squares[state]), values[d], tables.slopes[0][state]));
        for (int lane = 0; lane < count; ++lane) {
            const int place = cheapest[lane] & (kStates - 1);
            codes[static_cast<std::size_t>(lane) * dim + d] = static_cast<std::uint8_t>(last ? place : reversed(place, 8));
        }
    }
}

// The working memory of a call.
struct TrellisRoom {
    TrellisRoom(void* room, int dim)
        : costs(static_cast<Lanes*>(room)), values(costs + kStates), survivors(values + dim) {}

    Lanes* costs;
    Lanes* values;
    Lanes* survivors;
};

// Codes of up to kLanes rows.
void encode_lanes(const float* scaled, int count, int dim, const TrellisTables& tables, const TrellisRoom& room,
                  std::uint8_t* codes, std::size_t code_bytes) {
    quantize(scaled, count, dim, tables, room.values);
    const auto trellis = [&](auto bits) {
        forward<bits>(room.values, dim, tables, room.costs, room.survivors);
        trace_back<bits>(room.costs, room.survivors, count, dim, codes, code_bytes);
    };
    switch (tables.bits) {
        case 1: return trellis(std::integral_constant<int, 1>{});
        case 2: return trellis(std::integral_constant<int, 2>{});
        case 4: return trellis(std::integral_constant<int, 4>{});
        default: return nearest_levels(room.values, count, dim, tables, codes);
    }
}

void encode_trellis(const float* scaled, std::size_t n, int dim, const TrellisTables& tables, std::uint8_t* codes, void* room) {
    const std::size_t code_bytes = (static_cast<std::size_t>(dim) * tables.bits + 7) / 8;
    for (std::size_t start = 0; dim > 0 && start < n; start += kLanes) {
        const int count = n - start < kLanes ? static_cast<int>(n - start) : kLanes;
        encode_lanes(scaled + start * dim, count, dim, tables, TrellisRoom(room, dim), codes + start * code_bytes, code_bytes);
    }
}

}  // namespace
}  // namespace colindex
