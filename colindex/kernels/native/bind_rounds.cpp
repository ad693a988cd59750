// Refinement of candidates, all rounds of it, for Python. Array shapes are checked by colindex/kernels/native/refine.py.
#include <pybind11/numpy.h>

#include <stdexcept>
#include <string>

#include "bindings.h"
#include "rounds.h"
#include "widths.h"

namespace py = pybind11;

namespace colindex {
namespace {

const storage::Reader& reader_of(const py::capsule& capsule) {
    const void* reader = PyCapsule_GetPointer(capsule.ptr(), storage::READER_NAME);
    if (!reader) throw py::error_already_set();
    return *static_cast<const storage::Reader*>(reader);
}

// Ranges of whole records, all of them within what the reader reads.
void check(const Candidates& candidates, const storage::Reader& reader, std::int64_t record_bytes) {
    for (std::size_t at = 0; at < candidates.count; ++at) {
        const std::int64_t start = candidates.starts[at], end = candidates.ends[at];
        if (start < 0 || end < start || end > reader.bytes || (end - start) % record_bytes)
            throw py::value_error("native kernel: candidate " + std::to_string(at) + ": expected whole records within " +
                                  std::to_string(reader.bytes) + " bytes, got [" + std::to_string(start) + ", " + std::to_string(end) + ")");
    }
}

void look_for_signals() {
    const py::gil_scoped_acquire acquired;
    if (PyErr_CheckSignals()) throw py::error_already_set();
}

template <typename T>
py::tuple as_tuple(const T* values, int count) {
    py::tuple made(static_cast<std::size_t>(count));
    for (int at = 0; at < count; ++at) made[static_cast<std::size_t>(at)] = values[at];
    return made;
}

template <typename Width>
py::tuple bound(const Array<float>& query, const Array<std::int64_t>& documents, const Array<float>& estimates,
                const Array<std::int64_t>& starts, const Array<std::int64_t>& ends, const py::capsule& capsule, std::size_t k, double margin,
                std::size_t first, std::size_t most, std::size_t ahead, bool announced, const Array<typename Width::Value>& centroids,
                const Array<float>& steps, const Array<float>& levels, int bits, int centroid_bytes, bool unit) {
    const Table<Width> table{centroids, steps, levels, bits, centroid_bytes, unit};
    const storage::Reader& reader = reader_of(capsule);
    const Candidates candidates{documents.data(), estimates.data(), starts.data(), ends.data(), static_cast<std::size_t>(documents.shape(0))};
    const Rule rule{k, margin, first, most, ahead, announced};
    const int record_bytes = table.layout().record_bytes;
    check(candidates, reader, record_bytes);
    Refined refined;
    refine(query, table, [&](const auto& packed, const auto& codes, std::uint8_t* scratch) {
        const auto score = Width::score();
        refined = refine_rounds(
            candidates, rule, reader, static_cast<std::size_t>(record_bytes),
            [&](const std::uint8_t* records, const std::int64_t* offsets, std::size_t count, float* scores) {
                return score(packed, codes, records, offsets, count, scratch, scores);
            },
            look_for_signals);
        return refined.whole;
    });
    const std::size_t count = refined.best.size();
    Array<std::int64_t> best(static_cast<py::ssize_t>(count));
    Array<float> scores(static_cast<py::ssize_t>(count));
    for (std::size_t at = 0; at < count; ++at) {
        best.mutable_data()[at] = refined.best[at].document;
        scores.mutable_data()[at] = refined.best[at].score;
    }
    const py::object failure = refined.failed ? py::object(as_tuple(refined.told, storage::TOLD)) : py::none();
    return py::make_tuple(best, scores, refined.refined, refined.announced, refined.fetching, refined.scoring,
                          as_tuple(refined.counted, storage::COUNTED), failure);
}

template <typename Width>
void def_refine(py::module_& module) {
    module.def("refine", &bound<Width>, py::arg("query").noconvert(), py::arg("documents").noconvert(), py::arg("estimates").noconvert(),
               py::arg("starts").noconvert(), py::arg("ends").noconvert(), py::arg("reader"), py::arg("k"), py::arg("margin"),
               py::arg("first"), py::arg("most"), py::arg("ahead"), py::arg("announced"), py::arg("centroids").noconvert(),
               py::arg("steps").noconvert(), py::arg("levels").noconvert(), py::arg("bits"), py::arg("centroid_bytes"), py::arg("unit"));
}

}  // namespace

void bind_rounds(py::module_& module) {
    def_refine<InBytes>(module);  // tried first
    def_refine<InWords>(module);
    def_refine<AsHeld>(module);
}

}  // namespace colindex
