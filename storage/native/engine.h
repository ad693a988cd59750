// How do many reads proceed at once? An engine takes them, and tells which are done; two bodies, picked by `make_engine`:
//
// - `Ring` (ring.cpp): io_uring, by its system calls alone. One call hands over a batch; completions are read from memory.
// - `Pool` (pool.cpp): threads that `pread`, where the kernel or a sandbox has no io_uring.
//
// An engine owns no memory that is read into. It is used under its owner's lock, except for `wait`.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace colindex::storage {

struct Request {
    int descriptor;
    int64_t offset;
    int64_t length;
    uint8_t* target;
    uint32_t number;  // whatever the owner knows it by
};

struct Completion {
    uint32_t number;
    int64_t result;  // bytes read, or -errno
};

class Engine {
public:
    virtual ~Engine() = default;

    // Start these reads. Those that the system would not take are appended to `refused`, with its errno, and have no completion.
    virtual void submit(const std::vector<Request>& batch, std::vector<Completion>& refused) = 0;

    // Append what is done and was not yet told.
    virtual void reap(std::vector<Completion>& done) = 0;

    // Return when there are `count` completions to reap, or sooner. As many reads must be under way. One thread at a time, and
    // nobody may reap meanwhile: it would take away what this one waits for.
    virtual void wait(int64_t count) = 0;

    // In a forked child: give back what the child holds, and leave to the parent what is the parent's. The object is then
    // to be leaked: its destructor would wait for reads that only the parent has.
    virtual void abandon() = 0;

    virtual const char* name() const = 0;
};

// `kind` is "io_uring" or "threads". Where the system, asked again, has no ring after all, threads take over. At most
// `in_flight` reads are under way together, all into [memory, memory + bytes). Null if there are no threads either.
std::unique_ptr<Engine> make_engine(const std::string& kind, int64_t in_flight, uint8_t* memory, int64_t bytes);

std::unique_ptr<Engine> make_ring(int64_t in_flight, uint8_t* memory, int64_t bytes);
std::unique_ptr<Engine> make_pool(int64_t in_flight);

}  // namespace colindex::storage
