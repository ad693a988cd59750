// project: rows times a matrix, exact before the last rounding. The meaning is in colindex/kernels/reference/project.py.
//
// 1. *Multiply* a few rows on their grids at a time with a few columns on theirs in double precision: exact in any order.
// 2. *Round* to single precision, after dividing by the row's length where that is asked.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "build_kernels.h"
#include "grid.h"
#include "lanes.h"

namespace colindex {
namespace {

constexpr int kProjectRows = 6;
constexpr int kProjectWidth = kLanes == 16 ? 4 : 2;
constexpr int kProjectColumns = kProjectWidth * kDoubles;
static_assert(kProjectChunk % kProjectRows == 0 && kTileColumns % kProjectColumns == 0, "taken together");

inline float from_half(std::uint16_t half) {
    // exponent and fraction in a float's place, then the bias put right by a product, which also makes subnormals right
    const std::uint32_t magnitude = static_cast<std::uint32_t>(half & 0x7FFF) << 13;
    float value;
    std::memcpy(&value, &magnitude, sizeof(value));
    value *= 0x1p112f;
    std::uint32_t bits;
    std::memcpy(&bits, &value, sizeof(bits));
    bits |= (half & 0x7C00) == 0x7C00 ? 0x7F800000u : 0;  // infinities stay
    bits |= static_cast<std::uint32_t>(half & 0x8000) << 16;
    std::memcpy(&value, &bits, sizeof(value));
    return value;
}

// One row in single precision: where it lies, or converted into `room`.
const float* single(const ProjectCall& call, std::size_t row, float* room) {
    if (!call.half) return static_cast<const float*>(call.vectors) + row * call.input_dim;
    const auto* halves = static_cast<const std::uint16_t*>(call.vectors) + row * call.input_dim;
    int d = 0;
#if defined(__AVX2__)
    for (; d + 8 <= call.input_dim; d += 8)
        _mm256_storeu_ps(room + d, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(halves + d))));
#endif
    for (; d < call.input_dim; ++d) room[d] = from_half(halves[d]);
    return room;
}

// 1. kProjectRows rows [kProjectRows, input_dim] with kProjectColumns columns.
void multiply(const double* rows, int input_dim, const double* columns, double* products, std::size_t stride) {
    Doubles sums[kProjectRows][kProjectWidth];
    for (auto& of_row : sums)
        for (auto& sum : of_row) sum = Doubles{};
    for (int d = 0; d < input_dim; ++d, columns += kTileColumns) {
        Doubles column[kProjectWidth];
#pragma GCC unroll 4
        for (int w = 0; w < kProjectWidth; ++w) column[w] = load<Doubles>(columns + w * kDoubles);
#pragma GCC unroll 6
        for (int r = 0; r < kProjectRows; ++r) {
            const Doubles value = all(rows[r * input_dim + d]);
#pragma GCC unroll 4
            for (int w = 0; w < kProjectWidth; ++w) sums[r][w] = plus_product(sums[r][w], value, column[w]);
        }
    }
    for (int r = 0; r < kProjectRows; ++r)
        for (int w = 0; w < kProjectWidth; ++w) store(products + r * stride + w * kDoubles, sums[r][w]);
}

// 2.
void round_row(const double* products, int dim, bool unit, double* squares, float* projected) {
    double divisor = 1;
    if (unit) {
        for (int d = 0; d < dim; d += kDoubles) {  // rows are padded to whole vectors
            const Doubles values = load<Doubles>(products + d);
            store(squares + d, rounded(values * values));
        }
        const double length = std::sqrt(pairwise<double>([squares](int d) { return squares[d]; }, 0, dim));
        divisor = length > 0 ? length : 1;  // a zero row stays zero
    }
    for (int d = 0; d < dim; ++d) projected[d] = static_cast<float>(products[d] / divisor);
}

// kProjectChunk rows at a time, so that a few columns stay in the cache for all of them.
void project(const ProjectCall& call, double* room) {
    const std::size_t stride = call.tiles * kTileColumns, input_dim = call.input_dim;
    double* rows = room;
    double* products = rows + kProjectChunk * input_dim;
    double* squares = products + kProjectChunk * stride;
    auto* row = reinterpret_cast<float*>(squares + stride);
    for (std::size_t start = 0; start < call.n; start += kProjectChunk) {
        const std::size_t count = call.n - start < kProjectChunk ? call.n - start : kProjectChunk;
        for (std::size_t r = 0; r < count; ++r) {
            const float* values = single(call, start + r, row);
            put_on_grid(values, call.input_dim, Grid(values, call.input_dim), rows + r * input_dim);
        }
        const std::size_t whole = (count + kProjectRows - 1) / kProjectRows * kProjectRows;
        for (std::size_t i = count * input_dim; i < whole * input_dim; ++i) rows[i] = 0;
        for (std::size_t column = 0; column < stride; column += kProjectColumns) {
            const double* columns = call.columns + column / kTileColumns * input_dim * kTileColumns + column % kTileColumns;
            for (std::size_t r = 0; r < whole; r += kProjectRows)
                multiply(rows + r * input_dim, call.input_dim, columns, products + r * stride + column, stride);
        }
        for (std::size_t r = 0; r < count; ++r)
            round_row(products + r * stride, call.dim, call.unit, squares, call.projected + (start + r) * call.dim);
    }
}

}  // namespace
}  // namespace colindex
