// Short entries of a file of entries (storage/entries.py), read in one call: what a search's ids cost is system calls.
//
// 1. Open the file of offsets and the file of bytes, if they are not open yet: the way to them leads through many folders.
// 2. For each number read its bounds, and then its bytes. Both come from pages of the files, of which a thread keeps a few: files
//    never change, and a page that was read need not be asked for again.
// 3. Hand over what Python compares: each entry's check, and what it is a check of, the entry's number and its payload.
//
// Where only pages that are kept may be used, nothing is waited for, and Python's lock may stay held: letting go of it costs as much
// as ten ids do, and more where another thread takes it.
//
// Anything that is not as it should be, an entry longer than `most` included, gives nothing: Python then reads entry by
// entry and says what is wrong.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace colindex::storage {

// A file that stays open once it was asked for, unless the process has many open already: those of an index of very many
// segments must not use up what a process may have. Any number of threads may ask.
class EntryFile {
public:
    class Opened;

    explicit EntryFile(std::string path) : path_(std::move(path)) {}

    // Null if it cannot be opened.
    std::shared_ptr<const Opened> opened();

    // Null if it is not open, or another thread is opening it.
    std::shared_ptr<const Opened> kept();

private:
    std::string path_;
    std::mutex opening_;
    std::shared_ptr<const Opened> kept_;
};

struct Entry {
    uint32_t check;
    std::string numbered;  // number and payload
};

class Entries {
public:
    Entries(std::string offsets, std::string bytes) : offsets_(std::move(offsets)), bytes_(std::move(bytes)) {}

    // Of payloads of at most so many bytes.
    std::optional<std::vector<Entry>> read(const std::vector<int64_t>& numbers, int64_t most);

    // The same without a system call; nothing if not all of it is kept.
    std::optional<std::vector<Entry>> read_kept(const std::vector<int64_t>& numbers, int64_t most);

private:
    EntryFile offsets_, bytes_;
};

}  // namespace colindex::storage
