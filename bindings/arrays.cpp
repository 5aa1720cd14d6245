#include "arrays.hpp"

#include <string>

namespace ncode::bindings {
namespace {

// No conversion: a wrong type is a mistake of the caller, not something to round.
py::array digits_from(const py::object& object, const std::string& name) {
    if (!py::isinstance<py::array>(object)) {
        throw py::type_error(name + " must be a NumPy array of uint8, not " + Py_TYPE(object.ptr())->tp_name);
    }
    const auto array = py::reinterpret_borrow<py::array>(object);
    if (!array.dtype().equal(py::dtype::of<Digit>())) {
        throw py::type_error(name + " must be a NumPy array of uint8, not of " +
                             py::str(array.dtype()).cast<std::string>());
    }
    return array;
}

std::string shape_text(const py::array& array) { return py::repr(array.attr("shape")).cast<std::string>(); }

}  // namespace

CodeArray batch_from(const py::object& codes, const char* name) {
    const py::array array = digits_from(codes, name);
    if (array.ndim() != 2) {
        throw py::value_error(std::string(name) + " must have the shape (n, positions), not " + shape_text(array));
    }
    return CodeArray(array);
}

CodeArray code_from(const py::object& code) {
    const py::array array = digits_from(code, "code");
    if (array.ndim() != 1) {
        throw py::value_error("code must have the shape (positions,), not " + shape_text(array));
    }
    return CodeArray(array);
}

Codes view(const CodeArray& codes) {
    const auto rows = codes.ndim() == 1 ? std::size_t{1} : static_cast<std::size_t>(codes.shape(0));
    return {codes.data(), rows, static_cast<std::size_t>(codes.shape(codes.ndim() - 1))};
}

CodeArray empty_codes(std::size_t rows, std::size_t length) {
    constexpr auto limit = static_cast<std::size_t>(PY_SSIZE_T_MAX);
    if (length != 0 && rows > limit / length) {
        PyErr_NoMemory();
        throw py::error_already_set();
    }
    return CodeArray({static_cast<py::ssize_t>(rows), static_cast<py::ssize_t>(length)});
}

CodesOut view_out(CodeArray& codes) {
    return {codes.mutable_data(), static_cast<std::size_t>(codes.shape(0)), static_cast<std::size_t>(codes.shape(1))};
}

py::array_t<bool> empty_mask(std::size_t rows) { return py::array_t<bool>(static_cast<py::ssize_t>(rows)); }

}  // namespace ncode::bindings
