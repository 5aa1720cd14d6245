#include "texts.hpp"

#include <string>

#include "text.hpp"

namespace ncode::bindings {
namespace {

py::str to_text(const Digit* row, std::size_t length) {
    PyObject* text = PyUnicode_New(static_cast<Py_ssize_t>(length), 127);
    if (text == nullptr) {
        throw py::error_already_set();
    }
    write_text(row, length, PyUnicode_1BYTE_DATA(text));
    return py::reinterpret_steal<py::str>(text);
}

[[noreturn]] void on_wrong_character(std::size_t number, std::size_t position, Py_UCS4 character, Digit size) {
    const auto shown = py::reinterpret_steal<py::object>(PyUnicode_FromOrdinal(static_cast<int>(character)));
    throw py::value_error("text " + std::to_string(number) + ", position " + std::to_string(position) + ": " +
                          py::repr(shown).cast<std::string>() + " is not one of '" +
                          std::string(alphabet.substr(0, size)) + "'");
}

void check_text(const py::handle& text, std::size_t number, std::size_t length) {
    if (!py::isinstance<py::str>(text)) {
        throw py::type_error("text " + std::to_string(number) + " must be a str, not " + Py_TYPE(text.ptr())->tp_name);
    }
    const auto given = static_cast<std::size_t>(PyUnicode_GET_LENGTH(text.ptr()));
    if (given != length) {
        throw py::value_error("text " + std::to_string(number) + " has " + std::to_string(given) +
                              " characters, the space has " + std::to_string(length) + " positions");
    }
}

// Python holds a text in characters of one, two or four bytes.
std::size_t read_characters(const Space& space, PyObject* text, Digit* row) {
    switch (PyUnicode_KIND(text)) {
        case PyUnicode_1BYTE_KIND:
            return read_text(space, PyUnicode_1BYTE_DATA(text), row);
        case PyUnicode_2BYTE_KIND:
            return read_text(space, PyUnicode_2BYTE_DATA(text), row);
        default:
            return read_text(space, PyUnicode_4BYTE_DATA(text), row);
    }
}

void read_checked(const Space& space, const py::handle& text, std::size_t number, Digit* row) {
    check_text(text, number, space.length());
    const std::size_t read = read_characters(space, text.ptr(), row);
    if (read < space.length()) {
        const Py_UCS4 character = PyUnicode_READ_CHAR(text.ptr(), static_cast<Py_ssize_t>(read));
        on_wrong_character(number, read, character, space.sizes()[read]);
    }
}

}  // namespace

py::list to_texts(Codes codes) {
    py::list texts(codes.rows);
    for (std::size_t i = 0; i < codes.rows; ++i) {
        texts[i] = to_text(codes.row(i), codes.length);
    }
    return texts;
}

CodeArray from_texts(const Space& space, const py::object& texts) {
    if (py::isinstance<py::str>(texts)) {
        throw py::type_error("texts must be a sequence of str, not one str");
    }
    const py::tuple items(texts);  // a copy of the references: reading a text can not change it
    auto codes = empty_codes(items.size(), space.length());
    const CodesOut out = view_out(codes);
    for (std::size_t i = 0; i < out.rows; ++i) {
        read_checked(space, items[i], i, out.row(i));
    }
    return codes;
}

}  // namespace ncode::bindings
