// The methods of Space that Subspace shares: Python objects in, arrays out.
#pragma once

#include "arrays.hpp"
#include "python_integers.hpp"
#include "space.hpp"

namespace ncode::bindings {

// A contiguous copy, checked: no other thread can change it.
CodeArray valid_copy(const Space& space, const py::object& codes, const char* name);

// ValueError unless there are as many codes in both.
void require_same_rows(const CodeArray& first, const CodeArray& second);

py::list to_index(const Space& space, const py::object& codes);
CodeArray from_index(const Space& space, const py::object& indices);
CodeArray enumerate_codes(const Space& space, const py::object& start, const py::object& count);
CodeArray sample(const Space& space, const py::object& count, const py::object& seed, const py::object& start);
CodeArray random(const Space& space, const py::object& count, const py::object& seed);
CodeArray mutate_codes(const Space& space, const py::object& parents, const py::object& seed,
                       const py::object& changes);
CodeArray cross(const Space& space, const py::object& first, const py::object& second, const py::object& seed);
CodeArray neighbours_of(const Space& space, const py::object& code);

}  // namespace ncode::bindings
