// See entries.h.
#include "entries.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace colindex::storage {
namespace {

constexpr int KEPT = 256;  // descriptors below this stay open: a quarter of what a process usually may have

// As the files hold it, whatever this machine's order is.
int64_t little_endian(const uint8_t* bytes) {
    uint64_t value = 0;
    for (int at = 7; at >= 0; --at) value = value << 8 | bytes[at];
    return static_cast<int64_t>(value);
}

}  // namespace

class EntryFile::Opened {
public:
    explicit Opened(const std::string& path) : descriptor_(open(path.c_str(), O_RDONLY | O_CLOEXEC)) {}
    ~Opened() {
        if (descriptor_ >= 0) close(descriptor_);
    }
    Opened(const Opened&) = delete;
    Opened& operator=(const Opened&) = delete;

    bool is_open() const { return descriptor_ >= 0; }
    bool may_stay() const { return descriptor_ < KEPT; }

    int64_t size() const {
        struct stat known;
        return fstat(descriptor_, &known) == 0 ? static_cast<int64_t>(known.st_size) : -1;
    }

    bool read(void* target, int64_t length, int64_t offset) const {
        for (int64_t done = 0; done < length;) {
            const ssize_t got = pread(descriptor_, static_cast<char*>(target) + done, static_cast<size_t>(length - done),
                                      static_cast<off_t>(offset + done));
            if (got < 0 && errno == EINTR) continue;
            if (got <= 0) return false;
            done += got;
        }
        return true;
    }

private:
    int descriptor_;
};

std::shared_ptr<const EntryFile::Opened> EntryFile::opened() {
    const std::lock_guard<std::mutex> guard(opening_);
    if (kept_) return kept_;
    auto file = std::make_shared<const Opened>(path_);
    if (!file->is_open()) return nullptr;
    if (file->may_stay()) kept_ = file;
    return file;
}

std::optional<std::vector<std::string>> Entries::read(const std::vector<int64_t>& numbers, int64_t most) {
    constexpr int64_t OFFSET = 8;
    const auto bounds = offsets_.opened(), stored = bytes_.opened();
    if (!bounds || !stored) return std::nullopt;
    const int64_t entries = bounds->size() / OFFSET - 1, size = stored->size();
    std::vector<std::string> found;
    found.reserve(numbers.size());
    for (const int64_t number : numbers) {
        uint8_t of_entry[2 * OFFSET];
        if (number < 0 || number >= entries || !bounds->read(of_entry, sizeof of_entry, OFFSET * number)) return std::nullopt;
        const int64_t start = little_endian(of_entry), stop = little_endian(of_entry + OFFSET);
        if (start < 0 || stop < start || stop > size || stop - start > most) return std::nullopt;
        std::string& entry = found.emplace_back(static_cast<size_t>(stop - start), '\0');
        if (!stored->read(entry.data(), stop - start, start)) return std::nullopt;
    }
    return found;
}

}  // namespace colindex::storage
