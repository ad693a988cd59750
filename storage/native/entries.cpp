// See entries.h.
#include "entries.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>

namespace colindex::storage {
namespace {

constexpr int KEPT = 256;  // descriptors below this stay open: a quarter of what a process usually may have
constexpr int64_t PAGE = 2048, PAGES = 256;
constexpr int64_t OFFSET = 8, CHECK = 4, NUMBER = 4;

// As the files hold it, whatever this machine's order is.
uint64_t little_endian(const uint8_t* bytes, int64_t length) {
    uint64_t value = 0;
    for (int64_t at = length - 1; at >= 0; --at) value = value << 8 | bytes[at];
    return value;
}

void write_little_endian(uint32_t value, char* bytes) {
    for (int at = 0; at < 4; ++at) bytes[at] = static_cast<char>(value >> 8 * at);
}

struct Page {
    uint64_t file = 0;  // none
    int64_t number = 0, length = 0;
    uint8_t bytes[PAGE];
};

// Half a mebibyte of pages, each at the one place where it may be, so that neighbours never take each other's; made when
// a thread first reads an id.
Page& page_of(uint64_t file, int64_t number) {
    thread_local std::unique_ptr<Page[]> pages;
    if (!pages) pages.reset(new Page[PAGES]);
    constexpr uint64_t APART = 97;  // files that are opened one after the other begin at places far from each other
    return pages[(file * APART + static_cast<uint64_t>(number)) % PAGES];
}

std::atomic<uint64_t> files_opened{0};

}  // namespace

class EntryFile::Opened {
public:
    explicit Opened(const std::string& path) : descriptor_(open(path.c_str(), O_RDONLY | O_CLOEXEC)), name_(++files_opened) {
        struct stat known;
        if (is_open() && fstat(descriptor_, &known) == 0) size_ = static_cast<int64_t>(known.st_size);
    }
    ~Opened() {
        if (descriptor_ >= 0) close(descriptor_);
    }
    Opened(const Opened&) = delete;
    Opened& operator=(const Opened&) = delete;

    bool is_open() const { return descriptor_ >= 0; }
    bool may_stay() const { return descriptor_ < KEPT; }
    int64_t size() const { return size_; }

    // From pages that are kept alone, if `kept`.
    bool read(void* target, int64_t length, int64_t offset, bool kept) const {
        for (int64_t done = 0; done < length;) {
            const int64_t at = offset + done, within = at % PAGE;
            const Page* page = page_with(at / PAGE, kept);
            if (!page || page->length <= within) return false;
            const int64_t here = std::min(length - done, page->length - within);
            std::memcpy(static_cast<char*>(target) + done, page->bytes + within, static_cast<size_t>(here));
            done += here;
        }
        return true;
    }

private:
    // Null if nothing can be read, or may.
    const Page* page_with(int64_t number, bool kept) const {
        Page& page = page_of(name_, number);
        if (page.file == name_ && page.number == number) return &page;
        if (kept) return nullptr;
        page.file = 0;
        page.length = read_some(page.bytes, number * PAGE);
        if (page.length <= 0) return nullptr;
        page.file = name_;
        page.number = number;
        return &page;
    }

    // A page, or what there is of it.
    int64_t read_some(uint8_t* target, int64_t offset) const {
        int64_t done = 0;
        while (done < PAGE) {
            const ssize_t got = pread(descriptor_, target + done, static_cast<size_t>(PAGE - done), static_cast<off_t>(offset + done));
            if (got < 0 && errno == EINTR) continue;
            if (got < 0) return -1;
            if (got == 0) break;
            done += got;
        }
        return done;
    }

    int descriptor_;
    uint64_t name_;  // no other file that this process opens has it
    int64_t size_ = -1;
};

std::shared_ptr<const EntryFile::Opened> EntryFile::opened() {
    const std::lock_guard<std::mutex> guard(opening_);
    if (kept_) return kept_;
    auto file = std::make_shared<const Opened>(path_);
    if (!file->is_open()) return nullptr;
    if (file->may_stay()) kept_ = file;
    return file;
}

std::shared_ptr<const EntryFile::Opened> EntryFile::kept() {
    const std::unique_lock<std::mutex> guard(opening_, std::try_to_lock);
    return guard ? kept_ : nullptr;
}

namespace {

std::optional<std::vector<Entry>> read_from(const EntryFile::Opened* bounds, const EntryFile::Opened* stored,
                                            const std::vector<int64_t>& numbers, int64_t most, bool kept) {
    if (!bounds || !stored) return std::nullopt;
    const int64_t entries = bounds->size() / OFFSET - 1, size = stored->size();
    std::vector<Entry> found;
    found.reserve(numbers.size());
    for (const int64_t number : numbers) {
        uint8_t of_entry[2 * OFFSET], check[CHECK];
        if (number < 0 || number >= entries || !bounds->read(of_entry, sizeof of_entry, OFFSET * number, kept)) return std::nullopt;
        const auto start = static_cast<int64_t>(little_endian(of_entry, OFFSET));
        const auto stop = static_cast<int64_t>(little_endian(of_entry + OFFSET, OFFSET));
        if (start < 0 || start > size - CHECK || stop < start + CHECK || stop > size || stop - start - CHECK > most) return std::nullopt;
        Entry& entry = found.emplace_back(Entry{0, std::string(static_cast<size_t>(stop - start), '\0')});
        if (!stored->read(check, CHECK, start, kept) || !stored->read(entry.numbered.data() + NUMBER, stop - start - CHECK, start + CHECK, kept))
            return std::nullopt;
        entry.check = static_cast<uint32_t>(little_endian(check, CHECK));
        write_little_endian(static_cast<uint32_t>(number), entry.numbered.data());
    }
    return found;
}

}  // namespace

std::optional<std::vector<Entry>> Entries::read(const std::vector<int64_t>& numbers, int64_t most) {
    return read_from(offsets_.opened().get(), bytes_.opened().get(), numbers, most, false);
}

std::optional<std::vector<Entry>> Entries::read_kept(const std::vector<int64_t>& numbers, int64_t most) {
    return read_from(offsets_.kept().get(), bytes_.kept().get(), numbers, most, true);
}

}  // namespace colindex::storage
