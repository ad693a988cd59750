// The kernels of a search, for Python: gather, refine. Array shapes are checked by colindex/kernels/native/search.py.
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "bindings.h"
#include "chosen_search.h"
#include "gather.h"
#include "widths.h"

namespace py = pybind11;

namespace colindex {
namespace {

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
    refine(query, Table<Width>{centroids, steps, levels, bits, centroid_bytes, unit}, [=](const auto& packed, const auto& codes, std::uint8_t* scratch) {
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
    refine(query, Table<Width>{centroids, steps, levels, bits, centroid_bytes, unit}, [=](const auto& packed, const auto& codes, std::uint8_t* scratch) {
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
    def_refinement<InBytes>(module);  // tried first
    def_refinement<InWords>(module);
    def_refinement<AsHeld>(module);
}

}  // namespace colindex
