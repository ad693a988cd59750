// The n best of a stream of scored ids: highest score first, ties by lower id.
//
// 1. Collect what lies above the threshold, in a buffer of a few times n.
// 2. When the buffer is full, or the caller asks for it, keep the n best, and raise the threshold to the last of them. The last is found by halving the
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

struct Scored {
    float score;
    std::uint32_t id;
};

// Whole numbers in the order of scores; zero has one number only.
inline std::uint32_t key_of(float score) {
    std::uint32_t bits;
    const float plain = score + 0.0f;
    std::memcpy(&bits, &plain, sizeof bits);
    return bits ^ (bits >> 31 ? ~0u : 1u << 31);
}

inline float score_of(std::uint32_t key) {
    const std::uint32_t bits = key ^ (key >> 31 ? 1u << 31 : ~0u);
    float score;
    std::memcpy(&score, &bits, sizeof score);
    return score;
}

// Score and id in one number: a higher score, then a lower id, is a higher number.
inline std::uint64_t pair_of(float score, std::uint32_t id) { return static_cast<std::uint64_t>(key_of(score)) << 32 | (~0u - id); }

inline Scored scored_of(std::uint64_t pair) {
    return {score_of(static_cast<std::uint32_t>(pair >> 32)), ~0u - static_cast<std::uint32_t>(pair)};
}

// Runs of so many falling numbers into runs of twice as many.
inline void merge_runs(const std::vector<std::uint64_t>& from, std::size_t run, std::vector<std::uint64_t>& to) {
    for (std::size_t first = 0; first < from.size(); first += 2 * run) {
        const std::size_t middle = std::min(first + run, from.size()), end = std::min(first + 2 * run, from.size());
        std::size_t a = first, b = middle, out = first;
        while (a < middle && b < end) {
            const std::uint64_t left = from[a], right = from[b];
            const bool takes_left = left > right;
            to[out++] = takes_left ? left : right;
            a += takes_left;
            b += !takes_left;
        }
        const auto next = std::copy(from.data() + a, from.data() + middle, to.data() + out);
        std::copy(from.data() + b, from.data() + end, next);
    }
}

inline void sort_falling(std::vector<std::uint64_t>& numbers, std::vector<std::uint64_t>& room) {
    room.resize(numbers.size());
    for (std::size_t run = 1; run < numbers.size(); run *= 2) {
        merge_runs(numbers, run, room);
        numbers.swap(room);
    }
}

class Best {
  public:
    explicit Best(std::size_t n) : n_(n), full_(4 * n + 64), scores_(full_), ids_(full_), keys_(full_) {}

    float threshold() const { return threshold_; }

    std::size_t size() const { return count_; }

    // The score is no NaN.
    void add(float score, std::uint32_t id) {
        scores_[count_] = score;
        ids_[count_++] = id;
        if (count_ >= full_) shrink();
    }

    // Raises the threshold to the n-th of those that came, if as many did.
    void settle() {
        if (count_ > n_) shrink();
    }

    // The n best, or as many as came, in falling order.
    std::vector<Scored> sorted() {
        settle();
        std::vector<std::uint64_t> pairs(count_), room;
        for (std::size_t at = 0; at < count_; ++at) pairs[at] = pair_of(scores_[at], ids_[at]);
        sort_falling(pairs, room);
        std::vector<Scored> best(count_);
        for (std::size_t at = 0; at < count_; ++at) best[at] = scored_of(pairs[at]);
        return best;
    }

  private:
    static constexpr std::uint32_t kSign = 1u << 31, kMost = ~0u;

    std::size_t at_least(std::uint32_t key) const {
        std::uint32_t found = 0;
        const auto sided = static_cast<std::int32_t>(key ^ kSign);  // signed: what every machine compares side by side
        for (std::size_t at = 0; at < count_; ++at) found += static_cast<std::int32_t>(keys_[at] ^ kSign) >= sided;
        return found;
    }

    void shrink() {
        for (std::size_t at = 0; at < count_; ++at) keys_[at] = key_of(scores_[at]);
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
        std::uint32_t last = kMost;
        for (std::size_t at = 0, tie = 0; at < count_; ++at) {
            const std::uint32_t key = keys_[at];
            tie += key == low;
            scores_[kept] = scores_[at];
            ids_[kept] = ids_[at];
            const bool stays = key > low || (key == low && tie + spare <= ties);
            last = stays && key < last ? key : last;
            kept += stays;
        }
        threshold_ = score_of(last);
        count_ = kept;
    }

    std::size_t n_, full_, count_ = 0;
    float threshold_ = -std::numeric_limits<float>::infinity();
    std::vector<float> scores_;
    std::vector<std::uint32_t> ids_, keys_;  // the first `count_` of buffers of fixed size
};

}  // namespace colindex
