// The n best of a stream of scored ids: highest score first, ties by lower id.
//
// 1. Collect what lies above the threshold, in a buffer of a few times n.
// 2. When the buffer is full, keep the n best, and raise the threshold to the last of them. The last is found by halving the
//    range of scores, counting each time how many lie above: no branch depends on the scores.
// 3. Sort what is left by merging runs, again without such branches.
// Ids must come in rising order: then one that equals the threshold comes too late.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

namespace colindex {

class Best {
  public:
    struct Scored {
        float score;
        std::uint32_t id;
    };

    explicit Best(std::size_t n) : n_(n), keys_(4 * n + 64), ids_(4 * n + 64) {}

    float threshold() const { return threshold_; }

    std::size_t size() const { return count_; }

    // The score is no NaN.
    void add(float score, std::uint32_t id) {
        keys_[count_] = key_of(score);
        ids_[count_++] = id;
        if (count_ == keys_.size()) shrink();
    }

    // The lowest score of the n best, or of as many as came, at least one.
    float last() {
        if (count_ > n_) shrink();
        return score_of(*std::min_element(keys_.begin(), keys_.begin() + static_cast<std::ptrdiff_t>(count_)));
    }

    // The n best, or as many as came, in falling order.
    std::vector<Scored> sorted() {
        if (count_ > n_) shrink();
        std::vector<std::uint64_t> pairs(count_), room(count_);
        for (std::size_t at = 0; at < count_; ++at)
            pairs[at] = static_cast<std::uint64_t>(keys_[at]) << 32 | (std::numeric_limits<std::uint32_t>::max() - ids_[at]);
        for (std::size_t run = 1; run < count_; run *= 2) {
            merge_runs(pairs.data(), run, room.data());
            pairs.swap(room);
        }
        std::vector<Scored> best(count_);
        for (std::size_t at = 0; at < count_; ++at)
            best[at] = {score_of(static_cast<std::uint32_t>(pairs[at] >> 32)), std::numeric_limits<std::uint32_t>::max() - static_cast<std::uint32_t>(pairs[at])};
        return best;
    }

  private:
    static constexpr std::uint32_t kSign = 1u << 31;

    // Whole numbers in the order of scores; zero has one number only.
    static std::uint32_t key_of(float score) {
        std::uint32_t bits;
        const float plain = score + 0.0f;
        std::memcpy(&bits, &plain, sizeof bits);
        return bits ^ (bits & kSign ? ~0u : kSign);
    }

    static float score_of(std::uint32_t key) {
        const std::uint32_t bits = key ^ (key & kSign ? kSign : ~0u);
        float score;
        std::memcpy(&score, &bits, sizeof score);
        return score;
    }

    std::size_t at_least(std::uint32_t key) const {
        std::uint32_t found = 0;
        const auto sided = static_cast<std::int32_t>(key ^ kSign);  // signed: what every machine compares side by side
        for (std::size_t at = 0; at < count_; ++at) found += static_cast<std::int32_t>(keys_[at] ^ kSign) >= sided;
        return found;
    }

    void shrink() {
        const auto [least, most] = std::minmax_element(keys_.begin(), keys_.begin() + static_cast<std::ptrdiff_t>(count_));
        std::uint32_t low = *least, high = *most;  // the n-th best key lies in [low, high]
        std::size_t reached = count_;              // keys of at least `low`
        while (low < high && reached != n_) {
            const std::uint32_t middle = low + (high - low) / 2 + 1;
            const std::size_t above = at_least(middle);
            if (above >= n_) {
                low = middle;
                reached = above;
            } else {
                high = middle - 1;
            }
        }
        keep(low, reached - n_);
    }

    // Those of at least `low`, but for the last `spare` of those that equal it.
    void keep(std::uint32_t low, std::size_t spare) {
        std::size_t ties = 0, kept = 0;
        for (std::size_t at = 0; at < count_; ++at) ties += keys_[at] == low;
        std::uint32_t last = std::numeric_limits<std::uint32_t>::max();
        for (std::size_t at = 0, tie = 0; at < count_; ++at) {
            const std::uint32_t key = keys_[at], id = ids_[at];
            tie += key == low;
            keys_[kept] = key;
            ids_[kept] = id;
            const bool stays = key > low || (key == low && tie + spare <= ties);
            last = stays && key < last ? key : last;
            kept += stays;
        }
        threshold_ = score_of(last);
        count_ = kept;
    }

    // Runs of so many falling numbers into runs of twice as many.
    void merge_runs(const std::uint64_t* from, std::size_t run, std::uint64_t* to) const {
        for (std::size_t first = 0; first < count_; first += 2 * run) {
            const std::size_t middle = std::min(first + run, count_), end = std::min(first + 2 * run, count_);
            std::size_t a = first, b = middle, out = first;
            while (a < middle && b < end) {
                const std::uint64_t left = from[a], right = from[b];
                const bool takes_left = left > right;
                to[out++] = takes_left ? left : right;
                a += takes_left;
                b += !takes_left;
            }
            out = static_cast<std::size_t>(std::copy(from + a, from + middle, to + out) - to);
            std::copy(from + b, from + end, to + out);
        }
    }

    std::size_t n_, count_ = 0;
    float threshold_ = -std::numeric_limits<float>::infinity();
    std::vector<std::uint32_t> keys_, ids_;  // the first `count_` of buffers of fixed size
};

}  // namespace colindex
