// Probing, for Python. Array shapes are checked by colindex/kernels/native/search.py.
//
// Without cells:
// 1. Score all centroids, some query tokens at a time.
// 2. Keep the best of each token.
//
// With cells:
// 1. Score the centres of all cells, and find for each token the best cells that hold as many centroids as are to be scored.
// 2. Write down for each block of 16 centroids which tokens want it: one of their cells reaches into it.
// 3. Score block by block: one that several tokens want is loaded once.
// 4. Keep the best of each token.
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "best.h"
#include "bindings.h"
#include "chosen_search.h"
#include "packing.h"

namespace py = pybind11;

namespace colindex {
namespace {

constexpr std::size_t kScoresAtOnce = 1 << 20;  // without cells: bounds the memory for queries of any length
constexpr std::size_t kSlack = 16;

// Working memory for choosing among scores: first a short list, whose bound is cheap to find, then those of it.
struct Shortlist {
    void take(const float* of, std::size_t count, std::size_t wanted) {
        scores.resize(std::max(scores.size(), count + kSlack));
        places.resize(scores.size());
        keys.resize(scores.size());
        size = kernels().shortlist(of, count, wanted, scores.data(), places.data(), keys.data());
    }

    float reached_by(const std::int32_t* weights, std::int64_t weight) {
        return kernels().reached_by(scores.data(), weights, size, weight, keys.data());
    }

    std::size_t size = 0;
    std::vector<float> scores;
    std::vector<std::uint32_t> places;
    std::vector<std::int32_t> keys;
};

// What stands at a place: the centroid's number.
struct Numbers {
    std::uint32_t operator[](std::size_t place) const {
        return of_places ? static_cast<std::uint32_t>(of_places[place]) : static_cast<std::uint32_t>(place);
    }

    const std::int32_t* of_places;  // null: the place itself
};

// The best `kept` of a token's scores, in falling score, ties by lower number.
class Choice {
  public:
    explicit Choice(std::size_t kept) : kept_(kept) {}

    // `number_of`: of what was scored, the numbers.
    template <typename NumberOf>
    void write(float* scores, std::size_t count, NumberOf number_of, std::int32_t* ids, float* best) {
        list_.take(scores, count, kept_);
        const float bound = list_.reached_by(nullptr, static_cast<std::int64_t>(kept_));
        pairs_.resize(list_.size + 1);  // one more is written to, and not counted
        std::size_t found = 0;          // those that equal the last one may be more
        for (std::size_t at = 0; at < list_.size; ++at) {
            pairs_[found] = pair_of(list_.scores[at], number_of(list_.places[at]));
            found += list_.scores[at] >= bound;
        }
        pairs_.resize(found);
        sort_falling(pairs_, room_);
        for (std::size_t at = 0; at < kept_; ++at) {
            const Scored scored = scored_of(pairs_[at]);
            ids[at] = static_cast<std::int32_t>(scored.id);
            best[at] = scored.score;
        }
    }

  private:
    std::size_t kept_;
    Shortlist list_;
    std::vector<std::uint64_t> pairs_, room_;
};

// Query tokens as Python gives them.
struct Tokens {
    const float* values;  // [count, dim]
    int count, dim;

    // Some of them, in tiles of at most so many.
    ByteRows packed(int first, int some, int width, float beyond, int most) const {
        return ByteRows(values + static_cast<std::ptrdiff_t>(first) * dim, some, dim, width, beyond, most);
    }
};

struct Wanted {
    std::size_t kept;
    int width;
    float beyond;
};

void probe_all(const Tokens& tokens, const Wanted& wanted, const ByteCentroids& centroids, const Numbers& numbers, std::int32_t* ids,
               float* best) {
    const std::size_t room = centroids.room();
    const int together = static_cast<int>(std::clamp<std::size_t>(kScoresAtOnce / std::max<std::size_t>(room, 1), 1, kMaskTokens));
    const std::unique_ptr<float[]> scores(new float[room * static_cast<std::size_t>(std::min(together, tokens.count))]);
    Choice choice(wanted.kept);
    for (int first = 0; wanted.kept && first < tokens.count; first += together) {
        const int some = std::min(together, tokens.count - first);
        const ByteRows packed = tokens.packed(first, some, wanted.width, wanted.beyond, kernels().tile_tokens);
        kernels().score_all(packed.packed(), centroids, scores.get());
        for (int token = 0; token < some; ++token, ids += wanted.kept, best += wanted.kept)
            choice.write(scores.get() + static_cast<std::size_t>(token) * room, centroids.count,
                         [&](std::size_t place) { return numbers[place]; }, ids, best);
    }
}

// Centroids that lie near each other, side by side: cell c holds places [starts[c], starts[c] + sizes[c]).
struct Cells {
    ByteCentroids centres;
    const std::int32_t *starts, *sizes;
};

class CellProbing {
  public:
    // `scored`: the centroids to be scored for each token, at least; no more than there are.
    CellProbing(const Wanted& wanted, const ByteCentroids& centroids, const Numbers& numbers, const Cells& cells, std::size_t scored)
        : wanted_(wanted), centroids_(centroids), numbers_(numbers), cells_(cells), scored_(scored), masks_(centroids.blocks()) {}

    void probe(const Tokens& tokens, std::int32_t* ids, float* best) {
        Choice choice(wanted_.kept);
        for (int first = 0; first < tokens.count; first += kMaskTokens) {
            const int some = std::min(kMaskTokens, tokens.count - first);
            const std::size_t most = mark(tokens.packed(first, some, wanted_.width, wanted_.beyond, kernels().tile_tokens), some);
            const std::unique_ptr<float[]> scores(new float[most * kLanes]);
            const std::unique_ptr<std::uint32_t[]> blocks(new std::uint32_t[most]);
            NextBlock next[kMaskTokens];
            for (int token = 0; token < some; ++token)
                next[token] = {scores.get() + firsts_[token] * kLanes, blocks.get() + firsts_[token]};
            const ByteRows packed = tokens.packed(first, some, wanted_.width, wanted_.beyond, 1);
            kernels().score_some(packed.packed(), centroids_, masks_.data(), next);
            for (int token = 0; token < some; ++token, ids += wanted_.kept, best += wanted_.kept) {
                float* row = scores.get() + firsts_[token] * kLanes;
                const std::uint32_t* of_token = blocks.get() + firsts_[token];
                choice.write(row, static_cast<std::size_t>(next[token].scores - row), [&](std::size_t at) {
                    const std::size_t place = static_cast<std::size_t>(of_token[at / kLanes]) * kLanes + at % kLanes;
                    return place < centroids_.count ? numbers_[place] : kNoNumber;
                }, ids, best);
            }
        }
    }

  private:
    static constexpr std::uint32_t kNoNumber = 1u << 31;

    // Steps 1 and 2; `firsts_` tells how many blocks the tokens before each one want, at most, and what comes back all of them.
    std::size_t mark(const ByteRows& packed, int tokens) {
        const std::size_t room = cells_.centres.room();
        const std::unique_ptr<float[]> scores(new float[room * static_cast<std::size_t>(tokens)]);
        kernels().score_all(packed.packed(), cells_.centres, scores.get());
        std::fill(masks_.begin(), masks_.end(), 0);
        std::size_t most = 0;
        for (int token = 0; token < tokens; ++token) {
            firsts_[token] = most;
            const float bound = bound_of(scores.get() + static_cast<std::size_t>(token) * room);
            for (std::size_t at = 0; at < list_.size; ++at) {
                if (list_.scores[at] < bound || !sizes_[at]) continue;
                const std::int32_t start = cells_.starts[list_.places[at]];
                const std::int32_t first = start / kLanes, last = (start + sizes_[at] - 1) / kLanes;
                for (std::int32_t block = first; block <= last; ++block) masks_[static_cast<std::size_t>(block)] |= std::uint64_t{1} << token;
                most += static_cast<std::size_t>(last - first + 1);
            }
        }
        return most;
    }

    // The score that the best cells reach, which hold as many centroids as are to be scored; they are on the list.
    float bound_of(const float* scores) {
        const std::size_t count = cells_.centres.count;
        for (std::size_t wanted = std::max<std::size_t>(scored_ * count / centroids_.count, 1);; wanted *= 2) {
            list_.take(scores, count, std::min(wanted, count));
            sizes_.resize(list_.size);
            std::size_t held = 0;
            for (std::size_t at = 0; at < list_.size; ++at) {
                sizes_[at] = cells_.sizes[list_.places[at]];
                held += static_cast<std::size_t>(sizes_[at]);
            }
            if (held >= scored_ || wanted >= count) return list_.reached_by(sizes_.data(), static_cast<std::int64_t>(scored_));
        }
    }

    Wanted wanted_;
    ByteCentroids centroids_;
    Numbers numbers_;
    Cells cells_;
    std::size_t scored_;
    Shortlist list_;
    std::vector<std::int32_t> sizes_;
    std::vector<std::uint64_t> masks_;
    std::size_t firsts_[kMaskTokens];
};

ByteCentroids centroids_of(const Array<std::uint8_t>& values, const Array<float>& steps, const Array<float>& spreads) {
    return {values.data(), steps.data(), spreads.data(), static_cast<std::size_t>(steps.shape(0))};
}

int width_of(const Array<std::uint8_t>& values) { return static_cast<int>(values.shape(1)) * 4; }

template <typename Into>
py::tuple probed(const Array<float>& query, std::size_t kept, Into probe) {
    const Tokens tokens{query.data(), static_cast<int>(query.shape(0)), static_cast<int>(query.shape(1))};
    Array<std::int32_t> ids({static_cast<std::size_t>(tokens.count), kept});
    Array<float> best({static_cast<std::size_t>(tokens.count), kept});
    std::int32_t* id = ids.mutable_data();
    float* score = best.mutable_data();
    {
        py::gil_scoped_release released;
        probe(tokens, id, score);
    }
    return py::make_tuple(ids, best);
}

py::tuple top_centroids(const Array<float>& query, const Array<std::uint8_t>& values, const Array<float>& steps,
                        const Array<float>& spreads, const std::optional<Array<std::int32_t>>& numbers, std::size_t nprobe, float beyond) {
    const ByteCentroids centroids = centroids_of(values, steps, spreads);
    const Numbers of_places{numbers ? numbers->data() : nullptr};
    const Wanted wanted{std::min(nprobe, centroids.count), width_of(values), beyond};
    return probed(query, wanted.kept, [&](const Tokens& tokens, std::int32_t* ids, float* best) {
        probe_all(tokens, wanted, centroids, of_places, ids, best);
    });
}

py::tuple top_centroids_of_cells(const Array<float>& query, const Array<std::uint8_t>& values, const Array<float>& steps,
                                 const Array<float>& spreads, const Array<std::int32_t>& numbers,
                                 const Array<std::uint8_t>& centres, const Array<float>& centre_steps,
                                 const Array<float>& centre_spreads, const Array<std::int32_t>& starts,
                                 const Array<std::int32_t>& sizes, std::size_t scored, std::size_t nprobe, float beyond) {
    const ByteCentroids centroids = centroids_of(values, steps, spreads);
    const Cells cells{centroids_of(centres, centre_steps, centre_spreads), starts.data(), sizes.data()};
    const Numbers of_places{numbers.data()};
    const Wanted wanted{nprobe, width_of(values), beyond};
    return probed(query, nprobe, [&](const Tokens& tokens, std::int32_t* ids, float* best) {
        CellProbing(wanted, centroids, of_places, cells, scored).probe(tokens, ids, best);
    });
}

void nearest_cells(const Array<std::int8_t>& rows, const Array<std::uint8_t>& centres, const Array<std::int32_t>& squares,
                   Array<std::int32_t>& cells) {
    const auto count = static_cast<std::int64_t>(rows.shape(0));
    const int dim = static_cast<int>(rows.shape(1)), width = width_of(centres);
    const std::int8_t* row = rows.data();
    const std::uint8_t* centre = centres.data();
    const std::int32_t* square = squares.data();
    const auto n_centres = static_cast<std::size_t>(squares.shape(0));
    std::int32_t* cell = cells.mutable_data();
    py::gil_scoped_release released;
    const int together = kernels().tile_tokens;
    for (std::int64_t first = 0; first < count; first += together) {
        const int here = static_cast<int>(std::min<std::int64_t>(together, count - first));
        const ByteRows packed(row + first * dim, here, dim, width, 0, together);
        kernels().nearest_cells(packed.packed(), centre, square, n_centres, cell + first);
    }
}

}  // namespace

void bind_probe(py::module_& module) {
    module.def("top_centroids", &top_centroids, py::arg("query").noconvert(), py::arg("values").noconvert(),
               py::arg("steps").noconvert(), py::arg("spreads").noconvert(), py::arg("numbers").noconvert(),
               py::arg("nprobe"), py::arg("beyond"));
    module.def("top_centroids_of_cells", &top_centroids_of_cells, py::arg("query").noconvert(), py::arg("values").noconvert(),
               py::arg("steps").noconvert(), py::arg("spreads").noconvert(), py::arg("numbers").noconvert(),
               py::arg("centres").noconvert(), py::arg("centre_steps").noconvert(), py::arg("centre_spreads").noconvert(),
               py::arg("starts").noconvert(), py::arg("sizes").noconvert(), py::arg("scored"), py::arg("nprobe"), py::arg("beyond"));
    module.def("nearest_cells", &nearest_cells, py::arg("rows").noconvert(), py::arg("centres").noconvert(),
               py::arg("squares").noconvert(), py::arg("cells").noconvert());
}

}  // namespace colindex
