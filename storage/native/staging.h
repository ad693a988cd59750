// Where do reads land, and which of them are under way? In frames of one block each, a fixed number, in one piece of memory.
//
// A frame is free, or taken by a *flight*: one read of up to 32 neighbouring blocks into neighbouring frames.
// 1. Take neighbouring frames and start a flight: it queues, the urgent before the others, until fewer than `IN_FLIGHT`
//    are under way, and then goes to the engine in a batch.
// 2. When it is done each of its frames is, `whole` if its block arrived. What did not arrive is for the owner to read again
//    by itself: that read's error is the one to tell.
// 3. Release a frame when its bytes were used, or are no longer wanted. The kernel writes into a frame until its flight is
//    done, so an unwanted one is free only then.
//
// Everything is called under the owner's lock, except for the bytes of frames that the owner has taken. `wait_for` gives the
// lock back while it waits. Memory is page-aligned (O_DIRECT), on huge pages where there are any (one segment a read
// instead of one a page), and not inherited by forked children (the kernel writes into the parent's).
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "checksum.h"
#include "engine.h"

namespace colindex::storage {

constexpr int64_t FLIGHT_BLOCKS = 32;
constexpr int64_t IN_FLIGHT = 192;
constexpr int32_t NONE = -1;

struct File {
    int descriptor;
    int64_t first_block;  // of the address space
    int64_t data_bytes;   // from byte 0; what follows is never served
    bool direct;          // opened with O_DIRECT

    int64_t offset_of(int64_t block) const { return (block - first_block) * BLOCK_BYTES; }
    int64_t bytes_of(int64_t block) const {
        const int64_t left = data_bytes - offset_of(block);
        return left < BLOCK_BYTES ? left : BLOCK_BYTES;
    }
};

struct Run {
    int32_t first;
    int32_t count;
};

class Staging {
public:
    Staging(std::string engine, int64_t frames);
    ~Staging();
    Staging(const Staging&) = delete;
    Staging& operator=(const Staging&) = delete;

    // Up to `count` free frames that neighbour each other: as many as there are in one place, none if none is free.
    Run take(int64_t count);

    // Start reading blocks [block, block + run.count) of a file into taken frames.
    void start(Run run, const File& file, int64_t block, bool urgent);

    // Hand what is queued to the engine. Call after starting: batches are cheaper than single reads.
    void push();

    void release(int32_t frame);

    // Wait until this frame is done. The owner wants at least `flights` more, this one among them: it need not be woken for each.
    void wait_for(int32_t frame, int64_t flights, std::unique_lock<std::mutex>& lock);

    // Wait until fewer unwanted frames are under way, if any are; false if none is.
    bool wait_for_unwanted(std::unique_lock<std::mutex>& lock);

    bool done(int32_t frame) const { return frames_[frame].done; }
    bool whole(int32_t frame) const { return frames_[frame].whole; }
    uint8_t* bytes(int32_t frame) { return memory_ + frame * BLOCK_BYTES; }
    int64_t size() const { return static_cast<int64_t>(frames_.size()); }

    // Take note of what is done, without waiting.
    void reap();

    // Wait for the flights under way, forget the others, and give the memory back.
    void close(std::unique_lock<std::mutex>& lock);

    void abandon();
    std::string engine_name() const { return engine_ ? engine_->name() : "none yet"; }

private:
    struct Frame {
        bool taken = false, wanted = false, done = false, whole = false;
    };
    struct Flight {  // at the place of its first frame
        const File* file;
        int64_t block;
        int32_t count;
    };

    void allocate();
    void discard();
    void free(int32_t frame);
    void complete(const Completion& completion);
    bool any_wanted(int32_t first) const;
    void submit();
    void wait_once(int64_t flights, std::unique_lock<std::mutex>& lock);

    std::string kind_;
    std::vector<Frame> frames_;
    std::vector<Flight> flights_;
    int64_t free_count_;
    int64_t cursor_ = 0;
    int64_t unwanted_ = 0;
    uint8_t* memory_ = nullptr;
    void* mapping_ = nullptr;
    size_t mapping_bytes_ = 0;
    std::unique_ptr<Engine> engine_;
    bool engine_tried_ = false;
    std::deque<int32_t> urgent_, later_;  // first frames of flights that wait for the engine
    int64_t in_flight_ = 0;
    bool someone_waits_ = false;
    std::condition_variable changed_;
    std::vector<Request> batch_;
    std::vector<Completion> told_;
};

}  // namespace colindex::storage
