// The grid on which products of rows are exact in double precision: colindex/kernels/reference/grid.py says why.
#pragma once

#include <cmath>
#include <cstdint>

#include "lanes.h"

namespace colindex {
namespace {

constexpr int kGridBits = 25;
constexpr double kRounder = 6755399441055744.0;  // 1.5 * 2**52: adding and subtracting it rounds to a whole number

// The sum of f(0) ... f(n - 1) in the order in which NumPy adds a row: eight sums side by side, runs of more than 128 halved.
template <typename Sum, typename Function>
Sum pairwise(Function f, int start, int n) {
    if (n > 128) {
        const int half = n / 2 - n / 2 % 8;
        return pairwise<Sum>(f, start, half) + pairwise<Sum>(f, start + half, n - half);
    }
    int i = 0;
    Sum total = 0;
    if (n >= 8) {
        Sum sums[8];
        for (int j = 0; j < 8; ++j) sums[j] = f(start + j);
        for (i = 8; i < n - n % 8; i += 8)
            for (int j = 0; j < 8; ++j) sums[j] += f(start + i + j);
        total = ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
    }
    for (; i < n; ++i) total += f(start + i);
    return total;
}

// The sum of the squares of a row, as `pairwise` adds it. (A float's square is exact in double precision, so fusing it with
// the sum changes nothing.)
inline double squares(const float* row, int n) {
    if (n > 128) {
        const int half = n / 2 - n / 2 % 8;
        return squares(row, half) + squares(row + half, n - half);
    }
    double total = 0;
    int i = 0;
    if (n >= 8) {
        Doubles sums[8 / kDoubles] = {};
        for (; i + 8 <= n; i += 8) {
            for (int part = 0; part < 8 / kDoubles; ++part) {
                const Doubles values = widened(row + i + part * kDoubles);
                sums[part] = plus_product(sums[part], values, values);
            }
        }
        double of[8];
        std::memcpy(of, sums, sizeof(of));
        total = ((of[0] + of[1]) + (of[2] + of[3])) + ((of[4] + of[5]) + (of[6] + of[7]));
    }
    for (; i < n; ++i) total += static_cast<double>(row[i]) * row[i];
    return total;
}

// Multiplying by `up`, rounding, and multiplying by `down` puts a value on the grid of its row.
struct Grid {
    double norm, up, down;

    Grid(const float* row, int dim) {
        norm = std::sqrt(squares(row, dim));
        int exponent;
        std::frexp(norm, &exponent);
        up = std::ldexp(1.0, kGridBits - exponent);
        down = std::ldexp(1.0, exponent - kGridBits);
    }

    static Grid of(double up, double down) { return Grid(up, down); }

    double operator()(float value) const { return (value * up + kRounder - kRounder) * down; }
    Doubles operator()(Doubles values) const { return (values * all(up) + all(kRounder) - all(kRounder)) * all(down); }

  private:
    Grid(double up_, double down_) : norm(0), up(up_), down(down_) {}
};

// A row on its grid, double [dim].
inline void put_on_grid(const float* row, int dim, const Grid& grid, double* out) {
    int d = 0;
    for (; d + kDoubles <= dim; d += kDoubles) store(out + d, grid(widened(row + d)));
    for (; d < dim; ++d) out[d] = grid(row[d]);
}

// The product of a row on its grid and another row yet to be put on its own: exact, whatever the order of additions.
inline double exact_product(const double* on_grid, const float* row, int dim, const Grid& grid) {
    Doubles sums{};
    int d = 0;
    for (; d + kDoubles <= dim; d += kDoubles)
        sums = plus_product(sums, load<Doubles>(on_grid + d), grid(widened(row + d)));
    double sum = 0;
    for (int lane = 0; lane < kDoubles; ++lane) sum += sums[lane];
    for (; d < dim; ++d) sum += on_grid[d] * grid(row[d]);
    return sum;
}

}  // namespace
}  // namespace colindex
