// Lists of Python strings <-> codes.
#pragma once

#include "arrays.hpp"
#include "space.hpp"

namespace ncode::bindings {

// Codes must be valid in the space that they are of.
py::list to_texts(Codes codes);

// ValueError naming the text's number, the position, the character and what is allowed.
CodeArray from_texts(const Space& space, const py::object& texts);

}  // namespace ncode::bindings
