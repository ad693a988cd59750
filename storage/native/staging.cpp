// See staging.h.
#include "staging.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>

#include <algorithm>
#include <new>

namespace colindex::storage {
namespace {

constexpr size_t HUGE_PAGE = 2 << 20;
constexpr size_t FIRST_BATCH = 8;  // the disk begins with these while the rest is prepared
constexpr size_t BATCH = 32;

}  // namespace

Staging::Staging(std::string engine, int64_t frames)
    : kind_(std::move(engine)), frames_(frames), flights_(frames), free_count_(frames) {}

Staging::~Staging() { discard(); }

void Staging::discard() {
    engine_.reset();
    if (mapping_) munmap(mapping_, mapping_bytes_);
    mapping_ = nullptr;
}

// On first use: an index that is opened and never read costs nothing.
void Staging::allocate() {
    const size_t bytes = frames_.size() * BLOCK_BYTES;
    mapping_bytes_ = bytes + HUGE_PAGE;  // address space, not memory: only [memory_, memory_ + bytes) is ever touched
    mapping_ = mmap(nullptr, mapping_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapping_ == MAP_FAILED) {
        mapping_ = nullptr;
        throw std::bad_alloc();
    }
    const auto address = reinterpret_cast<uintptr_t>(mapping_);
    memory_ = reinterpret_cast<uint8_t*>((address + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE);
#ifdef MADV_DONTFORK
    madvise(mapping_, mapping_bytes_, MADV_DONTFORK);
#endif
#ifdef MADV_HUGEPAGE
    madvise(memory_, bytes / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE);
#endif
}

Run Staging::take(int64_t count) {
    if (!memory_) allocate();
    const int64_t size = this->size();
    if (free_count_ == 0) return {NONE, 0};
    Run best{NONE, 0};
    for (int64_t seen = 0, at = cursor_ % size; seen < size && best.count < count;) {
        int64_t end = at;
        while (end < size && end - at < count && !frames_[end].taken) ++end;
        if (end - at > best.count) best = {static_cast<int32_t>(at), static_cast<int32_t>(end - at)};
        const int64_t past = std::min(end + 1, size);
        seen += past - at;
        at = past % size;
    }
    for (int32_t i = 0; i < best.count; ++i) frames_[best.first + i] = {true, true, false, false};
    free_count_ -= best.count;
    cursor_ = best.first + best.count;
    return best;
}

void Staging::start(Run run, const File& file, int64_t block, bool urgent) {
    flights_[run.first] = {&file, block, run.count};
    (urgent ? urgent_ : later_).push_back(run.first);
}

void Staging::push() {
    if (!engine_tried_) {
        engine_tried_ = true;
        engine_ = make_engine(kind_, IN_FLIGHT, memory_, size() * BLOCK_BYTES);
    }
    size_t batch = in_flight_ == 0 ? FIRST_BATCH : BATCH;
    while (in_flight_ + static_cast<int64_t>(batch_.size()) < IN_FLIGHT && !(urgent_.empty() && later_.empty())) {
        std::deque<int32_t>& queue = urgent_.empty() ? later_ : urgent_;
        const int32_t first = queue.front();
        queue.pop_front();
        const Flight& flight = flights_[first];
        if (!engine_ || !any_wanted(first)) {
            complete({static_cast<uint32_t>(first), -ENOSYS});
            continue;
        }
        batch_.push_back({flight.file->descriptor, flight.file->offset_of(flight.block), flight.count * BLOCK_BYTES,
                          bytes(first), static_cast<uint32_t>(first)});
        if (batch_.size() == batch) {
            submit();
            batch = BATCH;
        }
    }
    submit();
}

void Staging::submit() {
    if (batch_.empty()) return;
    std::vector<Completion> refused;
    engine_->submit(batch_, refused);
    in_flight_ += static_cast<int64_t>(batch_.size() - refused.size());
    batch_.clear();
    for (const Completion& completion : refused) complete(completion);
    if (!refused.empty()) changed_.notify_all();
}

bool Staging::any_wanted(int32_t first) const {
    for (int32_t i = 0; i < flights_[first].count; ++i)
        if (frames_[first + i].wanted) return true;
    return false;
}

void Staging::complete(const Completion& completion) {
    const auto first = static_cast<int32_t>(completion.number);
    const Flight flight = flights_[first];
    for (int32_t i = 0; i < flight.count; ++i) {
        Frame& frame = frames_[first + i];
        frame.done = true;
        frame.whole = completion.result >= i * BLOCK_BYTES + flight.file->bytes_of(flight.block + i);
        if (!frame.wanted) {
            --unwanted_;
            free(first + i);
        }
    }
#ifdef POSIX_FADV_DONTNEED
    if (!flight.file->direct && completion.result > 0)  // the cache is ours: the page cache must not hold the index twice
        posix_fadvise(flight.file->descriptor, flight.file->offset_of(flight.block), flight.count * BLOCK_BYTES,
                      POSIX_FADV_DONTNEED);
#endif
}

void Staging::free(int32_t frame) {
    frames_[frame].taken = false;
    ++free_count_;
}

void Staging::release(int32_t frame) {
    if (frames_[frame].done) {
        free(frame);
    } else {
        frames_[frame].wanted = false;
        ++unwanted_;
    }
}

void Staging::reap() {
    if (someone_waits_ || !engine_) return;
    told_.clear();
    engine_->reap(told_);
    in_flight_ -= static_cast<int64_t>(told_.size());
    for (const Completion& completion : told_) complete(completion);
}

void Staging::wait_for(int32_t frame, int64_t flights, std::unique_lock<std::mutex>& lock) {
    while (!frames_[frame].done) {
        reap();
        push();
        if (!frames_[frame].done) wait_once(flights, lock);
    }
}

bool Staging::wait_for_unwanted(std::unique_lock<std::mutex>& lock) {
    const int64_t before = unwanted_;
    if (before == 0) return false;
    while (unwanted_ >= before) {
        reap();
        push();
        if (unwanted_ >= before) wait_once(1, lock);
    }
    return true;
}

// One thread waits for the engine and reaps; the others wait for that thread.
void Staging::wait_once(int64_t flights, std::unique_lock<std::mutex>& lock) {
    if (someone_waits_) {
        changed_.wait(lock);
        return;
    }
    if (in_flight_ == 0) return;
    someone_waits_ = true;
    const int64_t count = std::min(flights, in_flight_);
    lock.unlock();
    engine_->wait(count);
    lock.lock();
    someone_waits_ = false;
    reap();
    push();
    changed_.notify_all();
}

void Staging::close(std::unique_lock<std::mutex>& lock) {
    urgent_.clear();
    later_.clear();
    while (in_flight_ > 0) {
        reap();
        if (in_flight_ > 0) wait_once(1, lock);
    }
    discard();
}

void Staging::abandon() {
    if (engine_) engine_->abandon();
}

}  // namespace colindex::storage
