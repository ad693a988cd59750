// The kernels of a search, for Python: gather, refine. Array shapes are checked by colindex/kernels/native/search.py.
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>
#include <vector>

#include "bindings.h"
#include "chosen_search.h"
#include "gather.h"
#include "packing.h"

namespace py = pybind11;

namespace colindex {
namespace {

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
    typedef ByteRows Packed;
    static ByteCodes codes(const Records& layout, const Value* centroids, const float* steps) { return {layout, centroids, steps}; }
    static Packed packed(const float* rows, int tokens, int dim) { return ByteRows(rows, tokens, dim, (dim + 3) / 4 * 4, 0, kernels().tile_tokens); }
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
    def_gather<std::uint16_t, std::uint32_t>(module);
    def_gather<std::uint32_t, std::uint32_t>(module);
    def_gather<std::uint16_t, std::int64_t>(module);
    def_gather<std::uint32_t, std::int64_t>(module);
    def_refinement<InWords>(module);
    def_refinement<InBytes>(module);
}

}  // namespace colindex
