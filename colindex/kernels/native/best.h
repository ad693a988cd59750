// The n best of a stream of scored ids: highest score first, ties by lower id.
//
// 1. Collect what lies above the threshold, in a buffer of a few times n.
// 2. When the buffer is full, keep the n best, and raise the threshold to the last of them.
// Ids must come in rising order: then one that equals the threshold comes too late.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace colindex {

class Best {
  public:
    struct Scored {
        float score;
        std::uint32_t id;
    };

    explicit Best(std::size_t n) : n_(n), kept_(4 * n + 64) {}

    float threshold() const { return threshold_; }

    std::size_t size() const { return count_; }

    void add(float score, std::uint32_t id) {
        kept_[count_++] = {score, id};
        if (count_ == kept_.size()) shrink();
    }

    // The n best, or as many as came, in falling order.
    const std::vector<Scored>& sorted() {
        if (count_ > n_) shrink();
        kept_.resize(count_);
        std::sort(kept_.begin(), kept_.end(), better);
        return kept_;
    }

  private:
    static bool better(const Scored& a, const Scored& b) { return a.score > b.score || (a.score == b.score && a.id < b.id); }

    void shrink() {
        const auto last = kept_.begin() + static_cast<std::ptrdiff_t>(n_) - 1;
        std::nth_element(kept_.begin(), last, kept_.begin() + static_cast<std::ptrdiff_t>(count_), better);
        threshold_ = last->score;
        count_ = n_;
    }

    std::size_t n_, count_ = 0;
    float threshold_ = -std::numeric_limits<float>::infinity();
    std::vector<Scored> kept_;  // the first `count_` of a buffer of fixed size
};

}  // namespace colindex
