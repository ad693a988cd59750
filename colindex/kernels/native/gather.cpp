// 1. Find the posting lists of each token's probed centroids, and what each of these scores above the token's floor.
// 2. Of some documents at a time, as many as there are rows for that a core's cache holds: for each token, write the scores of its
//    centroids, the worst first, into a row by document: what stands there in the end is the best centroid's. Then add the row to
//    the documents' sums and clear it: document by document, or, where the token met few of them, along the lists again.
// 3. Keep the best of those that were met, and go on with the next documents. Lists name documents in rising order.
// 4. A document's score is the sum of all tokens' floors and what it got above them.
//
// Both rows are the thread's own from one call to the next: to allocate them cost as much as to walk a few short lists.
#include "gather.h"

#include <algorithm>
#include <memory>
#include <stdexcept>
#include <vector>

#include "chosen_search.h"

namespace colindex {
namespace {

constexpr float kBelowLast = 0.25f;
constexpr float kMet = 1e-30f;         // marks a document met at the floor itself, and vanishes in any score
constexpr std::size_t kManyMet = 8;    // one document in this many: then going through all is faster than along the lists
constexpr std::size_t kLeastTogether = 4096, kTogether = 8;  // documents looked at together: at least, and for each that is wanted
constexpr std::size_t kBits = 8;

// Documents of which there are rows: as many as two bytes can name. What these name beyond the last document, in an index from a
// stranger, is never looked at.
constexpr std::size_t kRows = 1 << 16;

template <typename Posting>
struct List {
    const Posting *begin, *end;
};

// Where the postings of a centroid begin and end. An index whose codebook has grown probes centroids that its older segments
// do not know.
template <typename Posting, typename Place>
List<Posting> list_of(const Postings<Posting, Place>& postings, std::int32_t centroid) {
    if (centroid < 0) throw std::out_of_range("gather: a probed centroid's number is negative");
    if (static_cast<std::size_t>(centroid) >= postings.centroids) return {postings.documents, postings.documents};
    const auto begin = static_cast<std::size_t>(postings.places[centroid]), end = static_cast<std::size_t>(postings.places[centroid + 1]);
    if (begin > end || end > postings.count) throw std::out_of_range("gather: a centroid's postings lie outside");
    return {postings.documents + begin, postings.documents + end};
}

// What is left of a list, and what its documents get.
template <typename Posting>
struct Probe {
    List<Posting> left;
    float above;
};

// A row for some documents: zeros for the first of them. What lies beyond is left as it was, and never looked at.
float* cleared(std::vector<float>& row, std::size_t first) {
    row.resize(kRows);
    std::fill_n(row.begin(), first, 0.0f);
    return row.data();
}

// 1. Lists in falling score, probes of one token after those of another. Where they begin, and their first postings, lie anywhere in
// memory: all are asked for before the first is needed.
template <typename Posting, typename Place>
std::vector<Probe<Posting>> probes_of(const Probed& probed, const Postings<Posting, Place>& postings, double& floors) {
    std::vector<Probe<Posting>> probes;
    probes.reserve(probed.tokens * probed.probes);
    for (std::size_t probe = 0; probe < probed.tokens * probed.probes; ++probe) {
        const auto centroid = static_cast<std::size_t>(static_cast<std::uint32_t>(probed.ids[probe]));
        __builtin_prefetch(postings.places + std::min(centroid, postings.centroids));
    }
    for (std::size_t token = 0; token < probed.tokens && probed.probes; ++token) {
        const std::int32_t* ids = probed.ids + token * probed.probes;
        const float* scores = probed.scores + token * probed.probes;
        const float last = scores[probed.probes - 1];
        const float floor = last - kBelowLast * (scores[0] - last);
        floors += floor;
        for (std::size_t probe = 0; probe < probed.probes; ++probe) {
            const List<Posting> list = list_of(postings, ids[probe]);
            __builtin_prefetch(list.begin);
            __builtin_prefetch(reinterpret_cast<const char*>(list.begin) + 64);
            probes.push_back({list, std::max(kMet, scores[probe] - floor)});  // in this order, NaN counts as met too
        }
    }
    return probes;
}

// Writes the score of those of a list's documents that are among `count` from `first` on; returns where the others begin.
template <typename Posting>
const Posting* write(const Probe<Posting>& probe, std::size_t first, std::size_t count, float* row) {
    const Posting* document = probe.left.begin;
    if constexpr (sizeof(Posting) == 2) {
        for (; document < probe.left.end; ++document) row[*document] = probe.above;
    } else {
        for (; document < probe.left.end; ++document) {
            const std::size_t at = *document - first;  // of one before the first, too large as well
            if (at >= count) break;
            row[at] = probe.above;
        }
    }
    return document;
}

// 2. For one token: what its centroids score, to the sums of `count` documents from `first` on. `walked` has room for its lists.
template <typename Posting>
void add_token(Probe<Posting>* probes, std::vector<List<Posting>>& walked, std::size_t first, std::size_t count, float* row, float* sums) {
    std::size_t postings = 0;
    for (std::size_t probe = walked.size(); probe-- > 0;) {
        Probe<Posting>& of = probes[probe];
        const Posting* const end = write(of, first, count, row);
        walked[probe] = {of.left.begin, end};
        postings += static_cast<std::size_t>(end - of.left.begin);
        of.left.begin = end;
    }
    if (postings * kManyMet > count) return kernels().move_row(row, count, sums);
    for (const List<Posting>& list : walked) {
        for (const Posting* document = list.begin; document < list.end; ++document) {
            sums[*document - first] += row[*document - first];
            row[*document - first] = 0;
        }
    }
}

// Takes the score from documents that may not be returned; `sums` has room for whole bytes of bits.
void keep(const std::uint8_t* allowed, std::size_t n_documents, float* sums) {
    for (std::size_t first = 0; first < n_documents; first += kBits) {
        const std::uint8_t bits = allowed[first / kBits];
        if (bits == 0xFF) continue;  // nearly always, where documents were deleted
        for (std::size_t at = 0; at < kBits; ++at) sums[first + at] = bits & (1 << at) ? sums[first + at] : 0.0f;
    }
}

// 3. Some documents at a time: those that are better than what was found in the ones before them.
class Finder {
  public:
    Finder(std::size_t limit, std::size_t most)
        : limit_(limit), together_(std::max(kLeastTogether, kTogether * limit)), room_(std::min(together_, most) + kLanes),
          scores_(new float[room_]), places_(new std::uint32_t[room_]), keys_(new std::int32_t[room_]), best_(limit) {}

    // The sums of `count` documents from `first` on.
    void look_at(const float* sums, std::size_t first, std::size_t count) {
        for (std::size_t done = 0; done < count; done += together_) look_at_some(sums + done, first + done, std::min(together_, count - done));
    }

    std::vector<Scored> found() { return best_.sorted(); }

    std::size_t met = 0;

  private:
    void look_at_some(const float* sums, std::size_t first, std::size_t count) {
        met += kernels().positive(sums, count);
        const std::size_t found = first ? kernels().reaching(sums, count, std::max(best_.threshold(), 0.0f), places_.get())
                                        : kernels().shortlist(sums, count, std::min(limit_, count), scores_.get(), places_.get(), keys_.get());
        for (std::size_t at = 0; at < found; ++at)
            if (sums[places_[at]] > std::max(best_.threshold(), 0.0f))
                best_.add(sums[places_[at]], static_cast<std::uint32_t>(first) + places_[at]);
        best_.settle();
    }

    std::size_t limit_, together_, room_;
    std::unique_ptr<float[]> scores_;
    std::unique_ptr<std::uint32_t[]> places_;
    std::unique_ptr<std::int32_t[]> keys_;
    Best best_;
};

}  // namespace

template <typename Posting, typename Place>
Gathered gather(const Probed& probed, const Postings<Posting, Place>& postings, const Documents& documents, std::size_t limit) {
    const std::size_t n_documents = documents.count, most = std::min(kRows, n_documents);
    double floors = 0;
    std::vector<Probe<Posting>> probes = probes_of(probed, postings, floors);
    thread_local std::vector<float> of_sums, of_row;
    float* const row = cleared(of_row, most);
    Finder finder(std::min(limit, n_documents), most);
    std::vector<List<Posting>> walked(probed.probes);
    Gathered gathered;
    for (const Probe<Posting>& probe : probes) gathered.walked += static_cast<std::size_t>(probe.left.end - probe.left.begin);
    for (std::size_t first = 0; first < n_documents; first += kRows) {
        const std::size_t here = std::min(kRows, n_documents - first);
        float* const sums = cleared(of_sums, here);
        for (std::size_t probe = 0; probe < probes.size(); probe += probed.probes) add_token(&probes[probe], walked, first, here, row, sums);
        if (documents.allowed) keep(documents.allowed + first / kBits, here, sums);
        finder.look_at(sums, first, here);
    }
    for (const Probe<Posting>& probe : probes)
        if (probe.left.begin < probe.left.end) throw std::out_of_range("gather: a posting names a document that does not exist, or out of order");
    gathered.met = finder.met;
    gathered.documents = finder.found();
    for (auto& document : gathered.documents) document.score += static_cast<float>(floors);
    return gathered;
}

template Gathered gather(const Probed&, const Postings<std::uint16_t, std::uint32_t>&, const Documents&, std::size_t);
template Gathered gather(const Probed&, const Postings<std::uint32_t, std::uint32_t>&, const Documents&, std::size_t);
template Gathered gather(const Probed&, const Postings<std::uint16_t, std::int64_t>&, const Documents&, std::size_t);
template Gathered gather(const Probed&, const Postings<std::uint32_t, std::int64_t>&, const Documents&, std::size_t);

}  // namespace colindex
