// Reads through io_uring, see engine.h. Needs Linux 5.6; with an older kernel or header, or where a sandbox forbids the
// calls, there is no ring and `make_ring` returns null.
//
// 1. Set up: two rings shared with the kernel, for submissions and completions, and the staging memory registered with it,
//    so that its pages need not be pinned for every read (where the limit of locked memory allows).
// 2. Submit: fill entries, publish the tail, enter the kernel once for the batch.
// 3. Reap: read completions from memory, without entering the kernel.
// 4. Wait: enter the kernel until some completions are there.
#include "engine.h"

#if defined(__linux__) && __has_include(<linux/io_uring.h>)
#include <linux/io_uring.h>
#endif

#if defined(IORING_FEAT_CUR_PERSONALITY)  // came with IORING_OP_READ, which is an enumerator and cannot be asked for

#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

namespace colindex::storage {
namespace {

constexpr uint32_t SUBMISSIONS = 256;

int enter(int ring, uint32_t submit, uint32_t complete, uint32_t flags) {
    const long result = syscall(__NR_io_uring_enter, ring, submit, complete, flags, nullptr, 0);
    return result < 0 ? -errno : static_cast<int>(result);
}

class Ring final : public Engine {
public:
    ~Ring() override {
        unmap();
        close(ring_);
    }

    static std::unique_ptr<Ring> open(int64_t in_flight, uint8_t* memory, int64_t bytes) {
        io_uring_params params{};
        params.flags = IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP;
        params.cq_entries = static_cast<uint32_t>(std::max<int64_t>(in_flight, 2 * SUBMISSIONS));
        const int descriptor = static_cast<int>(syscall(__NR_io_uring_setup, SUBMISSIONS, &params));
        if (descriptor < 0) return nullptr;
        std::unique_ptr<Ring> ring(new Ring(descriptor));
        constexpr uint32_t NEEDED = IORING_FEAT_SINGLE_MMAP | IORING_FEAT_NODROP | IORING_FEAT_CUR_PERSONALITY;
        if ((params.features & NEEDED) != NEEDED || params.cq_entries < in_flight || !ring->map(params)) return nullptr;
        const iovec all{memory, static_cast<size_t>(bytes)};
        ring->registered_ = syscall(__NR_io_uring_register, descriptor, IORING_REGISTER_BUFFERS, &all, 1) == 0;
        return ring;
    }

    void submit(const std::vector<Request>& batch, std::vector<Completion>& refused) override {
        for (const Request& request : batch) {
            if (queued_ == entries_count_) flush();
            if (queued_ == entries_count_) {  // the kernel takes nothing: the owner reads this one some other way
                refused.push_back({request.number, -EAGAIN});
                continue;
            }
            const uint32_t place = (tail_ + queued_++) & submission_mask_;
            io_uring_sqe& entry = entries_[place];
            std::memset(&entry, 0, sizeof entry);
            entry.opcode = registered_ ? IORING_OP_READ_FIXED : IORING_OP_READ;
            entry.fd = request.descriptor;
            entry.off = static_cast<uint64_t>(request.offset);
            entry.addr = reinterpret_cast<uint64_t>(request.target);
            entry.len = static_cast<uint32_t>(request.length);
            entry.user_data = request.number;
            submission_array_[place] = place;
        }
        flush();
        // Take back what the kernel would not take.
        for (; queued_ > 0; --queued_) refused.push_back({numbered(tail_ + queued_ - 1), -EAGAIN});
        __atomic_store_n(submission_tail_, tail_, __ATOMIC_RELEASE);
    }

    void reap(std::vector<Completion>& done) override {
        uint32_t head = *completion_head_;
        const uint32_t tail = __atomic_load_n(completion_tail_, __ATOMIC_ACQUIRE);
        for (; head != tail; ++head) {
            const io_uring_cqe& entry = completions_[head & completion_mask_];
            done.push_back({static_cast<uint32_t>(entry.user_data), entry.res});
        }
        __atomic_store_n(completion_head_, head, __ATOMIC_RELEASE);
    }

    void wait(int64_t count) override {
        enter(ring_, 0, static_cast<uint32_t>(count), IORING_ENTER_GETEVENTS);  // a signal ends it sooner, which is allowed
    }

    void abandon() override {
        close(ring_);
        ring_ = -1;
    }

    const char* name() const override { return "io_uring"; }

private:
    explicit Ring(int descriptor) : ring_(descriptor) {}

    bool map(const io_uring_params& params) {
        rings_bytes_ = std::max<size_t>(params.sq_off.array + params.sq_entries * sizeof(uint32_t),
                                        params.cq_off.cqes + params.cq_entries * sizeof(io_uring_cqe));
        rings_ = share(rings_bytes_, IORING_OFF_SQ_RING);
        entries_bytes_ = params.sq_entries * sizeof(io_uring_sqe);
        entries_ = reinterpret_cast<io_uring_sqe*>(share(entries_bytes_, IORING_OFF_SQES));
        if (!rings_ || !entries_) return false;
        const auto at = [this](uint32_t offset) { return reinterpret_cast<uint32_t*>(rings_ + offset); };
        submission_tail_ = at(params.sq_off.tail);
        submission_array_ = at(params.sq_off.array);
        submission_mask_ = *at(params.sq_off.ring_mask);
        entries_count_ = params.sq_entries;
        completion_head_ = at(params.cq_off.head);
        completion_tail_ = at(params.cq_off.tail);
        completion_mask_ = *at(params.cq_off.ring_mask);
        completions_ = reinterpret_cast<io_uring_cqe*>(rings_ + params.cq_off.cqes);
        tail_ = *submission_tail_;
        return true;
    }

    uint8_t* share(size_t bytes, uint64_t offset) const {
        void* at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring_, static_cast<off_t>(offset));
        if (at == MAP_FAILED) return nullptr;
        madvise(at, bytes, MADV_DONTFORK);  // a forked child has no business here
        return static_cast<uint8_t*>(at);
    }

    void unmap() {
        if (rings_) munmap(rings_, rings_bytes_);
        if (entries_) munmap(entries_, entries_bytes_);
    }

    // Hand over what is queued. The kernel may take a part at a time, or be short of memory for a moment.
    void flush() {
        __atomic_store_n(submission_tail_, tail_ + queued_, __ATOMIC_RELEASE);
        for (int tries = 0; queued_ > 0 && tries < 1000;) {
            const int taken = enter(ring_, queued_, 0, 0);
            if (taken > 0) {
                tail_ += static_cast<uint32_t>(taken);
                queued_ -= static_cast<uint32_t>(taken);
            } else if (taken == -EINTR || taken == -EAGAIN || taken == -EBUSY) {
                ++tries;
            } else {
                break;
            }
        }
    }

    uint32_t numbered(uint32_t place) const { return static_cast<uint32_t>(entries_[place & submission_mask_].user_data); }

    int ring_;
    bool registered_ = false;
    uint8_t* rings_ = nullptr;
    size_t rings_bytes_ = 0;
    io_uring_sqe* entries_ = nullptr;
    size_t entries_bytes_ = 0;
    uint32_t entries_count_ = 0;
    uint32_t *submission_tail_ = nullptr, *submission_array_ = nullptr;
    uint32_t submission_mask_ = 0;
    uint32_t *completion_head_ = nullptr, *completion_tail_ = nullptr;
    uint32_t completion_mask_ = 0;
    const io_uring_cqe* completions_ = nullptr;
    uint32_t tail_ = 0;    // first entry that the kernel has not taken
    uint32_t queued_ = 0;  // entries from there on
};

}  // namespace

std::unique_ptr<Engine> make_ring(int64_t in_flight, uint8_t* memory, int64_t bytes) {
    return Ring::open(in_flight, memory, bytes);
}

}  // namespace colindex::storage

#else

namespace colindex::storage {

std::unique_ptr<Engine> make_ring(int64_t, uint8_t*, int64_t) { return nullptr; }

}  // namespace colindex::storage

#endif
