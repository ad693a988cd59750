// The module `_native`: what Python sees. Shapes and kinds are checked in the Python functions of the same names; here
// arrays become pointers, and the GIL is released while a kernel runs.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "bindings.h"
#include "instruction_set.h"

PYBIND11_MODULE(_native, module) {
    module.doc() = "The kernels in C++; see colindex.kernels.";
    module.attr("INTERFACE") = 6;  // as in kernels/chosen.py; one more whenever arguments or their layout change
    module.def("instruction_sets", &colindex::instruction_sets, "The sets that this machine has, the best one last.");
    module.def("instruction_set", &colindex::instruction_set_name, "The one in use.");
    module.def("use_instruction_set", &colindex::use_instruction_set, "Use a lesser one: for tests and benchmarks.");
    colindex::bind_probe(module);
    colindex::bind_search(module);
    colindex::bind_rounds(module);
    colindex::bind_build(module);
}
