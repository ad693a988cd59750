// Which blocks were seen already in this call? A hash table that lives as long as the call.
#pragma once

#include <cstdint>
#include <vector>

namespace colindex::storage {

class Distinct {
public:
    explicit Distinct(int64_t most) {
        int bits = 4;
        while ((int64_t{1} << bits) < 2 * most) ++bits;
        shift_ = 64 - bits;
        keys_.assign(size_t{1} << bits, -1);
        values_.resize(keys_.size());
    }

    // The value of a block: the one given now if it is new, else the one given first.
    int64_t& operator()(int64_t block, int64_t value, bool& fresh) {
        size_t place = (static_cast<uint64_t>(block) * 0x9E3779B97F4A7C15U) >> shift_;
        while (keys_[place] != block && keys_[place] >= 0) place = (place + 1) & (keys_.size() - 1);
        fresh = keys_[place] < 0;
        if (fresh) {
            keys_[place] = block;
            values_[place] = value;
        }
        return values_[place];
    }

private:
    int shift_;
    std::vector<int64_t> keys_, values_;
};

}  // namespace colindex::storage
