// Refinement, round by round; colindex/refinement.py defines it:
// 1. Fetch the records of the next candidates, the best estimates first, with the reads of later ones in flight.
// 2. Score them, and keep the k best so far.
// 3. Judge, by how far scores lay above their estimates so far, which of the next candidates would plausibly reach the k best: the
//    next round is of these. When there are none, stop, and forget the reads that are still in flight.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "../../../storage/native/reader.h"

namespace colindex {

// In falling order of their estimates; the records of each are the bytes [starts, ends) of what the reader reads.
struct Candidates {
    const std::int64_t* documents;
    const float* estimates;
    const std::int64_t *starts, *ends;
    std::size_t count;
};

struct Rule {
    std::size_t k;
    double margin;  // deviations
    // Documents of the first round, at least; of every other one, at most; those beyond a round whose reads are in flight.
    std::size_t first, most, ahead;
    bool announced;  // whether reads of the first round are in flight
};

struct Answer {
    std::int64_t document;
    float score;
};

struct Refined {
    std::vector<Answer> best;  // in falling score, ties in rising order of documents
    std::size_t refined = 0;
    std::int64_t announced = 0;         // reads started
    double fetching = 0, scoring = 0;   // seconds
    std::int64_t counted[storage::COUNTED] = {};
    std::int64_t told[storage::TOLD] = {};  // of a failure
    bool failed = false, whole = true;  // whether reading failed; whether all records could be scored
};

// MaxSim of documents whose records lie end to end, offsets in records. False: a record names a centroid that does not exist.
typedef std::function<bool(const std::uint8_t* records, const std::int64_t* offsets, std::size_t documents, float* scores)> Score;

// `pause` is called now and then, and may throw.
Refined refine_rounds(const Candidates&, const Rule&, const storage::Reader&, std::size_t record_bytes, const Score& score,
                      const std::function<void()>& pause);

}  // namespace colindex
