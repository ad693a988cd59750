// Speculative reads, see fetcher.h.
//
// 1. List the blocks that are neither held nor prefetched; while room is short let go of what went stale, oldest first.
// 2. Start their reads, and link each block to its frame, youngest last.
// 3. A fetch unlinks what it claims (fetcher.cpp); forgetting unlinks and releases.
#include <algorithm>

#include "distinct.h"
#include "fetcher.h"

namespace colindex::storage {

int64_t Fetcher::prefetch(Ranges ranges) {
    std::unique_lock lock(mutex_);
    if (closed_) return -1;
    std::vector<Item> none;
    const Call call(*this, none, lock);
    int64_t started = 0;
    do {
        staging_.reap();
        const std::vector<int64_t> missing = to_prefetch(ranges);
        const size_t begun = start_prefetch(missing);
        started += static_cast<int64_t>(begun);
        if (begun == missing.size()) break;
    } while (staging_.wait_for_unwanted(lock));  // else fetches of other threads hold the frames
    total_.prefetched += started;
    return started;
}

bool Fetcher::needs_no_prefetch(Ranges ranges) {
    const std::unique_lock lock(mutex_, std::try_to_lock);
    if (!lock || closed_) return false;
    bool missing = false;
    each_piece(ranges, [&](int64_t block, int64_t, int64_t) { missing |= is_missing(block); });
    return !missing;
}

bool Fetcher::is_missing(int64_t block) const { return table_.slot(block) < 0 && !frame_of_.count(block); }

// The blocks neither held nor prefetched, as many as there is room for when what went stale has made room.
std::vector<int64_t> Fetcher::to_prefetch(Ranges ranges) {
    std::vector<int64_t> missing;
    Distinct seen(blocks_touched(ranges));
    each_piece(ranges, [&](int64_t block, int64_t, int64_t) {
        if (!is_missing(block)) return;
        bool fresh;
        seen(block, 0, fresh);
        if (fresh) missing.push_back(block);
    });
    const auto room = [this] { return std::max<int64_t>(0, rule_.limit - static_cast<int64_t>(frame_of_.size())); };
    const auto wanted = static_cast<int64_t>(missing.size());
    while (room() < wanted && oldest_ != NONE && fetches_ - pending_[oldest_].fetches > rule_.stale_fetches) drop(oldest_);
    missing.resize(static_cast<size_t>(std::min(room(), wanted)));
    return missing;
}

// Start reads of these blocks while there are frames; how many blocks.
size_t Fetcher::start_prefetch(const std::vector<int64_t>& missing) {
    size_t next = 0;
    while (next < missing.size()) {
        const int32_t file = file_of(missing[next]);
        size_t end = next + 1;
        while (end < missing.size() && end - next < FLIGHT_BLOCKS && missing[end] == missing[end - 1] + 1 &&
               file_of(missing[end]) == file)
            ++end;
        const Run run = staging_.take(static_cast<int64_t>(end - next));
        if (run.count == 0) break;
        for (int32_t i = 0; i < run.count; ++i) link(run.first + i, missing[next + i]);
        staging_.start(run, files_[file], missing[next], false);
        next += run.count;
    }
    staging_.push();
    return next;
}

void Fetcher::forget(Ranges ranges) {
    const std::lock_guard lock(mutex_);
    if (closed_) return;
    each_piece(ranges, [&](int64_t block, int64_t, int64_t) {
        const auto found = frame_of_.find(block);
        if (found != frame_of_.end()) drop(found->second);
    });
}

void Fetcher::link(int32_t frame, int64_t block) {
    pending_[frame] = {block, fetches_, newest_, NONE};
    (newest_ == NONE ? oldest_ : pending_[newest_].newer) = frame;
    newest_ = frame;
    frame_of_.emplace(block, frame);
}

void Fetcher::unlink(int32_t frame) {
    const Pending& one = pending_[frame];
    (one.older == NONE ? oldest_ : pending_[one.older].newer) = one.newer;
    (one.newer == NONE ? newest_ : pending_[one.newer].older) = one.older;
    frame_of_.erase(one.block);
}

void Fetcher::drop(int32_t frame) {
    unlink(frame);
    staging_.release(frame);
}

}  // namespace colindex::storage
