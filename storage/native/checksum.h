// What is the checksum of a block? XXH3, 64 bits, no seed, of exactly 4096 bytes; its low 32 bits are what an index keeps.
//
// The function is Yann Collet's (xxHash 0.8, BSD 2-clause, https://github.com/Cyan4973/xxHash); written down here for the
// one length that matters. 4096 bytes are four rounds of sixteen stripes of 64 bytes:
// 1. Accumulate each stripe: eight lanes, each adding its neighbour's data and the product of the halves of (data ^ key).
// 2. Scramble the lanes after a round; not after the last, whose last stripe has a key of its own.
// 3. Merge the lanes into one number.
#pragma once

#include <cstdint>
#include <cstring>
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace colindex::storage {

constexpr int64_t BLOCK_BYTES = 4096;

namespace checksum {

constexpr int LANES = 8, STRIPE = 64, STRIPES = 16, ROUNDS = 4;
constexpr uint64_t PRIME32_1 = 0x9E3779B1U;

alignas(64) constexpr uint8_t SECRET[192] = {
    0xb8, 0xfe, 0x6c, 0x39, 0x23, 0xa4, 0x4b, 0xbe, 0x7c, 0x01, 0x81, 0x2c, 0xf7, 0x21, 0xad, 0x1c,
    0xde, 0xd4, 0x6d, 0xe9, 0x83, 0x90, 0x97, 0xdb, 0x72, 0x40, 0xa4, 0xa4, 0xb7, 0xb3, 0x67, 0x1f,
    0xcb, 0x79, 0xe6, 0x4e, 0xcc, 0xc0, 0xe5, 0x78, 0x82, 0x5a, 0xd0, 0x7d, 0xcc, 0xff, 0x72, 0x21,
    0xb8, 0x08, 0x46, 0x74, 0xf7, 0x43, 0x24, 0x8e, 0xe0, 0x35, 0x90, 0xe6, 0x81, 0x3a, 0x26, 0x4c,
    0x3c, 0x28, 0x52, 0xbb, 0x91, 0xc3, 0x00, 0xcb, 0x88, 0xd0, 0x65, 0x8b, 0x1b, 0x53, 0x2e, 0xa3,
    0x71, 0x64, 0x48, 0x97, 0xa2, 0x0d, 0xf9, 0x4e, 0x38, 0x19, 0xef, 0x46, 0xa9, 0xde, 0xac, 0xd8,
    0xa8, 0xfa, 0x76, 0x3f, 0xe3, 0x9c, 0x34, 0x3f, 0xf9, 0xdc, 0xbb, 0xc7, 0xc7, 0x0b, 0x4f, 0x1d,
    0x8a, 0x51, 0xe0, 0x4b, 0xcd, 0xb4, 0x59, 0x31, 0xc8, 0x9f, 0x7e, 0xc9, 0xd9, 0x78, 0x73, 0x64,
    0xea, 0xc5, 0xac, 0x83, 0x34, 0xd3, 0xeb, 0xc3, 0xc5, 0x81, 0xa0, 0xff, 0xfa, 0x13, 0x63, 0xeb,
    0x17, 0x0d, 0xdd, 0x51, 0xb7, 0xf0, 0xda, 0x49, 0xd3, 0x16, 0x55, 0x26, 0x29, 0xd4, 0x68, 0x9e,
    0x2b, 0x16, 0xbe, 0x58, 0x7d, 0x47, 0xa1, 0xfc, 0x8f, 0xf8, 0xb8, 0xd1, 0x7a, 0xd0, 0x31, 0xce,
    0x45, 0xcb, 0x3a, 0x8f, 0x95, 0x16, 0x04, 0x28, 0xaf, 0xd7, 0xfb, 0xca, 0xbb, 0x4b, 0x40, 0x7e,
};

inline uint64_t read64(const uint8_t* from) {
    uint64_t value;
    std::memcpy(&value, from, sizeof value);  // little-endian machines only, as is the rest of the format
    return value;
}

#if defined(__SSE2__)
inline void accumulate(uint64_t* lanes, const uint8_t* stripe, const uint8_t* key) {
    auto* sums = reinterpret_cast<__m128i*>(lanes);
    for (int pair = 0; pair < LANES / 2; ++pair) {
        const __m128i data = _mm_loadu_si128(reinterpret_cast<const __m128i*>(stripe) + pair);
        const __m128i keyed = _mm_xor_si128(data, _mm_loadu_si128(reinterpret_cast<const __m128i*>(key) + pair));
        const __m128i product = _mm_mul_epu32(keyed, _mm_shuffle_epi32(keyed, _MM_SHUFFLE(0, 3, 0, 1)));
        const __m128i swapped = _mm_shuffle_epi32(data, _MM_SHUFFLE(1, 0, 3, 2));
        sums[pair] = _mm_add_epi64(_mm_add_epi64(sums[pair], swapped), product);
    }
}
#else
inline void accumulate(uint64_t* lanes, const uint8_t* stripe, const uint8_t* key) {
    for (int lane = 0; lane < LANES; ++lane) {
        const uint64_t data = read64(stripe + 8 * lane), keyed = data ^ read64(key + 8 * lane);
        lanes[lane ^ 1] += data;
        lanes[lane] += (keyed & 0xFFFFFFFFU) * (keyed >> 32);
    }
}
#endif

inline void scramble(uint64_t* lanes) {
    for (int lane = 0; lane < LANES; ++lane) {
        const uint64_t key = read64(SECRET + sizeof SECRET - STRIPE + 8 * lane);
        lanes[lane] = ((lanes[lane] ^ (lanes[lane] >> 47)) ^ key) * PRIME32_1;
    }
}

inline uint64_t fold(uint64_t a, uint64_t b) {
    __extension__ using Wide = unsigned __int128;
    const Wide product = static_cast<Wide>(a) * b;
    return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

}  // namespace checksum

inline uint32_t checksum_of_block(const uint8_t* block) {
    using namespace checksum;
    constexpr uint64_t PRIME64_1 = 0x9E3779B185EBCA87U;
    alignas(64) uint64_t lanes[LANES] = {0xC2B2AE3DU,         PRIME64_1,   0xC2B2AE3D27D4EB4FU, 0x165667B19E3779F9U,
                                         0x85EBCA77C2B2AE63U, 0x85EBCA77U, 0x27D4EB2F165667C5U, PRIME32_1};
    for (int round = 0; round < ROUNDS; ++round) {
        const uint8_t* stripes = block + round * STRIPES * STRIPE;
        const bool last = round == ROUNDS - 1;
        for (int stripe = 0; stripe < STRIPES - (last ? 1 : 0); ++stripe)
            accumulate(lanes, stripes + stripe * STRIPE, SECRET + 8 * stripe);
        if (!last) scramble(lanes);
    }
    accumulate(lanes, block + BLOCK_BYTES - STRIPE, SECRET + sizeof SECRET - STRIPE - 7);
    uint64_t merged = static_cast<uint64_t>(BLOCK_BYTES) * PRIME64_1;
    for (int pair = 0; pair < LANES / 2; ++pair)
        merged += fold(lanes[2 * pair] ^ read64(SECRET + 11 + 16 * pair), lanes[2 * pair + 1] ^ read64(SECRET + 19 + 16 * pair));
    merged = (merged ^ (merged >> 37)) * 0x165667919E3779F9U;
    return static_cast<uint32_t>(merged ^ (merged >> 32));
}

}  // namespace colindex::storage
