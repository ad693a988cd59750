// Asks the machine once what it can do, and remembers which set was asked for.
#include "instruction_set.h"

#include <algorithm>
#include <atomic>
#include <stdexcept>

namespace colindex {
namespace {

const char* const kNames[] = {"generic", "avx2", "avx512"};

InstructionSet best() {
#if defined(__x86_64__)
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2") &&
                      __builtin_cpu_supports("f16c");
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                        __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vbmi");
    if (avx512) return InstructionSet::avx512;
    if (avx2) return InstructionSet::avx2;
#endif
    return InstructionSet::generic;
}

std::atomic<InstructionSet> in_use{best()};

}  // namespace

std::vector<std::string> instruction_sets() {
    return {kNames, kNames + static_cast<int>(best()) + 1};
}

InstructionSet instruction_set() { return in_use.load(std::memory_order_relaxed); }

std::string instruction_set_name() { return kNames[static_cast<int>(instruction_set())]; }

void use_instruction_set(const std::string& name) {
    const auto sets = instruction_sets();
    const auto found = std::find(sets.begin(), sets.end(), name);
    if (found == sets.end()) throw std::invalid_argument("this machine does not have the instruction set " + name);
    in_use = static_cast<InstructionSet>(found - sets.begin());
}

}  // namespace colindex
