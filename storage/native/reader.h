// What a fetcher (fetcher.h) does, for the native code of others: plain functions, handed over in a capsule of Python's. Two
// extensions then agree on this file alone.
#pragma once

#include <cstdint>

namespace colindex::storage {

// The capsule's; another one than this, from a library built from other sources, is refused.
constexpr const char* READER_NAME = "colindex.storage.Reader.1";
constexpr int COUNTED = 7, TOLD = 6;  // values of `Counters` and of `Failure`, in their order

struct Reader {
    void* of;
    int64_t bytes;  // of the address space, which ranges have to lie in

    // The bytes of ranges, end to end, into `answer`; what was done is added to `counted`. False: it failed, `told` says how.
    bool (*fetch)(void* of, const int64_t* starts, const int64_t* ends, int64_t count, uint8_t* answer, int64_t* counted, int64_t* told);

    // Starts reads; how many, or -1 if the store is closed.
    int64_t (*prefetch)(void* of, const int64_t* starts, const int64_t* ends, int64_t count);

    // What was prefetched of these is not wanted after all.
    void (*forget)(void* of, const int64_t* starts, const int64_t* ends, int64_t count);
};

}  // namespace colindex::storage
