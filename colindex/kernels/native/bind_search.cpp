// The kernels of a search, for Python: probe, gather, refine. Array shapes are checked by colindex/kernels/native/search.py.
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>
#include <vector>

#include "best.h"
#include "bindings.h"
#include "gather.h"
#include "instruction_set.h"
#include "search_kernels.h"

namespace py = pybind11;

namespace colindex {
namespace {

const SearchKernels& kernels() {
#if defined(__x86_64__)
    if (instruction_set() == InstructionSet::avx512) return search_avx512;
    if (instruction_set() == InstructionSet::avx2) return search_avx2;
#endif
    return search_generic;
}

double length_of(const float* row, int dim) {
    double square = 0;
    for (int at = 0; at < dim; ++at) square += static_cast<double>(row[at]) * row[at];
    return std::sqrt(square);
}

// The nearest whole number, the even one of two, of a value below 2**31: what `lrint` gives, without the call.
std::int32_t whole(double value) {
    const double shifted = value + 6755399441055744.0;  // 1.5 * 2**52: the last bits are whole
    std::int64_t bits;
    std::memcpy(&bits, &shifted, sizeof bits);
    return static_cast<std::int32_t>(bits);
}

float finite(double length) { return static_cast<float>(std::min<double>(length, std::numeric_limits<float>::max())); }

class Query {
  public:
    Query(const float* values, int tokens, int dim) {
        const int blocks = (tokens + kLanes - 1) / kLanes, padded = (dim + 31) / 32 * 32;
        pairs_.resize(static_cast<std::size_t>(blocks) * kLanes * padded);
        lengths_.resize(static_cast<std::size_t>(blocks) * kLanes);
        for (int token = 0; token < tokens; ++token) {
            const float* row = values + static_cast<std::size_t>(token) * dim;
            const double length = length_of(row, dim);
            lengths_[token] = finite(length);
            const double factor = length > 0 ? kWhole / length : 0;
            std::int16_t* block = pairs_.data() + static_cast<std::size_t>(token / kLanes) * padded * kLanes;
            for (int at = 0; at < dim; ++at)
                block[(at / 2 * kLanes + token % kLanes) * 2 + at % 2] = static_cast<std::int16_t>(whole(row[at] * factor));
        }
        packed_ = {pairs_.data(), lengths_.data(), tokens, blocks, padded};
    }

    const PackedQuery& packed() const { return packed_; }

  private:
    std::vector<std::int16_t> pairs_;
    std::vector<float> lengths_;
    PackedQuery packed_{};
};

class Probe {
  public:
    Probe(const float* values, int tokens, int dim, int width, float beyond) {
        const int most = kernels().tile_tokens, tiles = (tokens + most - 1) / most;
        const auto all = static_cast<std::size_t>(tokens);
        quads_.resize(all * width);
        pairs_.resize(all * width);
        starts_.resize(all);
        scales_.resize(all);
        spread_scales_.resize(all);
        for (int tile = 0; tile <= tiles; ++tile)
            tile_starts_.push_back(tiles ? static_cast<int>(static_cast<std::int64_t>(tokens) * tile / tiles) : 0);
        for (int tile = 0; tile < tiles; ++tile)
            for (int token = tile_starts_[tile]; token < tile_starts_[tile + 1]; ++token)
                pack(values + static_cast<std::size_t>(token) * dim, dim, token, tile_starts_[tile], tile_starts_[tile + 1], width, beyond);
        packed_ = {quads_.data(), pairs_.data(), starts_.data(), scales_.data(), spread_scales_.data(), tile_starts_.data(), tiles, width};
    }

    const ByteQuery& packed() const { return packed_; }

  private:
    void pack(const float* row, int dim, int token, int first, int end, int width, float beyond) {
        float largest = 0;
        for (int at = 0; at < dim; ++at) largest = std::max(largest, std::fabs(row[at]));
        spread_scales_[token] = finite(length_of(row, dim)) * beyond;
        scales_[token] = largest / 127;
        const double factor = largest > 0 ? 127.0 / largest : 0;
        std::size_t word = static_cast<std::size_t>(first) * width + 4 * static_cast<std::size_t>(token - first);
        for (int quad = 0; quad < dim; quad += 4, word += 4 * static_cast<std::size_t>(end - first)) {
            std::int32_t wholes[4] = {};
            for (int at = quad; at < std::min(quad + 4, dim); ++at) wholes[at - quad] = whole(row[at] * factor);
            for (int at = 0; at < 4; ++at) {
                quads_[word + at] = static_cast<std::int8_t>(wholes[at]);
                pairs_[word + at % 2 * 2 + at / 2] = static_cast<std::int16_t>(wholes[at]);
                starts_[token] -= 128 * wholes[at];
            }
        }
    }

    std::vector<std::int8_t> quads_;
    std::vector<std::int16_t> pairs_;
    std::vector<std::int32_t> starts_;
    std::vector<float> scales_, spread_scales_;
    std::vector<int> tile_starts_;
    ByteQuery packed_{};
};

constexpr std::size_t kAtOnce = 256;  // centroids between two looks at the thresholds
constexpr std::size_t kSampled = 16;  // one group of centroids in this many is looked at first
constexpr std::size_t kFewCentroids = 4096;

// The best centroids of each token, in two passes: a sample tells what score a few times as many as are wanted will reach; then
// all that reach it are collected. Without the sample, ten times as many pass through the buffers.
class Probing {
  public:
    Probing(const ByteQuery& query, std::size_t tokens, const ByteCentroids& centroids, std::size_t n_centroids)
        : query_(query), centroids_(centroids), n_centroids_(n_centroids), columns_(tokens) {}

    std::vector<Best> best(std::size_t kept) {
        forget_thresholds();
        if (n_centroids_ >= kFewCentroids) sample(3 * kept / kSampled + 12);
        std::vector<Best> found = collected(kept);
        const bool enough = std::all_of(found.begin(), found.end(), [&](const Best& of_token) { return of_token.size() >= kept; });
        if (enough) return found;
        forget_thresholds();  // an unlucky sample
        return collected(kept);
    }

  private:
    void forget_thresholds() {
        for (Column& column : columns_) column.threshold = -std::numeric_limits<float>::infinity();
    }

    void sample(std::size_t rank) {
        constexpr std::size_t stride = kSampled * kSampleGroup;
        const std::size_t sampled = n_centroids_ / stride * kSampleGroup;
        std::vector<float> scores(columns_.size() * sampled);
        std::vector<std::int32_t> keys(sampled);
        if (rank <= sampled / 2)  // of a group there may be half
            kernels().sample_centroids(query_, centroids_, n_centroids_, stride, static_cast<std::uint32_t>(rank), scores.data(),
                                       keys.data(), columns_.data());
    }

    std::vector<Best> collected(std::size_t kept) {
        std::vector<Best> best;
        best.reserve(columns_.size());
        for (std::size_t token = 0; token < columns_.size(); ++token) best.emplace_back(kept, kAtOnce);
        for (std::size_t first = 0; first < n_centroids_; first += kAtOnce) {
            for (std::size_t token = 0; token < columns_.size(); ++token)
                columns_[token] = {best[token].scores_end(), best[token].ids_end(), 0,
                                   std::max(columns_[token].threshold, best[token].threshold())};
            kernels().score_centroids(query_, centroids_, first, std::min(kAtOnce, n_centroids_ - first), columns_.data());
            for (std::size_t token = 0; token < columns_.size(); ++token)
                if (columns_[token].count) best[token].arrived(columns_[token].count);
        }
        return best;
    }

    const ByteQuery& query_;
    const ByteCentroids& centroids_;
    std::size_t n_centroids_;
    std::vector<Column> columns_;
};

py::tuple top_centroids(const Array<float>& query, const Array<std::uint8_t>& values, const Array<float>& steps,
                        const Array<float>& spreads, std::size_t nprobe, float beyond) {
    const auto tokens = static_cast<std::size_t>(query.shape(0)), n_centroids = static_cast<std::size_t>(steps.shape(0));
    const std::size_t kept = std::min(nprobe, n_centroids);
    Array<std::int32_t> ids({tokens, kept});
    Array<float> scores({tokens, kept});
    std::int32_t* id = ids.mutable_data();
    float* score = scores.mutable_data();
    const ByteCentroids centroids{values.data(), steps.data(), spreads.data()};
    const float* rows = query.data();
    const int dim = static_cast<int>(query.shape(1)), width = static_cast<int>(values.shape(1)) * 4;
    {
        py::gil_scoped_release released;
        const Probe probe(rows, static_cast<int>(tokens), dim, width, beyond);
        for (Best& of_token : Probing(probe.packed(), tokens, centroids, n_centroids).best(kept)) {
            for (const auto& scored : of_token.sorted()) {
                *id++ = static_cast<std::int32_t>(scored.id);
                *score++ = scored.score;
            }
        }
    }
    return py::make_tuple(ids, scores);
}

template <typename Posting, typename Place>
py::tuple gather_bound(const Array<std::int32_t>& ids, const Array<float>& scores, const Array<Posting>& postings,
                       const Array<Place>& places, std::size_t n_documents, std::size_t limit,
                       const std::optional<Array<std::uint8_t>>& allowed) {
    const Probed probed{ids.data(), scores.data(), static_cast<std::size_t>(ids.shape(0)), static_cast<std::size_t>(ids.shape(1))};
    const Postings<Posting, Place> lists{postings.data(), static_cast<std::size_t>(postings.shape(0)), places.data(),
                                         static_cast<std::size_t>(std::max<py::ssize_t>(places.shape(0), 1) - 1)};
    const Documents of_segment{n_documents, allowed ? allowed->data() : nullptr};
    Gathered gathered;
    {
        py::gil_scoped_release released;
        gathered = gather(probed, lists, of_segment, limit);
    }
    const std::size_t count = gathered.documents.size();
    Array<std::int32_t> documents(static_cast<py::ssize_t>(count));
    Array<float> estimates(static_cast<py::ssize_t>(count));
    for (std::size_t at = 0; at < count; ++at) {
        documents.mutable_data()[at] = static_cast<std::int32_t>(gathered.documents[at].id);
        estimates.mutable_data()[at] = gathered.documents[at].score;
    }
    return py::make_tuple(documents, estimates, gathered.met, gathered.walked);
}

template <typename Posting, typename Place>
void def_gather(py::module_& module) {
    module.def("gather", &gather_bound<Posting, Place>, py::arg("ids").noconvert(), py::arg("scores").noconvert(),
               py::arg("postings").noconvert(), py::arg("places").noconvert(), py::arg("n_documents"), py::arg("limit"),
               py::arg("allowed").noconvert());
}

// Which kernels, and how a query is packed for them: by what the centroids are kept in.
struct InWords {
    typedef std::int16_t Value;
    typedef Query Packed;
    static Codes codes(const Records& layout, const Value* centroids, const float* steps) { return {layout, centroids, steps[0]}; }
    static Packed packed(const float* rows, int tokens, int dim) { return Query(rows, tokens, dim); }
    static auto score() { return kernels().score_records; }
    static auto similarities() { return kernels().similarities; }
};

struct InBytes {
    typedef std::int8_t Value;
    typedef Probe Packed;
    static ByteCodes codes(const Records& layout, const Value* centroids, const float* steps) { return {layout, centroids, steps}; }
    static Packed packed(const float* rows, int tokens, int dim) { return Probe(rows, tokens, dim, (dim + 3) / 4 * 4, 0); }
    static auto score() { return kernels().score_byte_records; }
    static auto similarities() { return kernels().byte_similarities; }
};

// Calls `kernel(query, codes, scratch)` with the lock released.
template <typename Width, typename Kernel>
void refine(const Array<float>& query, const Array<typename Width::Value>& centroids, const Array<float>& steps,
            const Array<float>& levels, int bits, int centroid_bytes, bool unit, Kernel kernel) {
    const int tokens = static_cast<int>(query.shape(0)), dim = static_cast<int>(centroids.shape(1)), code_bytes = (dim * bits + 7) / 8;
    const Records layout{static_cast<std::size_t>(centroids.shape(0)), levels.data(), dim, bits, centroid_bytes, code_bytes,
                         centroid_bytes + 2 + code_bytes, unit};
    const auto codes = Width::codes(layout, centroids.data(), steps.data());
    const float* rows = query.data();
    bool whole;
    {
        py::gil_scoped_release released;
        const auto packed = Width::packed(rows, tokens, dim);
        std::vector<std::uint8_t> scratch(scratch_bytes(packed.packed()));
        whole = kernel(packed.packed(), codes, scratch.data());
    }
    if (!whole) throw py::index_error("a record names a centroid that does not exist");
}

template <typename Width>
Array<float> score_records(const Array<float>& query, const Array<std::uint8_t>& records, const Array<std::int64_t>& offsets,
                           const Array<typename Width::Value>& centroids, const Array<float>& steps, const Array<float>& levels,
                           int bits, int centroid_bytes, bool unit) {
    const auto documents = static_cast<std::size_t>(offsets.shape(0) - 1);
    const std::int64_t* places = offsets.data();
    if (places[0] < 0 || places[documents] > records.shape(0) || !std::is_sorted(places, places + documents + 1))
        throw py::value_error("native kernel: offsets that do not rise within the records");
    Array<float> scores(static_cast<py::ssize_t>(documents));
    const std::uint8_t* bytes = records.data();
    float* out = scores.mutable_data();
    refine<Width>(query, centroids, steps, levels, bits, centroid_bytes, unit, [=](const auto& packed, const auto& codes, std::uint8_t* scratch) {
        return Width::score()(packed, codes, bytes, places, documents, scratch, out);
    });
    return scores;
}

template <typename Width>
Array<float> similarities(const Array<float>& query, const Array<std::uint8_t>& records,
                          const Array<typename Width::Value>& centroids, const Array<float>& steps, const Array<float>& levels,
                          int bits, int centroid_bytes, bool unit) {
    Array<float> found({query.shape(0), records.shape(0)});
    const std::int64_t count = records.shape(0);
    const std::uint8_t* bytes = records.data();
    float* out = found.mutable_data();
    refine<Width>(query, centroids, steps, levels, bits, centroid_bytes, unit, [=](const auto& packed, const auto& codes, std::uint8_t* scratch) {
        return Width::similarities()(packed, codes, bytes, count, scratch, out);
    });
    return found;
}

template <typename Width>
void def_refinement(py::module_& module) {
    module.def("score_records", &score_records<Width>, py::arg("query").noconvert(), py::arg("records").noconvert(),
               py::arg("offsets").noconvert(), py::arg("centroids").noconvert(), py::arg("steps").noconvert(),
               py::arg("levels").noconvert(), py::arg("bits"), py::arg("centroid_bytes"), py::arg("unit"));
    module.def("similarities", &similarities<Width>, py::arg("query").noconvert(), py::arg("records").noconvert(),
               py::arg("centroids").noconvert(), py::arg("steps").noconvert(), py::arg("levels").noconvert(), py::arg("bits"),
               py::arg("centroid_bytes"), py::arg("unit"));
}

}  // namespace

void bind_search(py::module_& module) {
    module.def("top_centroids", &top_centroids, py::arg("query").noconvert(), py::arg("values").noconvert(),
               py::arg("steps").noconvert(), py::arg("spreads").noconvert(), py::arg("nprobe"), py::arg("beyond"));
    def_gather<std::uint16_t, std::uint32_t>(module);
    def_gather<std::uint32_t, std::uint32_t>(module);
    def_gather<std::uint16_t, std::int64_t>(module);
    def_gather<std::uint32_t, std::int64_t>(module);
    def_refinement<InWords>(module);
    def_refinement<InBytes>(module);
}

}  // namespace colindex
