// The kernels of a build, one set of bodies for each instruction set. The bodies stand in trellis.h, assign.h, project.h and
// ward.h; each file build_*.cpp includes them and fills one table. Arguments are plain pointers and numbers: the Python
// functions of the same names have checked them.
#pragma once

#include <cstddef>
#include <cstdint>

namespace colindex {

struct TrellisTables;

constexpr int kMostNearest = 8;

// Vectors by group, and the centroids of each group.
struct NearestCall {
    const float* vectors;  // [n, dim]
    int dim;
    const std::int64_t* rows;              // numbers of vectors; group g has row_offsets[g] to row_offsets[g + 1]
    const std::int64_t* row_offsets;       // [groups + 1]
    const float* centroids;                // [K, dim]
    const std::int64_t* centroid_offsets;  // [groups + 1]
    std::size_t groups;
    int count;          // nearest wanted for each vector
    std::int32_t* ids;  // [rows, count]
    double* scores;     // [rows, count]
};

// Working memory for groups of up to `largest` centroids, counted in whole vectors of 16 lanes.
struct NearestRoom {
    float* packed;          // [dim * largest]
    float* halves;          // [largest]
    float* estimates;       // [6 * largest]
    double* row;            // [dim]
    double* exact_halves;   // [largest]
    double* ups;            // [largest]
    double* downs;          // [largest]
};

// Rows times a matrix.
struct ProjectCall {
    const void* vectors;  // float16 or float32 [n, input_dim]
    bool half;            // float16
    std::size_t n;
    int input_dim, dim;
    const double* columns;  // the matrix, each column on its grid: [tiles, input_dim, kTileColumns]
    std::size_t tiles;
    bool unit;             // divide each product row by its length
    float* projected;      // [n, dim]
};

// Doubles of working memory: rows on the grid and their products, squares, one row of floats.
constexpr std::size_t kProjectChunk = 48;
constexpr std::size_t kTileColumns = 32;
inline std::size_t project_room(int input_dim, std::size_t tiles) {
    return (kProjectChunk + 1) * (input_dim + tiles * kTileColumns);
}

// A row of distances: its floats, and those from one row to the next, never a power of two (a column would use few sets of the
// cache).
inline std::size_t ward_width(int n) { return (static_cast<std::size_t>(n) + 15) / 16 * 16; }
inline std::size_t ward_stride(int n) { return ward_width(n) + 8; }

// Floats of working memory: arrays with a value a vector (two for merges), the vectors packed, the distances.
constexpr std::size_t kWardArrays = 10;
inline std::size_t ward_room(int n, int dim) { return ward_width(n) * (kWardArrays + dim) + n * ward_stride(n); }

struct BuildKernels {
    // Codes of `n` rows; `room` holds trellis_room(dim, bits) bytes, 64-byte aligned.
    void (*encode_trellis)(const float* scaled, std::size_t n, int dim, const TrellisTables& tables, std::uint8_t* codes,
                           void* room);
    // Codes of `n` residuals, and the length of each before float16.
    void (*encode_residuals)(const float* residuals, std::size_t n, int dim, const TrellisTables& tables, std::uint8_t* codes,
                             float* lengths, void* room);
    void (*nearest)(const NearestCall& call, const NearestRoom& room);
    // sums[ids[i]] += vectors[rows[i]] for i = 0 to n, in this order.
    void (*add_rows)(const float* vectors, int dim, const std::int64_t* rows, const std::int32_t* ids, std::size_t n,
                     double* sums);
    void (*project)(const ProjectCall& call, double* room);
    // Labels of n rows; `room` holds ward_room(n, dim) floats, 64-byte aligned.
    void (*ward_labels)(const float* vectors, int n, int dim, int n_clusters, float* room, std::int32_t* labels);
};

extern const BuildKernels build_generic;
extern const BuildKernels build_avx2;
extern const BuildKernels build_avx512;

}  // namespace colindex
