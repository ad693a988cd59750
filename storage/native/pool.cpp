// Reads by threads, see engine.h: each takes the oldest request, reads it with one `pread`, and tells.
#include <errno.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

#include "engine.h"

namespace colindex::storage {
namespace {

constexpr int64_t THREADS = 16;

class Pool final : public Engine {
public:
    explicit Pool(int64_t in_flight) {
        // A signal is for Python's own threads: one that lands here would not interrupt what the user wants interrupted.
        sigset_t all, before;
        sigfillset(&all);
        pthread_sigmask(SIG_BLOCK, &all, &before);
        try {
            for (int64_t i = 0; i < std::min(THREADS, in_flight); ++i) threads_.emplace_back([this] { work(); });
        } catch (const std::system_error&) {
            // As many as the system allows.
        }
        pthread_sigmask(SIG_SETMASK, &before, nullptr);
    }

    ~Pool() override {
        {
            const std::lock_guard lock(mutex_);
            closing_ = true;
        }
        wanted_.notify_all();
        for (std::thread& thread : threads_) thread.join();
    }

    bool usable() const { return !threads_.empty(); }

    void submit(const std::vector<Request>& batch, std::vector<Completion>&) override {
        {
            const std::lock_guard lock(mutex_);
            requests_.insert(requests_.end(), batch.begin(), batch.end());
        }
        if (batch.size() == 1) wanted_.notify_one();
        else wanted_.notify_all();
    }

    void reap(std::vector<Completion>& done) override {
        const std::lock_guard lock(mutex_);
        done.insert(done.end(), done_.begin(), done_.end());
        done_.clear();
    }

    void wait(int64_t count) override {
        std::unique_lock lock(mutex_);
        told_.wait(lock, [this, count] { return static_cast<int64_t>(done_.size()) >= count; });
    }

    void abandon() override {}  // a child has none of the threads

    const char* name() const override { return "threads"; }

private:
    void work() {
        std::unique_lock lock(mutex_);
        for (;;) {
            wanted_.wait(lock, [this] { return closing_ || !requests_.empty(); });
            if (requests_.empty()) return;
            const Request request = requests_.front();
            requests_.pop_front();
            lock.unlock();
            ssize_t result;
            do {
                result = pread(request.descriptor, request.target, static_cast<size_t>(request.length), request.offset);
            } while (result < 0 && errno == EINTR);
            const int64_t told = result < 0 ? -errno : result;
            lock.lock();
            done_.push_back({request.number, told});
            told_.notify_one();
        }
    }

    std::mutex mutex_;
    std::condition_variable wanted_, told_;
    std::deque<Request> requests_;
    std::vector<Completion> done_;
    std::vector<std::thread> threads_;
    bool closing_ = false;
};

}  // namespace

std::unique_ptr<Engine> make_pool(int64_t in_flight) {
    auto pool = std::make_unique<Pool>(in_flight);
    return pool->usable() ? std::unique_ptr<Engine>(std::move(pool)) : nullptr;
}

std::unique_ptr<Engine> make_engine(const std::string& kind, int64_t in_flight, uint8_t* memory, int64_t bytes) {
    if (kind == "io_uring")
        if (auto ring = make_ring(in_flight, memory, bytes)) return ring;
    return make_pool(in_flight);
}

}  // namespace colindex::storage
