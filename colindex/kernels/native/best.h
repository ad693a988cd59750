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
    static constexpr std::size_t kSlack = 16;

    struct Scored {
        float score;
        std::uint32_t id;
    };

    // `together`: how many ids come at most between two calls of `settle`.
    explicit Best(std::size_t n, std::size_t together = 1)
        : n_(n), full_(4 * n + 64), scores_(full_ + together + kSlack), ids_(scores_.size()), keys_(scores_.size()) {}

    float threshold() const { return threshold_; }

    std::size_t size() const { return count_; }

    // The score is no NaN.
    void add(float score, std::uint32_t id) {
        scores_[count_] = score;
        ids_[count_++] = id;
        settle();
    }

    // Where whoever writes several at once puts them, and room for kSlack more; `arrived` says how many came.
    float* scores_end() { return scores_.data() + count_; }
    std::uint32_t* ids_end() { return ids_.data() + count_; }
    void arrived(std::size_t count) {
        count_ += count;
        settle();
    }

    // The n best, or as many as came, in falling order.
    std::vector<Scored> sorted() {
        if (count_ > n_) shrink();
        std::vector<std::uint64_t> pairs(count_), room(count_);
        for (std::size_t at = 0; at < count_; ++at)
            pairs[at] = static_cast<std::uint64_t>(key_of(scores_[at])) << 32 | (kMost - ids_[at]);
        for (std::size_t run = 1; run < count_; run *= 2) {
            merge_runs(pairs.data(), run, room.data());
            pairs.swap(room);
        }
        std::vector<Scored> best(count_);
        for (std::size_t at = 0; at < count_; ++at)
            best[at] = {score_of(static_cast<std::uint32_t>(pairs[at] >> 32)), kMost - static_cast<std::uint32_t>(pairs[at])};
        return best;
    }

  private:
    static constexpr std::uint32_t kSign = 1u << 31, kMost = ~0u;

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

    void settle() {
        if (count_ >= full_) shrink();
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

    std::size_t n_, full_, count_ = 0;
    float threshold_ = -std::numeric_limits<float>::infinity();
    std::vector<float> scores_;
    std::vector<std::uint32_t> ids_, keys_;  // the first `count_` of buffers of fixed size
};

}  // namespace colindex
