// Short entries of a file of entries (storage/entries.py), read in one call: what a search's ids cost is system calls.
//
// 1. Open the file of offsets and the file of bytes.
// 2. For each number read its bounds, and then its bytes, check included.
//
// Anything that is not as it should be, an entry longer than `most` included, gives nothing: Python then reads entry by
// entry and says what is wrong. Checks are Python's too.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace colindex::storage {

std::optional<std::vector<std::string>> read_entries(const std::string& offsets, const std::string& bytes,
                                                     const std::vector<int64_t>& numbers, int64_t most);

}  // namespace colindex::storage
