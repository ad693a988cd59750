// Which blocks stay in memory? S3-FIFO, step by step as in storage/eviction.py, over the very arrays of its `BlockTable`.
//
// Python owns the arrays and checks their shapes; both bodies may work on one table in turn.
#pragma once

#include <algorithm>
#include <cstdint>

namespace colindex::storage {

class BlockTable {
public:
    static constexpr uint8_t MAX_FREQUENCY = 3;
    static constexpr int32_t ABSENT = -1;

    int32_t* table = nullptr;  // [blocks] slot, ABSENT, or -(place in the ghost queue + 2)
    int32_t* block_of = nullptr;
    uint8_t* frequency = nullptr;
    int32_t* small = nullptr;
    int32_t* main = nullptr;
    int32_t* ghost = nullptr;
    int64_t* counts = nullptr;  // used, next place in the ghost queue, head and count of the small and of the main queue
    int64_t blocks = 0;
    int64_t slots = 0;

    int32_t slot(int64_t block) const { return table[block]; }

    void touch(int32_t slot) { frequency[slot] = std::min<uint8_t>(frequency[slot] + 1, MAX_FREQUENCY); }

    // A slot for a block that is not held, or ABSENT if there are no slots. Counts an eviction if one was needed.
    int32_t admit(int64_t block, int64_t& evictions) {
        if (slots == 0) return ABSENT;
        const bool remembered = table[block] < ABSENT;
        int32_t slot;
        if (counts[USED] < slots) {
            slot = static_cast<int32_t>(counts[USED]++);
        } else {
            slot = evict();
            ++evictions;
        }
        if (remembered) push(main, counts + MAIN, slot);
        else push(small, counts + SMALL, slot);
        table[block] = slot;
        block_of[slot] = static_cast<int32_t>(block);
        frequency[slot] = 0;
        return slot;
    }

private:
    enum : int { USED = 0, GHOST_NEXT = 1, SMALL = 2, MAIN = 4 };  // places in `counts`; a queue has its head and its count

    void push(int32_t* queue, int64_t* ends, int32_t value) { queue[(ends[0] + ends[1]++) % slots] = value; }

    int32_t pop(const int32_t* queue, int64_t* ends) {
        const int32_t value = queue[ends[0]];
        ends[0] = (ends[0] + 1) % slots;
        --ends[1];
        return value;
    }

    // Free one slot and return it; every slot is in use.
    int32_t evict() {
        const int64_t small_target = std::max<int64_t>(1, slots / 10);
        for (;;) {
            if (counts[SMALL + 1] >= small_target) {
                const int32_t slot = pop(small, counts + SMALL);
                if (frequency[slot] < 2) {
                    remember(block_of[slot]);
                    return slot;
                }
                frequency[slot] = 0;
                push(main, counts + MAIN, slot);
            } else {
                const int32_t slot = pop(main, counts + MAIN);
                if (frequency[slot] == 0) {
                    table[block_of[slot]] = ABSENT;
                    return slot;
                }
                --frequency[slot];
                push(main, counts + MAIN, slot);
            }
        }
    }

    // Put an evicted block in the ghost queue, over the oldest one there.
    void remember(int32_t block) {
        const int64_t place = counts[GHOST_NEXT];
        const int32_t state = static_cast<int32_t>(-(place + 2)), oldest = ghost[place];
        if (oldest >= 0 && table[oldest] == state) table[oldest] = ABSENT;
        ghost[place] = block;
        table[block] = state;
        counts[GHOST_NEXT] = (place + 1) % slots;
    }
};

}  // namespace colindex::storage
