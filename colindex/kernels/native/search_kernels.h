// The kernels of a search whose bodies depend on the instruction set, and what they share.
//
// Probing multiplies in 8-bit whole numbers, with 32-bit sums: query tokens and centroids each in a step of their own, for a quarter of
// the time and memory of float32. So does refinement where codes have few bits: vectors are decoded to 8 bits. The error of a
// product is some 1e-3 of the lengths, which the choice of candidates does not notice, and a tenth of what 2 bits lose.
//
// Vectors of codes of 8 bits are decoded to 16 bits. A query token is brought to length 1 and scaled by 32,767. Centroids are
// stored as whole numbers, the longest of them 8,191 steps long; a stored vector is at most 32,767 steps long. By Cauchy and
// Schwarz every sum fits. The error of a product is some 1e-4.
#pragma once

#include <cstddef>
#include <cstdint>

namespace colindex {

constexpr int kLanes = 16;       // query tokens side by side; in probing, centroids
constexpr int kGroup = 8;        // stored vectors multiplied together
constexpr int kSampleGroup = 32; // centroids of a sample that lie together, at most
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

// Centroids for probing.
struct ByteCentroids {
    const std::uint8_t* values;  // [blocks of 16, in pairs][width / 4][16][4], 128 too large; 128 past dim and the last centroid
    const float* steps;          // [K]: what one step of the centroid's values is worth
    const float* spreads;        // [K]
};

// How records are laid out, and what their codes mean.
struct Records {
    std::size_t n_centroids;
    const float* levels;  // [256]
    int dim;
    int bits;            // a dimension: 1, 2, 4 or 8
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
    // The products of the query's tokens with each of the vectors: [tokens][count]. Else as above.
    bool (*similarities)(const PackedQuery&, const Codes&, const std::uint8_t* records, std::int64_t count, std::uint8_t* scratch,
                         float* found);
    // The same in 8 bits.
    bool (*score_byte_records)(const ByteQuery&, const ByteCodes&, const std::uint8_t* records, const std::int64_t* offsets,
                               std::size_t documents, std::uint8_t* scratch, float* scores);
    bool (*byte_similarities)(const ByteQuery&, const ByteCodes&, const std::uint8_t* records, std::int64_t count,
                              std::uint8_t* scratch, float* found);
    // Those of the centroids [first, first + count), `first` a multiple of 32, that score a token's threshold or more go to its
    // column, in rising order.
    void (*score_centroids)(const ByteQuery&, const ByteCentroids&, std::size_t first, std::size_t count, Column*);
    // Thresholds that about `rank` centroids reach of a group out of every `stride`, a multiple of 32: there are at least `rank`.
    // `scores` and `keys` have room for kSampleGroup a stride, the scores of each token.
    void (*sample_centroids)(const ByteQuery&, const ByteCentroids&, std::size_t n_centroids, std::size_t stride, std::uint32_t rank,
                             float* scores, std::int32_t* keys, Column*);
    int tile_tokens;  // query tokens that `score_centroids` takes together, at most
};

inline std::size_t scratch_bytes(const ByteQuery& query) {
    const std::size_t tokens = query.tile_starts[query.tiles];
    return kMostTogether * query.width + tokens * (kMostTogether * sizeof(std::int32_t) + kLanes * sizeof(float)) + 64;
}

inline std::size_t scratch_bytes(const PackedQuery& query) {
    return kGroup * query.padded * sizeof(std::int16_t) + query.padded * sizeof(double) + query.blocks * kLanes * sizeof(float) + 64;
}

extern const SearchKernels search_generic;
#if defined(__x86_64__)
extern const SearchKernels search_avx2;
extern const SearchKernels search_avx512;
#endif

}  // namespace colindex
