// See fetcher.h.
#include "fetcher.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "distinct.h"

namespace colindex::storage {
namespace {

constexpr size_t AT_ONCE = 32;   // blocks served between two looks at the lock
constexpr int64_t WAKE_FOR = 8;  // flights: waking a thread costs about what one takes

struct Copy {
    const uint8_t* from;
    uint8_t* to;
    int64_t length;
};

// The pieces lie scattered, and no hardware guesses where the next one begins: say so while one is copied.
void copy_all(const std::vector<Copy>& copies) {
    constexpr int64_t AHEAD = 1024, LINE = 64;
    for (size_t i = 0; i < copies.size(); ++i) {
        if (i + 1 < copies.size())
            for (int64_t at = 0; at < std::min(AHEAD, copies[i + 1].length); at += LINE)
                __builtin_prefetch(copies[i + 1].from + at);
        std::memcpy(copies[i].to, copies[i].from, static_cast<size_t>(copies[i].length));
    }
}

}  // namespace

void Counters::add(const Counters& other) {
    hits += other.hits;
    misses += other.misses;
    reads += other.reads;
    bytes_read += other.bytes_read;
    prefetched += other.prefetched;
    prefetch_hits += other.prefetch_hits;
    evictions += other.evictions;
}

Fetcher::Fetcher(std::string engine, BlockTable table, uint8_t* arena, std::vector<Segment> segments,
                 std::vector<File> files, int64_t frames, PrefetchRule rule)
    : table_(table),
      arena_(arena),
      segments_(std::move(segments)),
      files_(std::move(files)),
      staging_(std::move(engine), frames),
      rule_(rule),
      pending_(frames) {
    frame_of_.reserve(static_cast<size_t>(rule.limit));
}

std::optional<Failure> Fetcher::fetch(Ranges ranges, uint8_t* answer, Counters& counters) {
    Wanted wanted;
    std::unique_lock lock(mutex_);
    if (closed_) return Failure{Failure::Kind::closed, 0, 0, 0, 0, 0};
    ++fetches_;
    look_up(ranges, answer, wanted, counters);
    if (!wanted.items.empty()) {
        const Call call(*this, wanted.items, lock);
        claim(wanted, counters);
        count_reads(wanted, counters);
        if (auto failure = finish(wanted, answer, counters, lock)) return failure;
        total_.add(counters);
        return std::nullopt;
    }
    total_.add(counters);
    return std::nullopt;
}

// Step 1. Each distinct block is touched once, however many ranges share it.
void Fetcher::look_up(Ranges ranges, uint8_t* answer, Wanted& wanted, Counters& counters) {
    const int64_t touched = blocks_touched(ranges);
    Distinct seen(touched);
    std::vector<Copy> copies;
    copies.reserve(static_cast<size_t>(touched));
    int64_t rows = 0, to = 0;
    each_piece(ranges, [&](int64_t block, int64_t from, int64_t length) {
        bool fresh;
        const int32_t slot = table_.slot(block);
        int64_t& place = seen(block, static_cast<int64_t>(wanted.items.size()), fresh);
        rows += fresh;
        if (slot >= 0) {
            if (fresh) {
                table_.touch(slot);
                ++counters.hits;
            }
            copies.push_back({arena_ + slot * BLOCK_BYTES + from, answer + to, length});
        } else {
            if (fresh) wanted.items.push_back({block, rows - 1, NONE, NONE, file_of(block)});
            Item& item = wanted.items[static_cast<size_t>(place)];
            wanted.pieces.push_back({from, length, to, item.piece});
            item.piece = static_cast<int32_t>(wanted.pieces.size() - 1);
        }
        to += length;
    });
    copy_all(copies);
}

// Step 2, first half: what a prefetch has started is ours now.
void Fetcher::claim(Wanted& wanted, Counters& counters) {
    if (frame_of_.empty()) return;
    for (Item& item : wanted.items) {
        const auto found = frame_of_.find(item.block);
        if (found == frame_of_.end()) continue;
        item.frame = found->second;
        unlink(item.frame);
        ++counters.prefetch_hits;
    }
}

// Ranges as `plan_reads` makes them, whoever started them.
void Fetcher::count_reads(const Wanted& wanted, Counters& counters) const {
    counters.misses = static_cast<int64_t>(wanted.items.size());
    int64_t length = 0;
    const Item* before = nullptr;
    for (const Item& item : wanted.items) {
        const bool follows = before && item.block == before->block + 1 && item.row == before->row + 1 &&
                             item.file == before->file;
        length = follows && length < FLIGHT_BLOCKS ? length + 1 : 1;
        counters.reads += length == 1;
        counters.bytes_read += files_[item.file].bytes_of(item.block);
        before = &item;
    }
}

// Step 2, second half: start reads from item `next` on while there are frames.
void Fetcher::start_reads(Wanted& wanted, size_t& next) {
    auto& items = wanted.items;
    while (next < items.size()) {
        if (items[next].frame != NONE) {
            ++next;
            continue;
        }
        size_t end = next + 1;
        while (end < items.size() && end - next < FLIGHT_BLOCKS && items[end].frame == NONE &&
               items[end].block == items[end - 1].block + 1 && items[end].file == items[next].file)
            ++end;
        const Run run = staging_.take(static_cast<int64_t>(end - next));
        if (run.count == 0) break;
        for (int32_t i = 0; i < run.count; ++i) items[next + i].frame = run.first + i;
        staging_.start(run, files_[items[next].file], items[next].block, true);
        next += run.count;
    }
    staging_.push();
}

// Flights that items from `begin` on still wait for, as far as it matters.
int64_t Fetcher::flights_from(const std::vector<Item>& items, size_t begin) const {
    int64_t flights = 0;
    for (size_t i = begin; i < items.size() && items[i].frame != NONE && flights < WAKE_FOR; ++i)
        flights += !staging_.done(items[i].frame) && (i == begin || items[i].frame != items[i - 1].frame + 1);
    return std::max<int64_t>(1, flights);
}

// Step 3.
std::optional<Failure> Fetcher::finish(Wanted& wanted, uint8_t* answer, Counters& counters,
                                       std::unique_lock<std::mutex>& lock) {
    auto& items = wanted.items;
    std::optional<Failure> failure;
    size_t next = 0;
    for (size_t begin = 0; begin < items.size();) {
        start_reads(wanted, next);
        if (items[begin].frame == NONE) {  // no frame to be had
            alignas(BLOCK_BYTES) uint8_t bytes[BLOCK_BYTES];
            lock.unlock();
            failure = serve(wanted, items[begin], bytes, false, answer);
            lock.lock();
            if (failure) return failure;
            keep(items[begin], bytes, counters);
            next = std::max(next, ++begin);
            continue;
        }
        if (!staging_.done(items[begin].frame)) staging_.wait_for(items[begin].frame, flights_from(items, begin), lock);
        size_t end = begin + 1;
        while (end < items.size() && end - begin < AT_ONCE && items[end].frame != NONE && staging_.done(items[end].frame))
            ++end;
        lock.unlock();
        for (size_t i = begin; i < end && !failure; ++i)
            failure = serve(wanted, items[i], staging_.bytes(items[i].frame), staging_.whole(items[i].frame), answer);
        lock.lock();
        if (failure) return failure;
        for (size_t i = begin; i < end; ++i) {
            keep(items[i], staging_.bytes(items[i].frame), counters);
            staging_.release(std::exchange(items[i].frame, NONE));
        }
        begin = end;
    }
    return std::nullopt;
}

// Check one block that lies in `bytes`, reading it first if it is not there whole, and copy its pieces.
std::optional<Failure> Fetcher::serve(const Wanted& wanted, const Item& item, uint8_t* bytes, bool whole, uint8_t* answer) {
    if (!whole)
        if (auto failure = read_now(item, bytes)) return failure;
    const File& file = files_[item.file];
    const int64_t size = file.bytes_of(item.block);
    if (size < BLOCK_BYTES) std::memset(bytes + size, 0, static_cast<size_t>(BLOCK_BYTES - size));
    const uint32_t expected = checksum_of(item.block), got = checksum_of_block(bytes);
    if (got != expected)
        return Failure{Failure::Kind::wrong_checksum, item.file, file.offset_of(item.block), BLOCK_BYTES, expected, got};
    for (int32_t piece = item.piece; piece != NONE; piece = wanted.pieces[piece].next) {
        const Piece& one = wanted.pieces[piece];
        std::memcpy(answer + one.to, bytes + one.from, static_cast<size_t>(one.length));
    }
    return std::nullopt;
}

// Read one block and wait for it. Where a direct read is refused or cut short, this one asks the page cache: it takes any
// offset, and its errors are those of the file and not of alignment.
std::optional<Failure> Fetcher::read_now(const Item& item, uint8_t* bytes) {
    const File& file = files_[item.file];
    const int64_t offset = file.offset_of(item.block), wanted = file.bytes_of(item.block);
    int64_t done = 0;
    bool direct = file.direct;
    while (done < wanted) {
        const size_t length = static_cast<size_t>(direct ? BLOCK_BYTES : wanted - done);
        const ssize_t got = pread(file.descriptor, bytes + done, length, static_cast<off_t>(offset + done));
        if (got < 0 && errno == EINTR) continue;
        if (got >= 0 && done + got >= wanted) return std::nullopt;
#ifdef O_DIRECT
        if (direct) {
            fcntl(file.descriptor, F_SETFL, fcntl(file.descriptor, F_GETFL) & ~O_DIRECT);
            direct = false;
            continue;
        }
#endif
        if (got < 0) return Failure{Failure::Kind::refused, item.file, offset, wanted, errno, offset + done};
        if (got == 0) return Failure{Failure::Kind::ended_early, item.file, offset, wanted, 0, offset + done};
        done += got;
    }
    return std::nullopt;
}

// Another thread may have been faster.
void Fetcher::keep(const Item& item, const uint8_t* bytes, Counters& counters) {
    if (table_.slot(item.block) >= 0) return;
    const int32_t slot = table_.admit(item.block, counters.evictions);
    if (slot >= 0) std::memcpy(arena_ + slot * BLOCK_BYTES, bytes, BLOCK_BYTES);
}

void Fetcher::close() {
    std::unique_lock lock(mutex_);
    closed_ = true;
    idle_.wait(lock, [this] { return active_ == 0; });
    staging_.close(lock);
}

bool Fetcher::abandon() {
    const bool free = mutex_.try_lock();
    staging_.abandon();
    return !free;
}

Counters Fetcher::counters() {
    const std::lock_guard lock(mutex_);
    return total_;
}

int64_t Fetcher::pending() {
    const std::lock_guard lock(mutex_);
    return static_cast<int64_t>(frame_of_.size());
}

std::string Fetcher::engine_name() {
    const std::lock_guard lock(mutex_);
    return staging_.engine_name();
}

int32_t Fetcher::file_of(int64_t block) const {
    const auto above = std::upper_bound(files_.begin(), files_.end(), block,
                                        [](int64_t one, const File& file) { return one < file.first_block; });
    return static_cast<int32_t>(above - files_.begin()) - 1;
}

uint32_t Fetcher::checksum_of(int64_t block) const {
    const auto above = std::upper_bound(segments_.begin(), segments_.end(), block,
                                        [](int64_t one, const Segment& segment) { return one < segment.first_block; });
    const Segment& segment = *(above - 1);
    return segment.checksums[block - segment.first_block];
}

}  // namespace colindex::storage
