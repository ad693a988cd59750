// Which blocks do byte ranges of the address space touch, and with which pieces?
#pragma once

#include <algorithm>
#include <cstdint>

#include "checksum.h"

namespace colindex::storage {

struct Ranges {
    const int64_t* starts;
    const int64_t* ends;
    int64_t count;
};

template <typename Visit>  // visit(block, first byte of the piece in it, bytes of the piece)
void each_piece(Ranges ranges, Visit visit) {
    for (int64_t i = 0; i < ranges.count; ++i) {
        for (int64_t at = ranges.starts[i]; at < ranges.ends[i];) {
            const int64_t block = at / BLOCK_BYTES, end = std::min((block + 1) * BLOCK_BYTES, ranges.ends[i]);
            visit(block, at - block * BLOCK_BYTES, end - at);
            at = end;
        }
    }
}

inline int64_t blocks_touched(Ranges ranges) {
    int64_t blocks = 0;
    for (int64_t i = 0; i < ranges.count; ++i)
        if (ranges.ends[i] > ranges.starts[i])
            blocks += (ranges.ends[i] - 1) / BLOCK_BYTES - ranges.starts[i] / BLOCK_BYTES + 1;
    return blocks;
}

}  // namespace colindex::storage
