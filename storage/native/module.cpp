// The module `_reads`: what storage/native_fetcher.py sees. Arrays become pointers, which the fetcher keeps alive, and the
// GIL is released while anything is looked up, read or waited for.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "entries.h"
#include "fetcher.h"
#include "places.h"
#include "reader.h"

namespace py = pybind11;

namespace colindex::storage {
namespace {

template <typename T>
using Array = py::array_t<T, py::array::c_style>;  // pass as noconvert: a converted copy would be somebody else's memory

// What a capsule holds: the fetcher stays as long as it does, and refuses everything once its binding is gone.
struct Lent : Reader {
    std::shared_ptr<Fetcher> fetcher;
};

bool lent_fetch(void* of, const int64_t* starts, const int64_t* ends, int64_t count, uint8_t* answer, int64_t* counted, int64_t* told) {
    Counters counters;
    const auto failure = static_cast<Fetcher*>(of)->fetch({starts, ends, count}, answer, counters);
    const int64_t values[COUNTED] = {counters.hits,       counters.misses,        counters.reads,    counters.bytes_read,
                                     counters.prefetched, counters.prefetch_hits, counters.evictions};
    for (int at = 0; at < COUNTED; ++at) counted[at] += values[at];
    if (!failure) return true;
    const int64_t why[TOLD] = {static_cast<int64_t>(failure->kind), failure->file,     failure->offset,
                               failure->length,                     failure->expected, failure->got};
    std::copy(why, why + TOLD, told);
    return false;
}

int64_t lent_prefetch(void* of, const int64_t* starts, const int64_t* ends, int64_t count) {
    return static_cast<Fetcher*>(of)->prefetch({starts, ends, count});
}

void lent_forget(void* of, const int64_t* starts, const int64_t* ends, int64_t count) {
    static_cast<Fetcher*>(of)->forget({starts, ends, count});
}

// The fetcher, and what it points into.
class Binding {
public:
    Binding(const std::string& engine, const py::dict& table, Array<uint8_t> arena, const std::vector<Array<uint32_t>>& checksums,
            const std::vector<std::tuple<int, int64_t, int64_t, bool>>& files, int64_t frames, int64_t prefetch_limit,
            int64_t stale_fetches) {
        BlockTable state;
        const auto array = [&](const char* name, auto& pointer) {
            using T = std::remove_pointer_t<std::remove_reference_t<decltype(pointer)>>;
            const auto held = table[name].cast<py::array>();
            if (!py::isinstance<Array<T>>(held)) throw py::type_error(std::string("table: another kind of array: ") + name);
            keep_.push_back(held);
            pointer = const_cast<T*>(static_cast<const T*>(held.data()));
            return static_cast<int64_t>(held.size());
        };
        state.blocks = array("table", state.table);
        state.slots = array("block_of", state.block_of);
        array("frequency", state.frequency);
        array("small", state.small);
        array("main", state.main);
        array("ghost", state.ghost);
        array("counts", state.counts);
        std::vector<Fetcher::Segment> segments;
        int64_t first = 0;
        for (const auto& sums : checksums) {
            segments.push_back({first, sums.data()});
            first += sums.size();
            keep_.push_back(sums);
        }
        std::vector<File> opened;
        for (const auto& [descriptor, first_block, data_bytes, direct] : files)
            opened.push_back({descriptor, first_block, data_bytes, direct});
        keep_.push_back(arena);
        blocks_ = state.blocks;
        fetcher_ = std::make_shared<Fetcher>(engine, state, arena.mutable_data(), std::move(segments), std::move(opened),
                                             frames, PrefetchRule{prefetch_limit, stale_fetches});
    }

    ~Binding() {
        if (!fetcher_) return;
        const py::gil_scoped_release release;
        fetcher_->close();
    }

    // The answer, the counters, and None or the failure.
    py::tuple fetch(const Array<int64_t>& starts, const Array<int64_t>& ends) {
        const Ranges ranges = checked(starts, ends);
        int64_t size = 0;
        for (int64_t i = 0; i < ranges.count; ++i) size += ranges.ends[i] - ranges.starts[i];
        Array<uint8_t> answer(size);
        uint8_t* bytes = answer.mutable_data();
        Counters counters;
        std::optional<Failure> failure;
        {
            const py::gil_scoped_release release;
            failure = fetcher_->fetch(ranges, bytes, counters);
        }
        py::object why = py::none();
        if (failure)
            why = py::make_tuple(static_cast<int>(failure->kind), failure->file, failure->offset, failure->length,
                                 failure->expected, failure->got);
        return py::make_tuple(answer, as_tuple(counters), why);
    }

    int64_t prefetch(const Array<int64_t>& starts, const Array<int64_t>& ends) {
        const Ranges ranges = checked(starts, ends);
        if (fetcher_->needs_no_prefetch(ranges)) return 0;  // to let go of Python's lock takes longer than to find out
        const py::gil_scoped_release release;
        return fetcher_->prefetch(ranges);
    }

    void forget(const Array<int64_t>& starts, const Array<int64_t>& ends) {
        const Ranges ranges = checked(starts, ends);
        const py::gil_scoped_release release;
        fetcher_->forget(ranges);
    }

    void close() {
        {
            const py::gil_scoped_release release;
            fetcher_->close();
        }
        keep_.clear();
    }

    // Whether the state was being changed at the fork, and what was counted until then.
    py::tuple abandon() {
        Fetcher& parents = **new std::shared_ptr<Fetcher>(std::move(fetcher_));  // leaked: its threads and its reads are the parent's
        const bool changing = parents.abandon();
        return py::make_tuple(changing, as_tuple(changing ? Counters{} : parents.counters_at_fork()));
    }

    py::tuple counters() {
        Counters total;
        {
            const py::gil_scoped_release release;
            total = fetcher_->counters();
        }
        return as_tuple(total);
    }

    py::capsule reader() const {
        auto* lent = new Lent;
        lent->fetcher = fetcher_;
        static_cast<Reader&>(*lent) = {fetcher_.get(), blocks_ * BLOCK_BYTES, &lent_fetch, &lent_prefetch, &lent_forget};
        return py::capsule(static_cast<const Reader*>(lent), READER_NAME, [](PyObject* capsule) {
            delete static_cast<Lent*>(static_cast<Reader*>(PyCapsule_GetPointer(capsule, READER_NAME)));
        });
    }

    int64_t pending() {
        const py::gil_scoped_release release;
        return fetcher_->pending();
    }

    std::string engine() {
        const py::gil_scoped_release release;
        return fetcher_->engine_name();
    }

private:
    Ranges checked(const Array<int64_t>& starts, const Array<int64_t>& ends) const {
        if (starts.ndim() != 1 || ends.ndim() != 1 || starts.size() != ends.size())
            throw py::value_error("ranges: expected as many starts as ends");
        const Ranges ranges{starts.data(), ends.data(), static_cast<int64_t>(starts.size())};
        const int64_t limit = blocks_ * BLOCK_BYTES;
        for (int64_t i = 0; i < ranges.count; ++i) {
            const bool within = 0 <= ranges.starts[i] && ranges.starts[i] <= ranges.ends[i] && ranges.ends[i] <= limit;
            if (!within)
                throw py::index_error("range " + std::to_string(i) + ": expected bytes within [0, " + std::to_string(limit) +
                                      "), got [" + std::to_string(ranges.starts[i]) + ", " +
                                      std::to_string(ranges.ends[i]) + ")");
        }
        return ranges;
    }

    static py::tuple as_tuple(const Counters& counters) {
        return py::make_tuple(counters.hits, counters.misses, counters.reads, counters.bytes_read, counters.prefetched,
                              counters.prefetch_hits, counters.evictions);
    }

    std::vector<py::object> keep_;
    int64_t blocks_ = 0;
    std::shared_ptr<Fetcher> fetcher_;
};

// The places, and the arrays that they are computed from.
class PlacesBinding {
public:
    PlacesBinding(const std::vector<int64_t>& firsts, const std::vector<py::array>& offsets, const std::vector<int64_t>& bases,
                  int64_t record_bytes)
        : keep_(offsets), places_(segments(firsts, offsets, bases), record_bytes) {}

    py::tuple find(const Array<int64_t>& documents) const {
        if (documents.ndim() != 1) throw py::value_error("places: expected one row of documents");
        const auto count = static_cast<int64_t>(documents.size());
        const int64_t* numbers = documents.data();
        for (int64_t i = 0; i < count; ++i)
            if (numbers[i] < 0 || numbers[i] >= places_.documents())
                throw py::index_error("document " + std::to_string(numbers[i]) + " of " + std::to_string(places_.documents()));
        Array<int64_t> starts(count), ends(count), rows(count + 1);
        places_.find(numbers, count, starts.mutable_data(), ends.mutable_data(), rows.mutable_data());
        return py::make_tuple(starts, ends, rows);
    }

private:
    static std::vector<Places::Segment> segments(const std::vector<int64_t>& firsts, const std::vector<py::array>& offsets,
                                                 const std::vector<int64_t>& bases) {
        std::vector<Places::Segment> made;
        if (firsts.size() != offsets.size() || bases.size() != offsets.size())
            throw py::value_error("places: expected a first document, offsets and a base for each segment");
        for (size_t at = 0; at < offsets.size(); ++at) {
            const bool narrow = py::isinstance<Array<uint32_t>>(offsets[at]), wide = py::isinstance<Array<uint64_t>>(offsets[at]);
            if (!narrow && !wide) throw py::type_error("places: expected offsets in uint32 or uint64");
            const auto* bytes = offsets[at].data();
            made.push_back({firsts[at], static_cast<int64_t>(offsets[at].size()) - 1,
                            narrow ? static_cast<const uint32_t*>(bytes) : nullptr,
                            narrow ? nullptr : static_cast<const uint64_t*>(bytes), bases[at]});
        }
        return made;
    }

    std::vector<py::array> keep_;
    Places places_;
};

// The checks of the entries, and their numbers and payloads, or None where Python is to find out what is wrong.
py::object read_entries(Entries& entries, const std::vector<int64_t>& numbers, int64_t most) {
    std::optional<std::vector<Entry>> found = entries.read_kept(numbers, most);
    if (!found) {
        const py::gil_scoped_release release;
        found = entries.read(numbers, most);
    }
    if (!found) return py::none();
    py::list checks(found->size()), numbered(found->size());
    for (size_t at = 0; at < found->size(); ++at) {
        checks[at] = (*found)[at].check;
        numbered[at] = py::bytes((*found)[at].numbered);
    }
    return py::make_tuple(checks, numbered);
}

// Whether this system lets us have a ring.
bool has_ring() {
    alignas(BLOCK_BYTES) static uint8_t memory[BLOCK_BYTES];
    return make_ring(1, memory, BLOCK_BYTES) != nullptr;
}

}  // namespace
}  // namespace colindex::storage

PYBIND11_MODULE(_reads, module) {
    using colindex::storage::Binding;
    module.doc() = "Batched reads in C++; see colindex.storage.native_fetcher.";
    module.def("has_ring", &colindex::storage::has_ring, "Whether this system lets us have an io_uring.");
    module.def(
        "checksum", [](const py::bytes& block) {
            const std::string_view bytes = block;
            if (static_cast<int64_t>(bytes.size()) != colindex::storage::BLOCK_BYTES)
                throw py::value_error("block: expected 4096 bytes, got " + std::to_string(bytes.size()));
            return colindex::storage::checksum_of_block(reinterpret_cast<const uint8_t*>(bytes.data()));
        },
        py::arg("block"), "The checksum of a block.");
    py::class_<colindex::storage::Entries>(module, "Entries")
        .def(py::init<std::string, std::string>(), py::arg("offsets"), py::arg("bytes"))
        .def("read", &colindex::storage::read_entries, py::arg("numbers"), py::arg("most"),
             "Checks of entries by number, and what they are checks of; None if one payload is longer than `most` or not there.");
    py::class_<colindex::storage::PlacesBinding>(module, "Places")
        .def(py::init<const std::vector<int64_t>&, const std::vector<py::array>&, const std::vector<int64_t>&, int64_t>(),
             py::arg("firsts"), py::arg("offsets"), py::arg("bases"), py::arg("record_bytes"))
        .def("find", &colindex::storage::PlacesBinding::find, py::arg("documents"));
    py::class_<Binding>(module, "Fetcher")
        .def(py::init<const std::string&, const py::dict&, colindex::storage::Array<uint8_t>,
                      const std::vector<colindex::storage::Array<uint32_t>>&,
                      const std::vector<std::tuple<int, int64_t, int64_t, bool>>&, int64_t, int64_t, int64_t>(),
             py::arg("engine"), py::arg("table"), py::arg("arena").noconvert(), py::arg("checksums").noconvert(),
             py::arg("files"), py::arg("frames"), py::arg("prefetch_limit"), py::arg("stale_fetches"))
        .def("fetch", &Binding::fetch)
        .def("prefetch", &Binding::prefetch)
        .def("forget", &Binding::forget)
        .def("close", &Binding::close)
        .def("abandon", &Binding::abandon)
        .def("counters", &Binding::counters)
        .def_property_readonly("reader", &Binding::reader)
        .def_property_readonly("pending", &Binding::pending)
        .def_property_readonly("engine", &Binding::engine);
}
