// The bodies of a search's kernels for the instruction set in use.
#pragma once

#include "instruction_set.h"
#include "search_kernels.h"

namespace colindex {

inline const SearchKernels& kernels() {
#if defined(__x86_64__)
    if (instruction_set() == InstructionSet::avx512) return search_avx512;
    if (instruction_set() == InstructionSet::avx2) return search_avx2;
#endif
    return search_generic;
}

}  // namespace colindex
