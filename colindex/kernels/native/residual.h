// encode_residuals: codes and lengths of residuals of any length. The meaning is in colindex/kernels/reference/codes.py; sums
// are added in the order in which NumPy adds them, so that lengths agree to the last bit.
//
// 1. *Scale* as many residuals as there are lanes to root mean square 1, first by their largest value, so that no square
//    leaves the range of single precision.
// 2. *Code* them (trellis.h).
// 3. *Measure* the vector that each code stands for; the length gives it the length of the residual.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "grid.h"
#include "lanes.h"
#include "trellis.h"

namespace colindex {
namespace {

// 1. One row; what it was divided by. A row of zeros stays one, divided by 0.
float scale(const float* row, int dim, float* scaled, float* squares) {
    float peak = 0;
    for (int d = 0; d < dim; ++d) {
        const float magnitude = row[d] < 0 ? -row[d] : row[d];
        peak = magnitude > peak ? magnitude : peak;
    }
    const float first = peak > 0 ? peak : 1;
    int d = 0;
    for (; d + kLanes <= dim; d += kLanes) {
        const Floats unit = load<Floats>(row + d) / all(first);
        store(scaled + d, unit);
        store(squares + d, rounded(unit * unit));
    }
    for (; d < dim; ++d) {
        scaled[d] = row[d] / first;
        squares[d] = rounded(scaled[d] * scaled[d]);
    }
    const float sum = pairwise<float>([squares](int i) { return squares[i]; }, 0, dim);
    const float rms = std::sqrt(sum / static_cast<float>(dim));
    const float second = rms > 0 ? rms : 1;
    for (int i = 0; i < dim; ++i) scaled[i] /= second;
    return rms * peak;
}

// 3. The factor that brings a decoded vector to root mean square 1.
float stretch(const std::uint8_t* code, int dim, const TrellisTables& tables, float* squares) {
    const int bits = tables.bits;
    for (int d = 0; d < dim; ++d) {  // a state is the last 8 bits up to and including those of the dimension
        const int end = (d + 1) * bits, byte = (end + 7) / 8 - 1, shift = 8 * (byte + 1) - end;
        const unsigned window = code[byte] | (byte > 0 ? code[byte - 1] << 8 : 0);
        squares[d] = tables.level_squares[window >> shift & (kStates - 1)];
    }
    const float energy = pairwise<float>([squares](int i) { return squares[i]; }, 0, dim);
    return energy > 0 ? std::sqrt(static_cast<float>(dim) / energy) : 0;
}

void encode_residuals(const float* residuals, std::size_t n, int dim, const TrellisTables& tables, std::uint8_t* codes,
                      float* lengths, void* room) {
    const std::size_t code_bytes = (static_cast<std::size_t>(dim) * tables.bits + 7) / 8;
    auto* scaled = static_cast<float*>(room);
    float* squares = scaled + static_cast<std::size_t>(kMostLanes) * dim;
    const TrellisRoom rest(squares + static_cast<std::size_t>(kMostLanes) * dim, dim);
    for (std::size_t start = 0; dim > 0 && start < n; start += kLanes) {
        const int count = n - start < kLanes ? static_cast<int>(n - start) : kLanes;
        std::uint8_t* out = codes + start * code_bytes;
        for (int i = 0; i < count; ++i)
            lengths[start + i] = scale(residuals + (start + i) * dim, dim, scaled + static_cast<std::size_t>(i) * dim, squares);
        encode_lanes(scaled, count, dim, tables, rest, out, code_bytes);
        for (int i = 0; i < count; ++i) lengths[start + i] *= stretch(out + i * code_bytes, dim, tables, squares);
    }
}

}  // namespace
}  // namespace colindex
