// nearest: which centroids of its group lie nearest to each vector? The meaning is in
// colindex/kernels/reference/assign.py: exact scores, compared without any tolerance. The body finds the same answer with
// little exact arithmetic:
//
// 1. *Pack* the centroids of a group side by side in lanes, dimension by dimension.
// 2. *Estimate* all scores of a few vectors at a time in single precision. Each lies within a bound of the exact one.
// 3. *Decide*: only centroids whose estimate lies within two bounds of the best (of the `count`th best) can be among the
//    nearest; their scores are computed exactly. Mostly that is one.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "build_kernels.h"
#include "grid.h"
#include "lanes.h"

namespace colindex {
namespace {

constexpr int kTileRows = 6;
constexpr int kTileBlocks = kLanes == 16 ? 4 : 2;  // with kTileRows, what the registers hold
constexpr int kAllExact = 2;                      // groups of at most so many centroids are not worth an estimate
constexpr double kSafe = 1e37;                    // products below this do not leave single precision

inline std::size_t padded(std::size_t count) { return (count + kLanes - 1) / kLanes * kLanes; }

// Values d to d + 3 of each of four rows, turned: `to` is [4][kLanes].
inline void turn_four(const float* const* rows, int d, float* to) {
#if defined(__SSE2__)
    __m128 first = _mm_loadu_ps(rows[0] + d), second = _mm_loadu_ps(rows[1] + d);
    __m128 third = _mm_loadu_ps(rows[2] + d), fourth = _mm_loadu_ps(rows[3] + d);
    _MM_TRANSPOSE4_PS(first, second, third, fourth);
    _mm_storeu_ps(to, first);
    _mm_storeu_ps(to + kLanes, second);
    _mm_storeu_ps(to + 2 * kLanes, third);
    _mm_storeu_ps(to + 3 * kLanes, fourth);
#else
    for (int at = 0; at < 4; ++at)
        for (int r = 0; r < 4; ++r) to[at * kLanes + r] = rows[r][d + at];
#endif
}

// 1. Blocks of as many centroids as there are lanes: [blocks][dim][lanes]; lanes without a centroid are zeros.
void pack(const float* centroids, std::size_t count, int dim, float* packed) {
    static_assert(kLanes % 4 == 0, "turned in fours");
    for (std::size_t start = 0; start < count; start += kLanes, packed += static_cast<std::size_t>(kLanes) * dim) {
        for (int lane = 0; lane < kLanes; lane += 4) {
            const float* rows[4];
            for (int r = 0; r < 4; ++r) rows[r] = centroids + (start + lane + r < count ? start + lane + r : 0) * dim;
            int d = 0;
            for (; start + lane + 3 < count && d + 4 <= dim; d += 4) turn_four(rows, d, packed + d * kLanes + lane);
            for (int r = 0; r < 4; ++r)
                for (int at = d; at < dim; ++at) packed[at * kLanes + lane + r] = start + lane + r < count ? rows[r][at] : 0.0f;
        }
    }
}

// 2. Products of kTileRows vectors with the centroids of BLOCKS blocks, less half the squared length of each. The products of a
// pair are added one after the other, whatever stands beside it.
template <int BLOCKS>
void estimate_tile(const float* const* rows, int dim, const float* packed, const float* halves, float* estimates,
                   std::size_t stride) {
    Floats sums[kTileRows][BLOCKS];
    for (auto& of_row : sums)
        for (auto& sum : of_row) sum = Floats{};
    const std::size_t block = static_cast<std::size_t>(dim) * kLanes;
    for (int d = 0; d < dim; ++d, packed += kLanes) {
        Floats column[BLOCKS];
#pragma GCC unroll 4
        for (int b = 0; b < BLOCKS; ++b) column[b] = load<Floats>(packed + b * block);
#pragma GCC unroll 6
        for (int r = 0; r < kTileRows; ++r) {
            const Floats value = all(rows[r][d]);
#pragma GCC unroll 4
            for (int b = 0; b < BLOCKS; ++b) sums[r][b] = plus_product(sums[r][b], value, column[b]);
        }
    }
    for (int r = 0; r < kTileRows; ++r)
        for (int b = 0; b < BLOCKS; ++b)
            store(estimates + r * stride + b * kLanes, sums[r][b] - load<Floats>(halves + b * kLanes));
}

void estimate(const float* const* rows, int dim, const float* packed, const float* halves, std::size_t count,
              float* estimates) {
    const std::size_t stride = padded(count);
    for (std::size_t start = 0; start < stride;) {
        const std::size_t blocks = (stride - start) / kLanes;
        const float* of_tile = packed + start * dim;
        const auto tile = [&](auto width) {
            estimate_tile<width>(rows, dim, of_tile, halves + start, estimates + start, stride);
            start += width * kLanes;
        };
        if (blocks >= kTileBlocks) {
            tile(std::integral_constant<int, kTileBlocks>{});
        } else if (blocks == 3) {
            tile(std::integral_constant<int, 3>{});
        } else if (blocks == 2) {
            tile(std::integral_constant<int, 2>{});
        } else {
            tile(std::integral_constant<int, 1>{});
        }
    }
}

// The `count` best so far: falling scores, equal ones in order of number.
class Best {
  public:
    Best(std::int32_t* ids, double* scores, int count) : ids_(ids), scores_(scores), count_(count) {}

    // Numbers come rising, so an equal one goes behind.
    void offer(std::int32_t id, double score) {
        int place = found_ < count_ ? found_++ : count_;
        if (place == count_ && !(score > scores_[--place])) return;
        for (; place > 0 && score > scores_[place - 1]; --place) {
            scores_[place] = scores_[place - 1];
            ids_[place] = ids_[place - 1];
        }
        scores_[place] = score;
        ids_[place] = id;
    }

  private:
    std::int32_t* ids_;
    double* scores_;
    int count_;
    int found_ = 0;
};

// The estimate that a centroid has to reach to be among the `count` nearest.
float threshold(const float* estimates, std::size_t n, int count, double bound) {
    Floats most = load<Floats>(estimates);
    if (count == 1) {
        for (std::size_t i = kLanes; i < n; i += kLanes) {
            const Floats values = load<Floats>(estimates + i);
            most = values > most ? values : most;
        }
        float best = most[0];
        for (int lane = 1; lane < kLanes; ++lane) best = most[lane] > best ? most[lane] : best;
        return static_cast<float>(best - 2 * bound);
    }
    float kept[kMostNearest];  // falling
    for (int i = 0; i < count; ++i) kept[i] = -INFINITY;
    for (std::size_t i = 0; i < n; ++i) {
        if (!(estimates[i] > kept[count - 1])) continue;
        int place = count - 1;
        for (; place > 0 && estimates[i] > kept[place - 1]; --place) kept[place] = kept[place - 1];
        kept[place] = estimates[i];
    }
    return static_cast<float>(kept[count - 1] - 2 * bound);
}

// One group of one call.
class Group {
  public:
    Group(const NearestCall& call, std::size_t group, const NearestRoom& room)
        : call_(call), first_(call.centroid_offsets[group]), count_(call.centroid_offsets[group + 1] - first_), room_(room) {
        const float* centroids = call.centroids + first_ * call.dim;
        longest_ = 0;
        for (std::size_t c = 0; c < count_; ++c) {
            const Grid grid(centroids + c * call.dim, call.dim);
            put_on_grid(centroids + c * call.dim, call.dim, grid, room.row);
            room.exact_halves[c] = exact_product(room.row, centroids + c * call.dim, call.dim, grid) / 2;
            room.ups[c] = grid.up;
            room.downs[c] = grid.down;
            longest_ = grid.norm > longest_ ? grid.norm : longest_;
        }
        if (count_ <= kAllExact) return;
        pack(centroids, count_, call.dim, room.packed);
        // lanes without a centroid come last in every order
        for (std::size_t c = 0; c < padded(count_); ++c)
            room.halves[c] = c < count_ ? static_cast<float>(room.exact_halves[c]) : INFINITY;
    }

    void run(std::size_t start, std::size_t stop) {
        for (std::size_t at = start; at < stop; at += kTileRows) {
            const float* rows[kTileRows];
            for (int r = 0; r < kTileRows; ++r) rows[r] = row(at + r < stop ? at + r : stop - 1);
            for (int r = 0; r < kTileRows && at + kTileRows + r < stop; ++r) prefetch(row(at + kTileRows + r));
            if (count_ > kAllExact) estimate(rows, call_.dim, room_.packed, room_.halves, count_, room_.estimates);
            for (int r = 0; r < kTileRows && at + r < stop; ++r)
                decide(rows[r], room_.estimates + r * padded(count_), at + r);
        }
    }

  private:
    const float* row(std::size_t at) const { return call_.vectors + call_.rows[at] * call_.dim; }

    void prefetch(const float* row) const {
        for (int d = 0; d < call_.dim; d += 16) __builtin_prefetch(row + d);
    }

    // 3.
    void decide(const float* row, const float* estimates, std::size_t at) {
        const Grid grid(row, call_.dim);
        put_on_grid(row, call_.dim, grid, room_.row);
        Best best(call_.ids + at * call_.count, call_.scores + at * call_.count, call_.count);
        if (count_ <= kAllExact) {
            for (std::size_t c = 0; c < count_; ++c) best.offer(id(c), score(c));
            return;
        }
        const float least = threshold(estimates, padded(count_), call_.count, bound(grid.norm));
        for (std::size_t start = 0; start < count_; start += kLanes) {
            const Lanes below = load<Floats>(estimates + start) < all(least);  // what is no number is not below
            if (all_set(below)) continue;
            for (std::size_t c = start; c < count_ && c < start + kLanes; ++c)
                if (!(estimates[c] < least)) best.offer(id(c), score(c));
        }
    }

    std::int32_t id(std::size_t c) const { return static_cast<std::int32_t>(first_ + c); }

    double score(std::size_t c) const {
        Grid grid = Grid::of(room_.ups[c], room_.downs[c]);
        return exact_product(room_.row, call_.centroids + (first_ + c) * call_.dim, call_.dim, grid) - room_.exact_halves[c];
    }

    // How far an estimate may lie from the exact score. Of a sum of dim rounded products: (dim + 2) * 2**-24 |x| |c|; of the
    // grid: each value moves by at most 2**-25 of its row's length, by Cauchy-Schwarz sqrt(dim) * 2**-24 |x| |c| for both
    // rows; of half the square: 2**-24 of it. Twice that, and what is lost below the smallest numbers.
    double bound(double norm) const {
        const double product = norm * longest_, half = longest_ * longest_ / 2;
        if (!(product < kSafe && half < kSafe && norm < kSafe)) return INFINITY;  // all are computed exactly
        return (call_.dim + std::sqrt(call_.dim) + 8) * 0x1p-23 * (product + half) + call_.dim * 0x1p-125;
    }

    const NearestCall& call_;
    std::size_t first_, count_;
    const NearestRoom& room_;
    double longest_;
};

void nearest(const NearestCall& call, const NearestRoom& room) {
    for (std::size_t group = 0; group < call.groups; ++group) {
        const std::size_t start = call.row_offsets[group], stop = call.row_offsets[group + 1];
        if (start < stop) Group(call, group, room).run(start, stop);
    }
}

void add_rows(const float* vectors, int dim, const std::int64_t* rows, const std::int32_t* ids, std::size_t n, double* sums) {
    for (std::size_t i = 0; i < n; ++i) {
        const float* row = vectors + rows[i] * dim;
        double* sum = sums + static_cast<std::size_t>(ids[i]) * dim;
        int d = 0;
        for (; d + kDoubles <= dim; d += kDoubles) store(sum + d, load<Doubles>(sum + d) + widened(row + d));
        for (; d < dim; ++d) sum[d] += row[d];
    }
}

}  // namespace
}  // namespace colindex
