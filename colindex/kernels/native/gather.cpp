// 1. Find the posting lists of each token's probed centroids, and what each of these scores above the token's floor.
// 2. For each token, write the scores of its centroids, the worst first, into a row by document: what stands there in the end is
//    the best centroid's. Then add the row to the documents' sums and clear it: document by document, or, where the token met few
//    of them, along the lists again.
// 3. Keep the best of those that were met; a document's score is the sum of all tokens' floors and what it got above them.
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
constexpr std::size_t kBits = 8, kTwoBytes = 1 << 16;

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

// What the documents of a list get.
template <typename Posting>
struct Probe {
    List<Posting> list;
    float above;
};

// A row for documents: zeros for those that there are. Two bytes cannot name one outside of it; what they name beyond the last
// document, in an index from a stranger, is left as it was, and never looked at.
float* cleared(std::vector<float>& row, std::size_t n_documents) {
    row.resize(std::max(row.size(), std::max(n_documents + kBits - 1, kTwoBytes)));
    std::fill_n(row.begin(), n_documents, 0.0f);
    return row.data();
}

template <typename Posting>
void check(const List<Posting>& list, std::size_t n_documents) {
    if (sizeof(Posting) == 2) return;
    for (const Posting* document = list.begin; document < list.end; ++document)
        if (*document >= n_documents) throw std::out_of_range("gather: a posting names a document that does not exist");
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

// 2. For one token.
template <typename Posting>
void add_token(const Probe<Posting>* probes, std::size_t n_probes, std::size_t n_documents, float* row, float* sums) {
    std::size_t walked = 0;
    for (std::size_t probe = n_probes; probe-- > 0;) {
        const auto [list, above] = probes[probe];
        check(list, n_documents);
        for (const Posting* document = list.begin; document < list.end; ++document) row[*document] = above;
        walked += static_cast<std::size_t>(list.end - list.begin);
    }
    if (walked * kManyMet > n_documents) return kernels().move_row(row, n_documents, sums);
    for (std::size_t probe = 0; probe < n_probes; ++probe) {
        const List<Posting> list = probes[probe].list;
        for (const Posting* document = list.begin; document < list.end; ++document) {
            sums[*document] += row[*document];
            row[*document] = 0;
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
Best best_of(const float* sums, std::size_t n_documents, std::size_t limit, std::size_t& met) {
    Best best(limit);
    const std::size_t together = std::max(kLeastTogether, kTogether * limit), room = std::min(together, n_documents) + kLanes;
    const std::unique_ptr<float[]> scores(new float[room]);
    const std::unique_ptr<std::uint32_t[]> places(new std::uint32_t[room]);
    const std::unique_ptr<std::int32_t[]> keys(new std::int32_t[room]);
    for (std::size_t first = 0; first < n_documents; first += together) {
        const std::size_t here = std::min(together, n_documents - first);
        met += kernels().positive(sums + first, here);
        const std::size_t found =
            first ? kernels().reaching(sums + first, here, std::max(best.threshold(), 0.0f), places.get())
                  : kernels().shortlist(sums, here, std::min(limit, here), scores.get(), places.get(), keys.get());
        for (std::size_t at = 0; at < found; ++at) {
            const std::size_t document = first + places[at];
            if (sums[document] > std::max(best.threshold(), 0.0f)) best.add(sums[document], static_cast<std::uint32_t>(document));
        }
        best.settle();
    }
    return best;
}

}  // namespace

template <typename Posting, typename Place>
Gathered gather(const Probed& probed, const Postings<Posting, Place>& postings, const Documents& documents, std::size_t limit) {
    const std::size_t n_documents = documents.count;
    double floors = 0;
    const std::vector<Probe<Posting>> probes = probes_of(probed, postings, floors);
    thread_local std::vector<float> of_sums, of_row;
    float *const sums = cleared(of_sums, n_documents), *const row = cleared(of_row, n_documents);
    for (std::size_t first = 0; first < probes.size(); first += probed.probes)
        add_token(&probes[first], probed.probes, n_documents, row, sums);
    if (documents.allowed) keep(documents.allowed, n_documents, sums);
    Gathered gathered;
    for (const Probe<Posting>& probe : probes) gathered.walked += static_cast<std::size_t>(probe.list.end - probe.list.begin);
    gathered.documents = best_of(sums, n_documents, std::min(limit, n_documents), gathered.met).sorted();
    for (auto& document : gathered.documents) document.score += static_cast<float>(floors);
    return gathered;
}

template Gathered gather(const Probed&, const Postings<std::uint16_t, std::uint32_t>&, const Documents&, std::size_t);
template Gathered gather(const Probed&, const Postings<std::uint32_t, std::uint32_t>&, const Documents&, std::size_t);
template Gathered gather(const Probed&, const Postings<std::uint16_t, std::int64_t>&, const Documents&, std::size_t);
template Gathered gather(const Probed&, const Postings<std::uint32_t, std::int64_t>&, const Documents&, std::size_t);

}  // namespace colindex
