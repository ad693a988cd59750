// ward_labels: which tokens of a document go together? The meaning is in colindex/kernels/reference/ward.py, which asks scipy;
// merges and the cut are scipy's, but where two distances are equal but for rounding.
//
// 1. *Distances* between all pairs, 1 - cosine held to [0, 2], squared, as a whole matrix in single precision: rows are read
//    and written in one piece. The products of a pair are added one after the other, so that pairs are treated alike. A tile of
//    the matrix is as many rows as a vector has lanes, and as many columns: half of the tiles are the others turned.
// 2. *Merge*, along a chain of nearest neighbours (Murtagh, 1983): go from a cluster to its nearest, until two are nearest to
//    each other; merge them, and go on from what is left of the chain. The earlier cluster of the chain wins a tie, then the
//    lower number. Squared distances to the merged cluster follow Lance and Williams (1967) for Ward's method: no roots. When
//    half of the rows are gone, the others move together.
// 3. *Cut*: of the n - 1 merges, those no higher than the (n - n_clusters)th lowest count.
// 4. *Number* the clusters by their first members.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "assign.h"
#include "lanes.h"

namespace colindex {
namespace {

constexpr std::size_t kLeast = 64;  // rows as short stay where they are
constexpr int kScans = 16 / kLanes;  // side by side: rows are padded to 16

inline Floats lower(Floats a, Floats b) {
#if defined(__AVX512VNNI__)
    return (Floats)_mm512_min_ps((__m512)a, (__m512)b);
#else
    return a < b ? a : b;
#endif
}

inline float lowest_lane(Floats values) {
#if defined(__AVX512VNNI__)
    return _mm512_reduce_min_ps((__m512)values);
#else
    float least = values[0];
    for (int lane = 1; lane < kLanes; ++lane) least = values[lane] < least ? values[lane] : least;
    return least;
#endif
}

inline bool none_equal(Floats a, Floats b) {
#if defined(__AVX512VNNI__)
    return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_EQ_OQ) == 0;
#else
    return all_set((Lanes)(a != b));
#endif
}

class Ward {
  public:
    // room: [kWardArrays * ward_width(n)]; distances: [n * ward_stride(n)].
    Ward(int n, float* room, float* distances)
        : n_(n), width_(ward_width(n)), stride_(ward_stride(n)), distances_(distances), sizes_(room), gone_(room + width_),
          heights_(room + 2 * width_), sorted_(room + 3 * width_) {
        chain_ = reinterpret_cast<std::int32_t*>(room + 4 * width_);
        alive_ = chain_ + width_;
        names_ = alive_ + width_;
        places_ = names_ + width_;
        merges_ = reinterpret_cast<std::int32_t(*)[2]>(places_ + width_);
    }

    // 1. A tile at a time, on the diagonal and above, and the same turned, below. packed: [width * dim].
    void measure(const float* vectors, int dim, float* packed) {
        const std::size_t block = static_cast<std::size_t>(dim) * kLanes;
        for (int column = 0; column < n_; column += kLanes) {
            const std::size_t begin = static_cast<std::size_t>(dim) * column;
            pack(vectors + begin, n_ - column < kLanes ? n_ - column : kLanes, dim, packed + begin);
            for (int row = 0; row <= column; row += kLanes) {
                Tile products, turned;
                multiply(packed + row / kLanes * block, packed + column / kLanes * block, dim, products);
                fill(products, row, column);
                if (row == column) continue;
                turn(products, turned);
                fill(turned, column, row);
            }
        }
        for (int i = 0; i < n_; ++i) {
            float* row = distances_ + i * stride_;
            row[i] = INFINITY;
            for (std::size_t j = n_; j < width_; ++j) row[j] = INFINITY;
        }
    }

    // 2.
    void merge_all() {
        for (std::size_t i = 0; i < width_; ++i) {
            sizes_[i] = 1;
            gone_[i] = i < static_cast<std::size_t>(n_) ? 0 : INFINITY;
        }
        for (int i = 0; i < n_; ++i) alive_[i] = names_[i] = i;
        alive_count_ = n_;
        int length = 0;
        for (int k = 0; k < n_ - 1; ++k) {
            if (length == 0) chain_[length++] = alive_[0];
            while (true) {
                const int x = chain_[length - 1], before = length > 1 ? chain_[length - 2] : -1;
                const int y = nearest(x, before);
                if (y == before) break;
                chain_[length++] = y;
            }
            length -= 2;
            merge(chain_[length], chain_[length + 1], k);
            if (2 * static_cast<std::size_t>(alive_count_) <= width_ && width_ > kLeast) move_together(length);
        }
    }

    // 3. and 4.
    void label(int n_clusters, std::int32_t* labels) {
        for (int k = 0; k < n_ - 1; ++k) sorted_[k] = heights_[k];
        const float cut = smallest(sorted_, n_ - 1, n_ - n_clusters - 1);
        std::int32_t* parents = chain_;
        for (int i = 0; i < n_; ++i) parents[i] = i;
        for (int k = 0; k < n_ - 1; ++k) {
            if (!(heights_[k] <= cut)) continue;
            const int a = root(parents, merges_[k][0]), b = root(parents, merges_[k][1]);
            parents[a > b ? a : b] = a > b ? b : a;  // the root is the first member
        }
        std::int32_t count = 0;
        for (int i = 0; i < n_; ++i) labels[i] = parents[i] == i ? count++ : labels[root(parents, i)];
    }

  private:
    using Tile = float[kLanes][kLanes];

    // Products of the vectors of one block with those of another.
    static void multiply(const float* rows, const float* columns, int dim, Tile& products) {
        Floats sums[kLanes];
        for (auto& sum : sums) sum = Floats{};
        for (int d = 0; d < dim; ++d, rows += kLanes, columns += kLanes) {
            const Floats column = load<Floats>(columns);
#pragma GCC unroll 16
            for (int r = 0; r < kLanes; ++r) sums[r] = plus_product(sums[r], all(rows[r]), column);
        }
        for (int r = 0; r < kLanes; ++r) store(products[r], sums[r]);
    }

    static void turn(const Tile& products, Tile& turned) {
        for (int r = 0; r < kLanes; r += 4) {
            const float* const rows[4] = {products[r], products[r + 1], products[r + 2], products[r + 3]};
            for (int column = 0; column < kLanes; column += 4) turn_four(rows, column, turned[column] + r);
        }
    }

    // Squared distances where the tile lies.
    void fill(const Tile& products, int row, int column) {
        for (int r = 0; r < kLanes && row + r < n_; ++r) {
            Floats distances = all(1.0f) - load<Floats>(products[r]);
            distances = distances > Floats{} ? distances : Floats{};
            distances = distances < all(2.0f) ? distances : all(2.0f);
            store(distances_ + (row + r) * stride_ + column, distances * distances);
        }
    }

    // First the least distance, then where it is.
    int nearest(int x, int before) const {
        const float* row = distances_ + x * stride_;
        Floats least[kScans];
        for (auto& values : least) values = all(static_cast<float>(INFINITY));
        for (std::size_t i = 0; i < width_; i += kScans * kLanes) {
#pragma GCC unroll 4
            for (int scan = 0; scan < kScans; ++scan) least[scan] = lower(alive(row, i + scan * kLanes), least[scan]);
        }
        for (int scan = 1; scan < kScans; ++scan) least[0] = lower(least[scan], least[0]);
        const float lowest = lowest_lane(least[0]);
        if (before >= 0 && row[before] == lowest) return before;
        std::size_t i = 0;
        while (i + kLanes < width_ && none_equal(alive(row, i), all(lowest))) i += kLanes;
        while (row[i] + gone_[i] != lowest) ++i;
        return static_cast<int>(i);
    }

    // Distances to the clusters that still are; infinite to the others.
    Floats alive(const float* row, std::size_t i) const { return load<Floats>(row + i) + load<Floats>(gone_ + i); }

    void merge(int x, int y, int k) {
        if (x > y) {
            const int other = x;
            x = y;
            y = other;
        }
        float* to_y = distances_ + y * stride_;
        const float* to_x = distances_ + x * stride_;
        const float between = to_x[y], of_x = sizes_[x], of_y = sizes_[y];
        heights_[k] = between;
        merges_[k][0] = names_[x];
        merges_[k][1] = names_[y];
        for (std::size_t i = 0; i < width_; i += kLanes) {
            const Floats sizes = load<Floats>(sizes_ + i);
            const Floats sum = (sizes + all(of_x)) * load<Floats>(to_x + i) + (sizes + all(of_y)) * load<Floats>(to_y + i) -
                               sizes * all(between);
            store(to_y + i, sum / (sizes + all(of_x + of_y)));
        }
        to_y[y] = INFINITY;
        sizes_[x] = 0;
        sizes_[y] = of_x + of_y;
        gone_[x] = INFINITY;
        int left = 0;
        for (int at = 0; at < alive_count_; ++at) {  // column y, and x off the list
            const int i = alive_[at];
            distances_[i * stride_ + y] = to_y[i];
            alive_[left] = i;
            left += i != x;
        }
        alive_count_ = left;
    }

    // The rows and columns that still are become the first ones, in their order, which the chain follows.
    void move_together(int length) {
        width_ = ward_width(alive_count_);
        for (int place = 0; place < alive_count_; ++place) {
            const int from = alive_[place];  // `place` or later: nothing is written over before it was read
            const float* row = distances_ + from * stride_;
            float* to = distances_ + place * stride_;
            for (int column = 0; column < alive_count_; ++column) to[column] = row[alive_[column]];
            for (std::size_t column = alive_count_; column < width_; ++column) to[column] = INFINITY;
            sizes_[place] = sizes_[from];
            names_[place] = names_[from];
            places_[from] = place;
        }
        for (std::size_t place = 0; place < width_; ++place)
            gone_[place] = place < static_cast<std::size_t>(alive_count_) ? 0 : INFINITY;
        for (int at = 0; at < length; ++at) chain_[at] = places_[chain_[at]];
        for (int place = 0; place < alive_count_; ++place) alive_[place] = place;
    }

    static int root(std::int32_t* parents, int i) {
        while (parents[i] != i) i = parents[i] = parents[parents[i]];
        return i;
    }

    // The `rank`th smallest value, by quickselect (Hoare, 1961).
    static float smallest(float* values, int n, int rank) {
        int low = 0, high = n - 1;
        while (low < high) {
            const float pivot = values[low + (high - low) / 2];
            int i = low, j = high;
            while (i <= j) {
                while (values[i] < pivot) ++i;
                while (pivot < values[j]) --j;
                if (i <= j) {
                    const float value = values[i];
                    values[i++] = values[j];
                    values[j--] = value;
                }
            }
            if (rank <= j) {
                high = j;
            } else if (rank >= i) {
                low = i;
            } else {
                break;
            }
        }
        return values[rank];
    }

    int n_;
    std::size_t width_, stride_;  // of a row: what is looked at, and from one to the next
    float* distances_;
    float* sizes_;
    float* gone_;  // 0 for what still is a cluster, else infinite: added to a distance, it keeps it from being the least
    float* heights_;
    float* sorted_;  // a copy of the heights, in an order of its own
    std::int32_t* chain_;
    std::int32_t* alive_;   // the clusters that still are, rising
    std::int32_t* names_;   // the first number of each row's cluster, before rows moved together
    std::int32_t* places_;  // where rows move
    int alive_count_ = 0;
    std::int32_t (*merges_)[2];
};

void ward_labels(const float* vectors, int n, int dim, int n_clusters, float* room, std::int32_t* labels) {
    const std::size_t width = ward_width(n);
    float* packed = room + kWardArrays * width;
    Ward ward(n, room, packed + width * dim);
    ward.measure(vectors, dim, packed);
    ward.merge_all();
    ward.label(n_clusters, labels);
}

}  // namespace
}  // namespace colindex
