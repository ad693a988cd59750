// ward_labels: which tokens of a document go together? The meaning is in colindex/kernels/reference/ward.py, which asks scipy;
// merges and the cut are scipy's, but where two distances are equal but for rounding.
//
// 1. *Distances* between all pairs, 1 - cosine held to [0, 2], squared, as a whole matrix: rows are read and written in one
//    piece. The products of a pair are added one after the other, so that pairs are treated alike.
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
constexpr int kScans = 2;  // side by side: one would wait for itself
static_assert(kScans * kDoubles <= 16, "rows are padded to 16");

class Ward {
  public:
    // distances: [n * ward_stride(n)]; room: [7 * ward_width(n)].
    Ward(int n, double* distances, double* room)
        : n_(n), width_(ward_width(n)), stride_(ward_stride(n)), distances_(distances), sizes_(room), gone_(room + width_),
          heights_(room + 2 * width_) {
        chain_ = reinterpret_cast<std::int32_t*>(room + 4 * width_);  // 2 * width_ for heights: `label` sorts a copy
        alive_ = chain_ + width_;
        merges_ = reinterpret_cast<std::int32_t(*)[2]>(room + 5 * width_);
        names_ = reinterpret_cast<std::int32_t*>(room + 6 * width_);
        places_ = names_ + width_;
    }

    // 1. A tile of rows at a time, with itself and what comes after it.
    void measure(const float* vectors, int dim, float* packed, float* zeros, float* products) {
        pack(vectors, n_, dim, packed);
        for (std::size_t i = 0; i < width_; ++i) zeros[i] = 0;
        for (int i = 0; i < n_; i += kTileRows) {
            const int count = n_ - i < kTileRows ? n_ - i : kTileRows;
            const float* rows[kTileRows];
            for (int r = 0; r < kTileRows; ++r) rows[r] = vectors + static_cast<std::size_t>(i + (r < count ? r : 0)) * dim;
            const std::size_t first = i / kLanes * kLanes;
            estimate(rows, dim, packed + first * dim, zeros, n_ - first, products);
            for (int r = 0; r < count; ++r) fill(i + r, products + r * padded(n_ - first) - first);
            mirror(i, count);
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
        double* sorted = heights_ + ward_width(n_);
        for (int k = 0; k < n_ - 1; ++k) sorted[k] = heights_[k];
        const double cut = smallest(sorted, n_ - 1, n_ - n_clusters - 1);
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
    // Row i of the distances, from products with all that comes after i. (What is written before i,
    // from the beginning of its vector of lanes on, is written again as it is.)
    void fill(int i, const float* products) {
        double* row = distances_ + i * stride_;
        for (std::size_t j = i / kDoubles * kDoubles; j < width_; j += kDoubles) {
            const Doubles cosines = widened(products + j);
            Doubles distances = all(1.0) - cosines;
            distances = distances > Doubles{} ? distances : Doubles{};
            distances = distances < all(2.0) ? distances : all(2.0);
            store(row + j, distances * distances);
        }
        row[i] = INFINITY;
        for (std::size_t j = n_; j < width_; ++j) row[j] = INFINITY;
    }

    // Columns [i, i + count) below their rows, side by side: each line of the cache is written once.
    void mirror(int i, int count) {
        for (int j = i + 1; j < n_; ++j) {
            const double* from = distances_ + i * stride_ + j;
            double* to = distances_ + j * stride_ + i;
            for (int r = 0; r < count && i + r < j; ++r) to[r] = from[r * stride_];
        }
    }

    int nearest(int x, int before) const {
        const double* row = distances_ + x * stride_;
        Doubles least[kScans], found[kScans], number;  // found: whole numbers, in double precision
        for (int lane = 0; lane < kDoubles; ++lane) number[lane] = lane;
        for (int scan = 0; scan < kScans; ++scan) {
            least[scan] = all(static_cast<double>(INFINITY));
            found[scan] = Doubles{};
        }
        for (std::size_t i = 0; i < width_; i += kScans * kDoubles) {
#pragma GCC unroll 4
            for (int scan = 0; scan < kScans; ++scan, number += all(static_cast<double>(kDoubles))) {
                const Doubles values = load<Doubles>(row + i + scan * kDoubles) + load<Doubles>(gone_ + i + scan * kDoubles);
                found[scan] = values < least[scan] ? number : found[scan];
                least[scan] = values < least[scan] ? values : least[scan];
            }
        }
        double values[kScans * kDoubles], numbers[kScans * kDoubles];
        for (int scan = 0; scan < kScans; ++scan) {
            store(values + scan * kDoubles, least[scan]);
            store(numbers + scan * kDoubles, found[scan]);
        }
        for (int half = kScans * kDoubles / 2; half > 0; half /= 2) {  // of two lanes the lower value, then the lower number
            for (int lane = 0; lane < half; ++lane) {
                const double value = values[lane + half], number_there = numbers[lane + half];
                const bool nearer = (value < values[lane]) | ((value == values[lane]) & (number_there < numbers[lane]));
                values[lane] = nearer ? value : values[lane];
                numbers[lane] = nearer ? number_there : numbers[lane];
            }
        }
        const double lowest = values[0], first = numbers[0];
        return before >= 0 && row[before] == lowest ? before : static_cast<int>(first);
    }

    void merge(int x, int y, int k) {
        if (x > y) {
            const int other = x;
            x = y;
            y = other;
        }
        double* to_y = distances_ + y * stride_;
        const double* to_x = distances_ + x * stride_;
        const double between = to_x[y], of_x = sizes_[x], of_y = sizes_[y];
        heights_[k] = between;
        merges_[k][0] = names_[x];
        merges_[k][1] = names_[y];
        for (std::size_t i = 0; i < width_; i += kDoubles) {
            const Doubles sizes = load<Doubles>(sizes_ + i);
            const Doubles sum = (sizes + all(of_x)) * load<Doubles>(to_x + i) + (sizes + all(of_y)) * load<Doubles>(to_y + i) -
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
            const double* row = distances_ + from * stride_;
            double* to = distances_ + place * stride_;
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
    static double smallest(double* values, int n, int rank) {
        int low = 0, high = n - 1;
        while (low < high) {
            const double pivot = values[low + (high - low) / 2];
            int i = low, j = high;
            while (i <= j) {
                while (values[i] < pivot) ++i;
                while (pivot < values[j]) --j;
                if (i <= j) {
                    const double value = values[i];
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
    double* distances_;
    double* sizes_;
    double* gone_;  // 0 for what still is a cluster, else infinite: added to a distance, it keeps it from being the least
    double* heights_;
    std::int32_t* chain_;
    std::int32_t* alive_;   // the clusters that still are, rising
    std::int32_t* names_;   // the first number of each row's cluster, before rows moved together
    std::int32_t* places_;  // where rows move
    int alive_count_ = 0;
    std::int32_t (*merges_)[2];
};

void ward_labels(const float* vectors, int n, int dim, int n_clusters, double* distances, double* room, std::int32_t* labels) {
    Ward ward(n, distances, room);
    const std::size_t width = ward_width(n);
    auto* packed = reinterpret_cast<float*>(room + 7 * width);
    ward.measure(vectors, dim, packed, packed + width * dim, packed + width * (dim + 1));
    ward.merge_all();
    ward.label(n_clusters, labels);
}

}  // namespace
}  // namespace colindex
