// NumPy arrays <-> views of codes. Wrong types raise TypeError, wrong shapes ValueError.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include "codes.hpp"
#include "gil.hpp"

namespace ncode::bindings {

namespace py = pybind11;

using CodeArray = py::array_t<Digit, py::array::c_style>;

// A contiguous array with the digits of `codes`, copied only if its memory has another layout. (n, L)
CodeArray batch_from(const py::object& codes, const char* name = "codes");

// The same for one code. (L,)
CodeArray code_from(const py::object& code);

Codes view(const CodeArray& codes);

CodeArray empty_codes(std::size_t rows, std::size_t length);
CodesOut view_out(CodeArray& codes);

py::array_t<bool> empty_mask(std::size_t rows);

}  // namespace ncode::bindings
