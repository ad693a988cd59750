// The store's native body: byte ranges in, their bytes out. The algorithm, and what is counted, is that of
// `PythonFetcher` (storage/python_fetcher.py); the tests hold both equal, to the state of the table.
//
// 1. **Look up** the blocks of the ranges in the table and copy the pieces held straight from the arena into the answer.
//    If nothing is missing that is all.
// 2. **Claim** the missing blocks that a prefetch has read or is reading; **start** the reads of the others, as many as
//    there are frames for, and more as frames come free.
// 3. In the order wanted, while the rest arrives: **wait** for some blocks, **check** their sums, **copy** their pieces,
//    **keep** them in the table and the arena, and release their frames. A block that did not arrive whole, or that found no
//    frame (other threads hold them all), is read here and now by `pread`, whose error is the one to tell.
//
// `prefetch` starts reads and returns. What it has read waits in its frames until it is fetched, forgotten, or stale: only
// blocks that were asked for enter the cache, so that speculation drives nothing out.
//
// One lock guards table, arena and staging. It is not held while waiting, checking, or copying what was read.
#pragma once

#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "block_table.h"
#include "ranges.h"
#include "staging.h"

namespace colindex::storage {

struct Counters {
    int64_t hits = 0, misses = 0, reads = 0, bytes_read = 0, prefetched = 0, prefetch_hits = 0, evictions = 0;

    void add(const Counters& other);
};

// Why a fetch failed.
struct Failure {
    enum class Kind : int { wrong_checksum, ended_early, refused, closed } kind;
    int64_t file;
    int64_t offset;    // of the block in its file
    int64_t length;    // bytes wanted there
    int64_t expected;  // checksum; errno if refused
    int64_t got;       // checksum; where the file ends; where the read failed
};

struct PrefetchRule {  // as in storage/block_space.py
    int64_t limit;
    int64_t stale_fetches;
};

class Fetcher {
public:
    struct Segment {
        int64_t first_block;
        const uint32_t* checksums;
    };

    Fetcher(std::string engine, BlockTable table, uint8_t* arena, std::vector<Segment> segments, std::vector<File> files,
            int64_t frames, PrefetchRule rule);

    // The bytes of the ranges, end to end, into `answer`.
    std::optional<Failure> fetch(Ranges ranges, uint8_t* answer, Counters& counters);

    // Start the reads of blocks that are neither held nor prefetched; their number, or -1 if the store is closed.
    int64_t prefetch(Ranges ranges);

    // Whether it is known, without waiting for anything, that there is nothing to start.
    bool needs_no_prefetch(Ranges ranges);

    // These prefetched blocks are not wanted after all.
    void forget(Ranges ranges);

    // Wait for fetches of other threads and for reads under way; everything later is refused.
    void close();

    // In a forked child: whether the state was being changed at the fork. The object is to be leaked.
    bool abandon();
    Counters counters_at_fork() const { return total_; }

    Counters counters();
    int64_t pending();
    std::string engine_name();

private:
    struct Item {  // a missing block
        int64_t block;
        int64_t row;  // place among the distinct blocks wanted
        int32_t frame;
        int32_t piece;  // first of its pieces, the others are linked
        int32_t file;
    };
    struct Piece {
        int64_t from, length, to;
        int32_t next;
    };
    struct Wanted {
        std::vector<Item> items;
        std::vector<Piece> pieces;
    };
    struct Pending {  // at the place of its frame; linked by age
        int64_t block, fetches;
        int32_t older, newer;
    };
    class Call;

    void look_up(Ranges ranges, uint8_t* answer, Wanted& wanted, Counters& counters);
    void claim(Wanted& wanted, Counters& counters);
    void count_reads(const Wanted& wanted, Counters& counters) const;
    void start_reads(Wanted& wanted, size_t& next);
    int64_t flights_from(const std::vector<Item>& items, size_t begin) const;
    std::optional<Failure> finish(Wanted& wanted, uint8_t* answer, Counters& counters, std::unique_lock<std::mutex>& lock);
    std::optional<Failure> serve(const Wanted& wanted, const Item& item, uint8_t* bytes, bool whole, uint8_t* answer);
    std::optional<Failure> read_now(const Item& item, uint8_t* bytes);
    bool is_missing(int64_t block) const;
    std::vector<int64_t> to_prefetch(Ranges ranges);
    size_t start_prefetch(const std::vector<int64_t>& missing);
    void keep(const Item& item, const uint8_t* bytes, Counters& counters);
    int32_t file_of(int64_t block) const;
    uint32_t checksum_of(int64_t block) const;
    void link(int32_t frame, int64_t block);
    void unlink(int32_t frame);
    void drop(int32_t frame);

    BlockTable table_;
    uint8_t* arena_;
    std::vector<Segment> segments_;
    std::vector<File> files_;
    Staging staging_;
    PrefetchRule rule_;
    std::unordered_map<int64_t, int32_t> frame_of_;  // of the pending blocks
    std::vector<Pending> pending_;                   // [frames]
    int32_t oldest_ = NONE, newest_ = NONE;
    int64_t fetches_ = 0;
    int64_t active_ = 0;
    bool closed_ = false;
    Counters total_;
    std::mutex mutex_;
    std::condition_variable idle_;
};

// While a call gives the lock away now and then: `close` waits for it, and its frames are given back whatever happens.
class Fetcher::Call {
public:
    Call(Fetcher& fetcher, std::vector<Item>& items, std::unique_lock<std::mutex>& lock)
        : fetcher_(fetcher), items_(items), lock_(lock) {
        ++fetcher_.active_;
    }
    ~Call() {
        if (!lock_.owns_lock()) lock_.lock();
        for (const Item& item : items_)
            if (item.frame != NONE) fetcher_.staging_.release(item.frame);
        if (--fetcher_.active_ == 0) fetcher_.idle_.notify_all();
    }
    Call(const Call&) = delete;
    Call& operator=(const Call&) = delete;

private:
    Fetcher& fetcher_;
    std::vector<Item>& items_;
    std::unique_lock<std::mutex>& lock_;
};

}  // namespace colindex::storage
