// The kernels of a search whose bodies depend on the instruction set, and what they share.
//
// Probing multiplies in 8-bit whole numbers, with 32-bit sums: query tokens and centroids each in a step of their own, for a quarter of
// the time and memory of float32. So does refinement where codes have few bits: vectors are decoded to 8 bits. The error of a
// product is some 1e-3 of the lengths, which the choice of candidates does not notice, and a tenth of what 2 bits lose.
//
// Vectors of codes of 8 bits are decoded to 16 bits. A query token is brought to length 1 and scaled by 32,767. Centroids are
// stored as whole numbers, the longest of them 8,191 steps long; a stored vector is at most 32,767 steps long. By Cauchy and
// Schwarz every sum fits. The error of a product is some 1e-4.
//
// Records of 32 bits a dimension hold the vectors, and are multiplied in float32 with query tokens of length 1: no sum is too large.
#pragma once

#include <cstddef>
#include <cstdint>

namespace colindex {

constexpr int kLanes = 16;       // query tokens side by side; in probing, centroids
constexpr int kGroup = 8;        // stored vectors multiplied together
constexpr int kMaskTokens = 64;  // query tokens that a mask can name
constexpr int kMostTogether = 32;  // stored vectors multiplied together in 8 bits, at most
constexpr int kMaxWidth = 1024;  // values of a vector
constexpr float kWhole = 32767.0f;
constexpr float kCentroidWhole = 8191.0f;
constexpr float kLevelWhole = 4095.0f;

// A query in 16 bits.
struct PackedQuery {
    const std::int16_t* pairs;  // [blocks][padded / 2][16][2]: values 2p and 2p + 1 of 16 tokens; zeros past the last token and dim
    const float* lengths;       // [blocks * 16]; 0 past the last token
    int tokens;
    int blocks;  // of 16 tokens
    int padded;  // dim rounded up to a multiple of 32

    // Whether the last 8 tokens of a block are none.
    bool half(int block) const { return tokens - block * kLanes <= kLanes / 2; }
};

// A query in 8 bits, its tokens in tiles of as many as an instruction set takes together, or one less.
struct ByteQuery {
    const std::int8_t* quads;    // for each tile [width / 4][tokens of the tile][4]
    const std::int16_t* pairs;   // the same for machines that multiply no bytes: of four values 0 and 2, then 1 and 3
    const std::int32_t* starts;  // [tokens]: -128 times the sum of the token's values
    const float* scales;         // [tokens]: what one step of the token's values is worth
    const float* spread_scales;  // [tokens]: what a centroid's spread is worth, in probing
    const int* tile_starts;      // [tiles + 1]: the first token of each, and the number of all
    int tiles;
    int width;  // dim rounded up to a multiple of 4
};

// A query in float32.
struct FloatQuery {
    const float* values;   // [blocks][dim][16]: tokens brought to length 1; zeros past the last one
    const float* lengths;  // [tokens]
    int tokens;
    int blocks;  // of 16 tokens
};

// Centroids, or the centres of cells, for probing.
struct ByteCentroids {
    const std::uint8_t* values;  // [blocks of 16, in pairs][width / 4][16][4], 128 too large; 128 past dim and the last centroid
    const float* steps;          // [count]: what one step of the centroid's values is worth
    const float* spreads;        // [count]
    std::size_t count;

    std::size_t blocks() const { return (count + kLanes - 1) / kLanes; }
    // Room for the scores of all: whole pairs of blocks.
    std::size_t room() const { return (count + 2 * kLanes - 1) / (2 * kLanes) * (2 * kLanes); }
};

// How records are laid out, and what their codes mean.
struct Records {
    std::size_t n_centroids;
    const float* levels;  // [256]; none at 32 bits
    int dim;
    int bits;            // a dimension: 1, 2, 4, 8 or 32
    int centroid_bytes;  // 2 or 4
    int code_bytes;
    int record_bytes;
    bool unit;  // whether decoded vectors are brought to length 1
};

// What turns records into vectors of 16-bit whole numbers.
struct Codes : Records {
    const std::int16_t* centroids;  // [K, dim], whole multiples of `step`
    float step;
};

// What turns records into vectors of 8-bit whole numbers.
struct ByteCodes : Records {
    const std::int8_t* centroids;  // [K, dim], whole multiples of the centroid's step, -127 to 127
    const float* steps;            // [K]
};

// Records that hold the vectors themselves, behind the number of a centroid and two bytes more.
struct HeldVectors : Records {};

// Where the scores of a query token's next block go, and the block's number.
struct NextBlock {
    float* scores;
    std::uint32_t* blocks;
};

struct SearchKernels {
    // MaxSim of the query with each document: records [offsets[i], offsets[i + 1]) of `records`; -inf for none.
    // `scratch` has room for scratch_bytes(). Returns false if a record names a centroid that does not exist.
    bool (*score_records)(const PackedQuery&, const Codes&, const std::uint8_t* records, const std::int64_t* offsets,
                          std::size_t documents, std::uint8_t* scratch, float* scores);
    // The products of the query's tokens with each of the vectors: [tokens][count]. Else as above.
    bool (*similarities)(const PackedQuery&, const Codes&, const std::uint8_t* records, std::int64_t count, std::uint8_t* scratch,
                         float* found);
    // The same in 8 bits.
    bool (*score_byte_records)(const ByteQuery&, const ByteCodes&, const std::uint8_t* records, const std::int64_t* offsets,
                               std::size_t documents, std::uint8_t* scratch, float* scores);
    bool (*byte_similarities)(const ByteQuery&, const ByteCodes&, const std::uint8_t* records, std::int64_t count,
                              std::uint8_t* scratch, float* found);
    // The same of records that hold the vectors.
    bool (*score_held_records)(const FloatQuery&, const HeldVectors&, const std::uint8_t* records, const std::int64_t* offsets,
                               std::size_t documents, std::uint8_t* scratch, float* scores);
    bool (*held_similarities)(const FloatQuery&, const HeldVectors&, const std::uint8_t* records, std::int64_t count,
                              std::uint8_t* scratch, float* found);
    // The scores of every centroid, float [tokens][centroids.room()]; past the last one minus infinity.
    void (*score_all)(const ByteQuery&, const ByteCentroids&, float* scores);
    // For each block of 16 centroids, their scores with each token that its mask names: to where the token's `next` points, which
    // moves on; past the last centroid minus infinity. Tokens in tiles of one, at most kMaskTokens.
    void (*score_some)(const ByteQuery&, const ByteCentroids&, const std::uint64_t* masks, NextBlock* next);
    // The largest of some bounds which scores of at least this weight together reach, `weight` no more than all together.
    // `weights`: of each score, 0 or more; null: 1 each. `keys` has room for `count`.
    float (*reached_by)(const float* scores, const std::int32_t* weights, std::size_t count, std::int64_t weight, std::int32_t* keys);
    // The places, rising, and scores of some: of all that reach a bound, which `wanted` do at least, and mostly few more; how many.
    // Everything has room for `count` and 16 more.
    std::size_t (*shortlist)(const float* scores, std::size_t count, std::size_t wanted, float* chosen, std::uint32_t* places,
                             std::int32_t* keys);
    // The places of the scores that reach a bound, rising; how many. There is room for `count` and 16 more.
    std::size_t (*reaching)(const float* scores, std::size_t count, float bound, std::uint32_t* places);
    // How many of the scores, fewer than 2**31, are above zero.
    std::size_t (*positive)(const float* scores, std::size_t count);
    // Adds a row to another, and leaves zeros.
    void (*move_row)(float* row, std::size_t count, float* sums);
    // For each row of whole numbers, a tile of them, the centre with the highest 2 * row * centre - square, the lowest of equal
    // ones. `centres` as in ByteCentroids, `squares` for whole pairs of blocks, past the last one the largest.
    void (*nearest_cells)(const ByteQuery& rows, const std::uint8_t* centres, const std::int32_t* squares, std::size_t count,
                          std::int32_t* cells);
    int tile_tokens;  // query tokens that are multiplied together, at most
};

inline std::size_t scratch_bytes(const ByteQuery& query) {
    const std::size_t tokens = query.tile_starts[query.tiles];
    return kMostTogether * query.width + tokens * (kMostTogether * sizeof(std::int32_t) + kLanes * sizeof(float)) + 64;
}

inline std::size_t scratch_bytes(const FloatQuery& query) { return query.blocks * kLanes * sizeof(float) + 64; }

inline std::size_t scratch_bytes(const PackedQuery& query) {
    return kGroup * query.padded * sizeof(std::int16_t) + query.padded * sizeof(double) + query.blocks * kLanes * sizeof(float) + 64;
}

extern const SearchKernels search_generic;
#if defined(__x86_64__)
extern const SearchKernels search_avx2;
extern const SearchKernels search_avx512;
#endif

}  // namespace colindex
