// See rounds.h.
#include "rounds.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>
#include <utility>

#include "best.h"

namespace colindex {
namespace {

constexpr std::size_t kPause = 4096;  // documents between two pauses

// Seconds since it was asked last.
class Lap {
  public:
    double seconds() {
        const auto now = std::chrono::steady_clock::now();
        const std::chrono::duration<double> spent = now - last_;
        last_ = now;
        return spent.count();
    }

  private:
    std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

// How far scores lay above their estimates so far. Not of documents without vectors, nor of those that no probe met.
class Gaps {
  public:
    void add(const float* scores, const float* estimates, std::size_t count) {
        for (std::size_t at = 0; at < count; ++at) {
            const double gap = static_cast<double>(scores[at]) - static_cast<double>(estimates[at]);
            if (!std::isfinite(gap)) continue;
            ++count_;
            total_ += gap;
            squares_ += gap * gap;
        }
    }

    bool none() const { return count_ == 0; }

    // Their mean, and so many standard deviations more.
    double reach(double deviations) const {
        const double count = static_cast<double>(count_), mean = total_ / count;
        return mean + deviations * std::sqrt(std::max(squares_ / count - mean * mean, 0.0));
    }

  private:
    std::size_t count_ = 0;
    double total_ = 0, squares_ = 0;
};

// The k best so far.
class TopK {
  public:
    explicit TopK(std::size_t k) : k_(k) {}

    void add(const std::int64_t* documents, const float* scores, std::size_t count) {
        const auto old = static_cast<std::ptrdiff_t>(best_.size());
        for (std::size_t at = 0; at < count; ++at) best_.push_back({documents[at], scores[at]});
        std::sort(best_.begin() + old, best_.end(), comes_first);
        std::inplace_merge(best_.begin(), best_.begin() + old, best_.end(), comes_first);
        if (best_.size() > k_) best_.resize(k_);
    }

    bool full() const { return best_.size() == k_; }
    float last() const { return best_.back().score; }
    std::vector<Answer> taken() { return std::move(best_); }

  private:
    static bool comes_first(const Answer& one, const Answer& other) {
        const std::uint32_t of_one = key_of(one.score), of_other = key_of(other.score);  // an order of all that a float can hold
        return of_one != of_other ? of_one > of_other : one.document < other.document;
    }

    std::size_t k_;
    std::vector<Answer> best_;
};

// The records of a round; memory stays from one to the next.
class Content {
  public:
    explicit Content(std::size_t record_bytes) : record_bytes_(static_cast<std::int64_t>(record_bytes)) {}

    bool fetch(const Candidates& from, std::size_t begin, std::size_t stop, const storage::Reader& reader, Refined& refined) {
        offsets_.assign(1, 0);
        for (std::size_t at = begin; at < stop; ++at) offsets_.push_back(offsets_.back() + (from.ends[at] - from.starts[at]) / record_bytes_);
        const auto wanted = static_cast<std::size_t>(offsets_.back() * record_bytes_);
        if (wanted > room_) {
            bytes_.reset();  // before there is more: never both
            bytes_.reset(new std::uint8_t[wanted]);
            room_ = wanted;
        }
        return reader.fetch(reader.of, from.starts + begin, from.ends + begin, static_cast<std::int64_t>(stop - begin), bytes_.get(),
                            refined.counted, refined.told);
    }

    const std::uint8_t* records() const { return bytes_.get(); }
    const std::int64_t* offsets() const { return offsets_.data(); }

  private:
    std::int64_t record_bytes_;
    std::vector<std::int64_t> offsets_;
    std::unique_ptr<std::uint8_t[]> bytes_;
    std::size_t room_ = 0;
};

// How many of the candidates from `begin` on would plausibly reach the k best.
std::size_t plausible(const Candidates& candidates, std::size_t begin, const TopK& best, const Gaps& gaps, double margin) {
    const float *first = candidates.estimates + begin, *end = candidates.estimates + candidates.count;
    const auto left = static_cast<std::size_t>(end - first);
    if (!left) return 0;
    const bool can_judge = best.full() && !gaps.none() && std::isfinite(margin) && std::isfinite(*first) && std::isfinite(*(end - 1));
    if (!can_judge) return left;  // there is room, or nothing to judge by
    const double least = static_cast<double>(best.last()) - gaps.reach(margin);
    return static_cast<std::size_t>(std::count_if(first, end, [least](float estimate) { return static_cast<double>(estimate) >= least; }));
}

}  // namespace

Refined refine_rounds(const Candidates& candidates, const Rule& rule, const storage::Reader& reader, std::size_t record_bytes,
                      const Score& score, const std::function<void()>& pause) {
    const std::size_t count = candidates.count;
    Refined refined;
    Lap lap;
    Gaps gaps;
    TopK best(rule.k);
    Content content(record_bytes);
    std::vector<float> scores(std::min(std::max({rule.first, rule.k, rule.most}), count));
    std::size_t begin = 0, stop = std::min(std::max(rule.first, rule.k), count), announced = std::min(rule.first + rule.ahead, count);
    for (std::size_t next_pause = kPause; begin < stop;) {
        refined.failed = !content.fetch(candidates, begin, stop, reader, refined);
        if (refined.failed) return refined;
        refined.fetching += lap.seconds();
        refined.whole = score(content.records(), content.offsets(), stop - begin, scores.data());
        if (!refined.whole) return refined;
        best.add(candidates.documents + begin, scores.data(), stop - begin);
        gaps.add(scores.data(), candidates.estimates + begin, stop - begin);
        refined.refined = begin = stop;
        const std::size_t next = plausible(candidates, begin, best, gaps, rule.margin);
        stop = begin + std::min(next, rule.most);
        announced = std::max(announced, begin + std::min(next, rule.most + rule.ahead));
        if (begin < stop)  // what a closed store says here, its next fetch says as well
            refined.announced += std::max<std::int64_t>(
                0, reader.prefetch(reader.of, candidates.starts + begin, candidates.ends + begin, static_cast<std::int64_t>(announced - begin)));
        refined.scoring += lap.seconds();
        if (begin >= next_pause) {
            pause();
            next_pause = begin + kPause;
        }
    }
    if ((rule.announced || refined.announced) && announced > begin)
        reader.forget(reader.of, candidates.starts + begin, candidates.ends + begin, static_cast<std::int64_t>(announced - begin));
    refined.best = best.taken();
    return refined;
}

}  // namespace colindex
