// The kernels of a build, for Python: arrays are checked by colindex/kernels/native/build.py; here they become pointers.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <new>

#include "bindings.h"
#include "build_kernels.h"
#include "instruction_set.h"
#include "trellis_tables.h"

namespace py = pybind11;

namespace colindex {
namespace {

const BuildKernels& kernels() {
#if defined(__x86_64__)
    switch (instruction_set()) {
        case InstructionSet::avx512: return build_avx512;
        case InstructionSet::avx2: return build_avx2;
        default: break;
    }
#endif
    return build_generic;
}

// Working memory on a cache line.
class Room {
  public:
    explicit Room(std::size_t bytes) : data_(::operator new(bytes, std::align_val_t{64})) {}
    ~Room() { ::operator delete(data_, std::align_val_t{64}); }
    Room(const Room&) = delete;
    Room& operator=(const Room&) = delete;
    void* data() const { return data_; }

  private:
    void* data_;
};

// Memory for one document after the other: what most need a thread keeps, for pages fresh from the system cost as much as the work.
class KeptRoom {
  public:
    explicit KeptRoom(std::size_t bytes) {
        thread_local std::unique_ptr<Room> kept;
        if (bytes > kKept) {
            own_ = std::make_unique<Room>(bytes);
        } else if (!kept) {
            kept = std::make_unique<Room>(kKept);
        }
        data_ = own_ ? own_->data() : kept->data();
    }
    void* data() const { return data_; }

  private:
    static constexpr std::size_t kKept = 4 << 20;
    std::unique_ptr<Room> own_;
    void* data_;
};

// levels: float [256]; whole: the same in whole numbers.
TrellisTables tables_of(const Array<float>& levels, const Array<std::int32_t>& whole, float step, float reach, int bits) {
    TrellisTables tables;
    tables.step = step;
    tables.reach = reach;
    fill(tables, whole.data(), bits);
    for (int state = 0; state < kStates; ++state) tables.level_squares[state] = levels.data()[state] * levels.data()[state];
    return tables;
}

void encode_residuals(const Array<float>& residuals, const Array<float>& levels, const Array<std::int32_t>& whole, float step,
                      float reach, int bits, Array<std::uint8_t>& codes, Array<float>& lengths) {
    const int dim = static_cast<int>(residuals.shape(1));
    const auto n = static_cast<std::size_t>(residuals.shape(0));
    const float* rows = residuals.data();
    std::uint8_t* out = codes.mutable_data();
    float* lengths_out = lengths.mutable_data();
    const TrellisTables tables = tables_of(levels, whole, step, reach, bits);
    py::gil_scoped_release released;
    const Room room(trellis_room(dim, bits));
    kernels().encode_residuals(rows, n, dim, tables, out, lengths_out, room.data());
}

void encode_trellis(const Array<float>& scaled, const Array<float>& levels, const Array<std::int32_t>& whole, float step,
                    float reach, int bits, Array<std::uint8_t>& codes) {
    const int dim = static_cast<int>(scaled.shape(1));
    const auto n = static_cast<std::size_t>(scaled.shape(0));
    const float* rows = scaled.data();
    std::uint8_t* out = codes.mutable_data();
    const TrellisTables tables = tables_of(levels, whole, step, reach, bits);
    py::gil_scoped_release released;
    const Room room(trellis_room(dim, bits));
    kernels().encode_trellis(rows, n, dim, tables, out, room.data());
}

void nearest(const Array<float>& vectors, const Array<std::int64_t>& rows, const Array<std::int64_t>& row_offsets,
             const Array<float>& centroids, const Array<std::int64_t>& centroid_offsets, Array<std::int32_t>& ids,
             Array<double>& scores) {
    const auto groups = static_cast<std::size_t>(row_offsets.shape(0) - 1);
    const auto dim = static_cast<std::size_t>(vectors.shape(1));
    const NearestCall call{vectors.data(),          static_cast<int>(dim), rows.data(),
                           row_offsets.data(),      centroids.data(),      centroid_offsets.data(),
                           groups,                  static_cast<int>(ids.shape(1)), ids.mutable_data(),
                           scores.mutable_data()};
    py::gil_scoped_release released;
    std::size_t largest = 0;
    for (std::size_t group = 0; group < groups; ++group) {
        const auto count = static_cast<std::size_t>(call.centroid_offsets[group + 1] - call.centroid_offsets[group]);
        if (call.row_offsets[group] < call.row_offsets[group + 1]) largest = std::max(largest, count);
    }
    largest = (largest + 15) / 16 * 16;
    const std::size_t wide = dim + 3 * largest, narrow = (dim + 7) * largest;
    const Room room(wide * sizeof(double) + narrow * sizeof(float));
    auto* doubles = static_cast<double*>(room.data());
    auto* floats = reinterpret_cast<float*>(doubles + wide);
    kernels().nearest(call, {floats, floats + dim * largest, floats + (dim + 1) * largest, doubles + 3 * largest, doubles,
                             doubles + largest, doubles + 2 * largest});
}

void add_rows(const Array<float>& vectors, const Array<std::int64_t>& rows, const Array<std::int32_t>& ids,
              Array<double>& sums) {
    const float* values = vectors.data();
    const int dim = static_cast<int>(vectors.shape(1));
    const auto n = static_cast<std::size_t>(rows.shape(0));
    double* out = sums.mutable_data();
    py::gil_scoped_release released;
    kernels().add_rows(values, dim, rows.data(), ids.data(), n, out);
}

// vectors: float16 or float32 [n, input_dim] in one piece; columns: the matrix transposed.
void project(const py::array& vectors, bool half, const Array<double>& columns, bool unit, Array<float>& projected) {
    const ProjectCall call{vectors.data(),
                           half,
                           static_cast<std::size_t>(projected.shape(0)),
                           static_cast<int>(columns.shape(1)),
                           static_cast<int>(projected.shape(1)),
                           columns.data(),
                           static_cast<std::size_t>(columns.shape(0)),
                           unit,
                           projected.mutable_data()};
    py::gil_scoped_release released;
    const Room room(project_room(call.input_dim, call.tiles) * sizeof(double));
    kernels().project(call, static_cast<double*>(room.data()));
}

void ward_labels(const Array<float>& vectors, int n_clusters, Array<std::int32_t>& labels) {
    const float* values = vectors.data();
    const int n = static_cast<int>(vectors.shape(0)), dim = static_cast<int>(vectors.shape(1));
    std::int32_t* out = labels.mutable_data();
    py::gil_scoped_release released;
    const KeptRoom room(ward_room(n, dim) * sizeof(float));
    kernels().ward_labels(values, n, dim, n_clusters, static_cast<float*>(room.data()), out);
}

}  // namespace

void bind_build(py::module_& module) {
    module.def("encode_trellis", &encode_trellis, py::arg("scaled").noconvert(), py::arg("levels").noconvert(),
               py::arg("whole").noconvert(), py::arg("step"), py::arg("reach"), py::arg("bits"), py::arg("codes").noconvert());
    module.def("encode_residuals", &encode_residuals, py::arg("residuals").noconvert(), py::arg("levels").noconvert(),
               py::arg("whole").noconvert(), py::arg("step"), py::arg("reach"), py::arg("bits"), py::arg("codes").noconvert(),
               py::arg("lengths").noconvert());
    module.def("add_rows", &add_rows, py::arg("vectors").noconvert(), py::arg("rows").noconvert(), py::arg("ids").noconvert(),
               py::arg("sums").noconvert());
    module.def("project", &project, py::arg("vectors"), py::arg("half"), py::arg("columns").noconvert(), py::arg("unit"),
               py::arg("projected").noconvert());
    module.def("ward_labels", &ward_labels, py::arg("vectors").noconvert(), py::arg("n_clusters"),
               py::arg("labels").noconvert());
    module.def("nearest", &nearest, py::arg("vectors").noconvert(), py::arg("rows").noconvert(),
               py::arg("row_offsets").noconvert(), py::arg("centroids").noconvert(), py::arg("centroid_offsets").noconvert(),
               py::arg("ids").noconvert(), py::arg("scores").noconvert());
}

}  // namespace colindex
