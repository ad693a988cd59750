// Where do the records of documents lie in the address space? Documents are numbered through all segments, see
// storage/places.py, whose arrays these are.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace colindex::storage {

class Places {
public:
    struct Segment {
        int64_t first, documents;  // number of its first document, and how many it has
        const uint32_t* narrow;    // first row of each document, [documents + 1]: one of the two
        const uint64_t* wide;
        int64_t base;  // its first byte
    };

    Places(std::vector<Segment> segments, int64_t record_bytes) : segments_(std::move(segments)), record_bytes_(record_bytes) {}

    int64_t documents() const { return segments_.empty() ? 0 : segments_.back().first + segments_.back().documents; }

    // Bytes [starts, ends) of each document, and the running sum of their rows, [count + 1]. The documents are there.
    void find(const int64_t* documents, int64_t count, int64_t* starts, int64_t* ends, int64_t* rows) const {
        rows[0] = 0;
        for (int64_t i = 0; i < count; ++i) {
            const Segment& segment = segment_of(documents[i]);
            const int64_t number = documents[i] - segment.first;
            const int64_t begin = segment.narrow ? segment.narrow[number] : static_cast<int64_t>(segment.wide[number]);
            const int64_t end = segment.narrow ? segment.narrow[number + 1] : static_cast<int64_t>(segment.wide[number + 1]);
            starts[i] = segment.base + begin * record_bytes_;
            ends[i] = segment.base + end * record_bytes_;
            rows[i + 1] = rows[i] + end - begin;
        }
    }

private:
    // The last one that begins at this document or before: segments without documents begin where the next one does.
    const Segment& segment_of(int64_t document) const {
        const auto after = std::upper_bound(segments_.begin(), segments_.end(), document,
                                            [](int64_t one, const Segment& segment) { return one < segment.first; });
        return *(after - 1);
    }

    std::vector<Segment> segments_;
    int64_t record_bytes_;
};

}  // namespace colindex::storage
