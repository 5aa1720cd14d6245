// What module.cpp calls: one function per area of the module.
#pragma once

#include <pybind11/pybind11.h>

namespace ncode::bindings {

void register_hash(pybind11::module_& module);
void register_space(pybind11::module_& module);
void register_subspace(pybind11::module_& module);
void register_code_set(pybind11::module_& module);
void register_canonical(pybind11::module_& module);
void register_feasible(pybind11::module_& module);

}  // namespace ncode::bindings
