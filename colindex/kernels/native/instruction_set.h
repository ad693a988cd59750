// Which instruction set do the kernels run with? The best that this machine has; tests and benchmarks may ask for a lesser one.
#pragma once

#include <string>
#include <vector>

namespace colindex {

enum class InstructionSet { generic, avx2, avx512 };

// The sets that this machine has, the best one last.
std::vector<std::string> instruction_sets();

// The one in use.
InstructionSet instruction_set();
std::string instruction_set_name();

// Throws std::invalid_argument if this machine does not have it.
void use_instruction_set(const std::string& name);

}  // namespace colindex
