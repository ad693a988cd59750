// What the trellis encoder needs to know of the levels, laid out for its walk.
#pragma once

#include <cstddef>
#include <cstdint>

namespace colindex {

constexpr int kStates = 256;
constexpr int kMostLanes = 16;

// Lowest bits last: the order in which a tie is decided (the lower half wins, round by round).
constexpr int reversed(int value, int bits) {
    int result = 0;
    for (int bit = 0; bit < bits; ++bit) result |= (value >> bit & 1) << (bits - 1 - bit);
    return result;
}

// Values are shifted by this much, levels by the rest of `bits`: so both fit 16 bits.
constexpr int value_shift(int bits) { return bits / 2; }

// A factor of plus_product (lanes.h), of magnitude below 2**15: where products are sums of pairs of 16 bits, the other is zero.
inline std::int32_t factor(std::int32_t value) {
#if defined(__SSE2__)
    return value & 0xFFFF;
#else
    return value;
#endif
}

struct TrellisTables {
    int bits;
    float step;   // whole numbers in one unit of the levels
    float reach;  // values are clipped to +-reach
    // For each phase (which bits of the byte are new) and each state: level**2 << bits | the place of the state among those
    // that the next step chooses from, reversed; and -2 * level, shifted. In the order of the walk: states that share the
    // nibble that is not written stand side by side.
    std::int32_t squares[8][kStates];
    std::int32_t slopes[8][kStates];
    float level_squares[kStates];  // of the levels as they are, for the length of a decoded vector
    // At 8 bits, the last dimension: ties go to the lower state.
    std::int32_t last_squares[kStates];
};

// whole: the levels in whole numbers, each of magnitude below 1,024.
inline void fill(TrellisTables& tables, const std::int32_t* whole, int bits) {
    tables.bits = bits;
    for (int phase = 0; phase < 8; phase += bits) {
        const int written = phase + bits, next = written % 8;
        for (int byte = 0; byte < kStates; ++byte) {
            const int state = (byte << written | byte >> (8 - written)) & (kStates - 1);
            const int place = byte >> (8 - next - bits) & ((1 << bits) - 1);
            const std::int32_t square = whole[state] * whole[state] * (1 << bits);
            const int at = phase < 4 && bits < 8 ? (byte & 15) << 4 | byte >> 4 : byte;
            tables.squares[phase / bits][at] = square + reversed(place, bits);
            tables.slopes[phase / bits][at] = factor(-2 * whole[state] * (1 << (bits - value_shift(bits))));
            if (bits == 8) tables.last_squares[byte] = square + byte;
        }
    }
}

// Words of 4 places each that the survivors of one dimension take, for each lane.
constexpr int survivor_words(int bits) { return bits == 1 ? 32 : 16; }

// Working memory of one call, in bytes: costs, values, survivors; and twice as many values for scaled rows and squares.
inline std::size_t trellis_room(int dim, int bits) {
    const std::size_t words = kStates + static_cast<std::size_t>(dim) * (3 + (bits < 8 ? survivor_words(bits) : 0));
    return words * kMostLanes * sizeof(std::int32_t);
}

}  // namespace colindex
