// The parts of the module, and how they take arrays.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

namespace colindex {

// An array of exactly this type, rows in one piece; never a converted copy (pass as `py::arg().noconvert()`).
template <typename T>
using Array = pybind11::array_t<T, pybind11::array::c_style>;

void bind_probe(pybind11::module_& module);
void bind_search(pybind11::module_& module);
void bind_rounds(pybind11::module_& module);
void bind_build(pybind11::module_& module);

}  // namespace colindex
