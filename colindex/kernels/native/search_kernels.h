// The kernels of a search whose bodies depend on the instruction set, and what they share.
//
// Dot products are taken in 16-bit whole numbers, with 32-bit sums. A query token is brought to length 1 and scaled by 32,767.
// Centroids are stored as whole numbers, the longest of them 8,191 steps long; a stored vector is at most 32,767 steps long.
// By Cauchy and Schwarz every sum fits. The error of a product, some 1e-4 of the lengths, is a hundredth of what codes lose.
//
// Probing takes 8 bits, for query and centroids each with a step of its own: an error of some 1e-3, which the choice of
// candidates does not notice, for half the time and memory.
#pragma once

#include <cstddef>
#include <cstdint>

namespace colindex {

constexpr int kLanes = 16;       // query tokens side by side; in probing, centroids
constexpr int kGroup = 8;        // stored vectors multiplied together
constexpr int kSampleGroup = 32; // centroids of a sample that lie together, at most
constexpr int kMaxWidth = 1024;  // values of a vector
constexpr float kWhole = 32767.0f;
constexpr float kCentroidWhole = 8191.0f;
constexpr float kLevelWhole = 4095.0f;

// A query for refinement, in 16 bits.
struct PackedQuery {
    const std::int16_t* pairs;  // [blocks][padded / 2][16][2]: values 2p and 2p + 1 of 16 tokens; zeros past the last token and dim
    const float* lengths;       // [blocks * 16]; 0 past the last token
    int tokens;
    int blocks;  // of 16 tokens
    int padded;  // dim rounded up to a multiple of 32

    // Whether the last 8 tokens of a block are none.
    bool half(int block) const { return tokens - block * kLanes <= kLanes / 2; }
};

// A query for probing, in 8 bits, its tokens in tiles of as many as an instruction set takes together, or one less.
struct ByteQuery {
    const std::int8_t* quads;    // for each tile [width / 4][tokens of the tile][4]
    const std::int16_t* pairs;   // the same for machines that multiply no bytes: of four values 0 and 2, then 1 and 3
    const std::int32_t* starts;  // [tokens]: -128 times the sum of the token's values
    const float* scales;         // [tokens]: what one step of the token's values is worth
    const float* spread_scales;  // [tokens]: what a centroid's spread is worth
    const int* tile_starts;      // [tiles + 1]: the first token of each, and the number of all
    int tiles;
    int width;  // dim rounded up to a multiple of 4
};

// Centroids for probing.
struct ByteCentroids {
    const std::uint8_t* values;  // [blocks of 16, in pairs][width / 4][16][4], 128 too large; 128 past dim and the last centroid
    const float* steps;          // [K]: what one step of the centroid's values is worth
    const float* spreads;        // [K]
};

// What turns a record back into a vector.
struct Codes {
    const std::int16_t* centroids;  // [K, dim], whole multiples of `step`
    std::size_t n_centroids;
    float step;
    const float* levels;  // [256]
    int dim;
    int bits;            // a dimension: 1, 2, 4 or 8
    int centroid_bytes;  // 2 or 4
    int code_bytes;
    int record_bytes;
    bool unit;  // whether decoded vectors are brought to length 1
};

// Centroids that may be among the best of a query token: its own piece of memory, with room for 16 more than come.
struct Column {
    float* scores;
    std::uint32_t* ids;
    std::uint32_t count;
    float threshold;
};

struct SearchKernels {
    // MaxSim of the query with each document: records [offsets[i], offsets[i + 1]) of `records`; -inf for none.
    // `scratch` has room for scratch_bytes(). Returns false if a record names a centroid that does not exist.
    bool (*score_records)(const PackedQuery&, const Codes&, const std::uint8_t* records, const std::int64_t* offsets,
                          std::size_t documents, std::uint8_t* scratch, float* scores);
    // Those of the centroids [first, first + count), `first` a multiple of 32, that score a token's threshold or more go to its
    // column, in rising order.
    void (*score_centroids)(const ByteQuery&, const ByteCentroids&, std::size_t first, std::size_t count, Column*);
    // Thresholds that about `rank` centroids reach of a group out of every `stride`, a multiple of 32: there are at least `rank`.
    // `scores` and `keys` have room for kSampleGroup a stride, the scores of each token.
    void (*sample_centroids)(const ByteQuery&, const ByteCentroids&, std::size_t n_centroids, std::size_t stride, std::uint32_t rank,
                             float* scores, std::int32_t* keys, Column*);
    int tile_tokens;  // query tokens that `score_centroids` takes together, at most
};

inline std::size_t scratch_bytes(const PackedQuery& query) {
    return kGroup * query.padded * sizeof(std::int16_t) + query.padded * sizeof(double) + query.blocks * kLanes * sizeof(float) + 64;
}

extern const SearchKernels search_generic;
#if defined(__x86_64__)
extern const SearchKernels search_avx2;
extern const SearchKernels search_avx512;
#endif

}  // namespace colindex
