// Which documents do the probed centroids point to? See colindex/kernels/reference/gather.py.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "best.h"

namespace colindex {

struct Probed {
    const std::int32_t* ids;  // [tokens, probes], in falling score
    const float* scores;      // [tokens, probes]
    std::size_t tokens, probes;
};

struct Gathered {
    std::vector<Scored> documents;  // in falling score, ties by lower number
    std::size_t met = 0, walked = 0;
};

// Posting: uint16 or uint32, Place: uint32 or int64.
template <typename Posting, typename Place>
struct Postings {
    const Posting* documents;
    std::size_t count;
    const Place* places;  // centroid c owns documents[places[c]] up to documents[places[c + 1]]
    std::size_t centroids;
};

// The documents of a segment; bit d of `allowed`, little-endian, says whether document d may be returned; null: all may.
struct Documents {
    std::size_t count;
    const std::uint8_t* allowed;
};

// A centroid beyond the postings has none. Throws std::out_of_range if the number of one is negative, if its postings lie
// outside, or if they name a document that does not exist.
template <typename Posting, typename Place>
Gathered gather(const Probed& probed, const Postings<Posting, Place>& postings, const Documents& documents, std::size_t limit);

}  // namespace colindex
